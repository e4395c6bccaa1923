"""What was proven of a training with prepared rows, kept beside them: many trainings share the rows."""

import json
import logging
from typing import Final

from pydantic import ValidationError

from lorafinetune.api.reasons import Reason
from lorafinetune.api.status import DatasetStatus, Estimate
from lorafinetune.api.types import Digest, Model
from lorafinetune.contract import keys
from lorafinetune.contract.arguments import PrepareArguments, place
from lorafinetune.contract.outcome import PrepareResult, StageError, fits
from lorafinetune_stages.prepare.output import PAGE, training_warnings
from lorafinetune_stages.store import Store
from lorafinetune_stages.store.seal import SEAL, is_sealed, seal

log = logging.getLogger(__name__)

ESTIMATES: Final = 3
"""Counts up where an estimate comes to something else, so that none is found that was made before."""
MAX_BYTES: Final = 4096


class KeptEstimate(Model):
    """The file. key: its own, so that none is taken for another."""

    key: Digest
    estimate: Estimate
    seal: Digest


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
    """What was found when a training was tried with a prepared dataset; None where it was not, and where that
    is damaged, another's or of another version: it is tried again.

    prepared: key of the dataset, which holds nothing of what only the training is shaped by.
    """
    at = f"{_proof(prepared, proof)}.json"
    try:
        data = store.read(at, MAX_BYTES)
    except StageError as problem:
        if problem.reason is not Reason.ARTIFACT_CORRUPT:
            raise
        data = b""
    found = None if data is None else _decode(data)
    if found and found.key == proof:
        return found.estimate
    if data is not None:
        log.warning("%s/%s is not as it was written here: the training is tried again", store.uri, at)
    return None


def keep_estimate(prepared: str, proof: str, estimate: Estimate, store: Store) -> None:
    """Remembers that a training was tried with a prepared dataset; anew in every run, since it shows that the
    store can still be written to, as the training will have to."""
    content = {"key": proof, "estimate": estimate.encode()}
    text = json.dumps(content | {SEAL: seal(content)}, ensure_ascii=False)
    store.write(f"{_proof(prepared, proof)}.json", text.encode())


def keep_page(
    prepared: str,
    proof: str,
    estimate: Estimate,
    arguments: PrepareArguments,
    rows: DatasetStatus,
    store: Store,
) -> None:
    """Writes the page about it, before the estimate: where that is found, the page is there."""
    from lorafinetune_stages.prepare.page import add_verdict  # imports jinja2, which what is found needs not

    with store.open(f"{place('prepared', prepared)}/{PAGE}") as stream:
        report = stream.read()
    warnings = [*training_warnings(rows, arguments.training, estimate)]
    page = add_verdict(report, estimate, arguments, warnings)
    store.write(f"{_proof(prepared, proof)}.html", page)


def point_to_page(result: PrepareResult, proof: str, store: Store) -> PrepareResult:
    """With the address of that page, where it fits the termination message."""
    if result.estimate is None:
        return result
    page = f"{store.uri}/{_proof(result.key, proof)}.html"
    longer = result.model_copy(update={"estimate": result.estimate.model_copy(update={"report": page})})
    return longer if fits(longer) else result


def _decode(data: bytes) -> KeptEstimate | None:
    try:
        return KeptEstimate.model_validate_json(data) if is_sealed(data) else None
    except ValidationError:
        return None


def _proof(prepared: str, training: str) -> str:
    return f"{place('prepared', prepared)}/proven/{training}"
