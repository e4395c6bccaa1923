"""The command `lorafinetune`."""

from lorafinetune.cli.main import main

__all__ = ["main"]
