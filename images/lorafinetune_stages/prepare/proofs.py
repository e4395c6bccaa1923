"""What was proven of a training with prepared rows, kept beside them: many trainings share the rows."""

from typing import Final

from pydantic import ValidationError

from lorafinetune.api.status import Estimate
from lorafinetune.contract import keys
from lorafinetune.contract.arguments import PrepareArguments, place
from lorafinetune_stages.store import Store

ESTIMATES: Final = 2
"""Counts up where an estimate comes to something else, so that none is found that was made before."""
MAX_BYTES: Final = 4096


def proof_key(arguments: PrepareArguments, training: str) -> str:
    """Of what a training was tried with. training: its key, which holds nothing of cards, nodes and disk."""
    tried = {
        "training": training,
        "gpu": arguments.gpu.encode(),
        "nodes": arguments.nodes,
        "sharding": arguments.sharding,
        "scratch": arguments.scratch,
        "estimates": ESTIMATES,
    }
    return keys.digest(tried)


def find_estimate(prepared: str, proof: str, store: Store) -> Estimate | None:
    """What was found when a training was tried with a prepared dataset; None where it was not.

    prepared: key of the dataset, which holds nothing of what only the training is shaped by.
    """
    data = store.read(_proof(prepared, proof), MAX_BYTES)
    try:
        return None if data is None else Estimate.model_validate_json(data)
    except ValidationError:
        return None


def keep_estimate(prepared: str, proof: str, estimate: Estimate, store: Store) -> None:
    """Remembers that a training was tried with a prepared dataset; anew in every run, since it shows that the
    store can still be written to, as the training will have to."""
    store.write(_proof(prepared, proof), estimate.model_dump_json(by_alias=True).encode())


def _proof(prepared: str, training: str) -> str:
    return f"{place('prepared', prepared)}/proven/{training}.json"
