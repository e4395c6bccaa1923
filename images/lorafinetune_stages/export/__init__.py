"""The export stage: the adapter merged into its base model, and copies of it where a person wants them.

The merge streams: it holds one shard in memory, whatever the size of the model.
"""

from lorafinetune_stages.export.stage import run

__all__ = ["run"]
