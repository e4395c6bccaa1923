"""The command `lorafinetune` as tests call it: in this process, as the shell would start it."""

import sys
from collections.abc import Callable

import pytest

from lorafinetune.cli import completion
from lorafinetune.cli.program import main

Command = Callable[..., tuple[int, str, str]]
"""Arguments → exit code, standard output, standard error."""


def commander(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lorafinetune", *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            main()
        captured = capsys.readouterr()
        return int(exited.value.code or 0), captured.out, captured.err

    return call


def completer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[str]]:
    """What kubectl is offered after some words."""
    for name in ("_LORAFINETUNE_COMPLETE", "COMP_WORDS", "COMP_CWORD"):
        monkeypatch.setenv(name, "")

    def call(*words: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["kubectl_complete-finetune", *words])
        with pytest.raises(SystemExit):
            completion.main()
        return capsys.readouterr().out.split()

    return call
