"""The download stage: model and datasets from their sources into the store.

All revisions are resolved and all listings checked before the first byte is copied. What the store has
complete is not copied again. No torch, no transformers: the stage starts within a second, and what it
fetches is never loaded.
"""

from lorafinetune_stages.download.stage import run

__all__ = ["run"]
