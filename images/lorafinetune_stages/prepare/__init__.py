"""The prepare stage: from raw rows and a base model to a tokenised dataset that is proven good.

What is cheap comes first: the key, a hit, and every check of the data need neither torch nor
LLaMA-Factory, which take long to import; they are imported only where tokens are made.
"""

from lorafinetune_stages.prepare.stage import run

__all__ = ["run"]
