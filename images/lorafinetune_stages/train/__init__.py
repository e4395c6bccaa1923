"""The train stage: a LoRA adapter from a base model and a prepared dataset.

LLaMA-Factory trains in this process; what is ours is around it: inputs from the store and verified,
checkpoints to the store and back, and an adapter that says where it came from.
"""

from lorafinetune_stages.train.stage import run

__all__ = ["run"]
