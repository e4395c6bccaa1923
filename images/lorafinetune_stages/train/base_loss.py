"""The base's loss on held-out rows, kept in the store. It is the same for every training that is compared
with the same base on the same rows, so it is measured once."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, ValidationError

from lorafinetune.api.problem import first_fault
from lorafinetune.api.reasons import Reason
from lorafinetune.api.types import Model
from lorafinetune.contract import keys
from lorafinetune.contract.arguments import TrainArguments, place
from lorafinetune.contract.outcome import StageError
from lorafinetune.contract.rowlosses import RowLosses
from lorafinetune_stages.base import base_lineage
from lorafinetune_stages.store import Store
from lorafinetune_stages.store.manifest import commit_manifest, files_digest, read_manifest, withdraw_manifest
from lorafinetune_stages.train.inputs import TrainInputs

log = logging.getLogger(__name__)


class MeasuredBaseLoss(Model):
    """What the manifest keeps."""

    eval_loss: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    losses: RowLosses


@dataclass(frozen=True)
class BaseLoss:
    """One measurement in the store: all of it is in its manifest. lineage: what it was measured with."""

    store: Store
    key: str
    lineage: Mapping[str, Any]

    @classmethod
    def of(cls, arguments: TrainArguments, inputs: TrainInputs, store: Store) -> "BaseLoss":
        rows = files_digest(inputs.held_out)
        precision = keys.resolved_precision(arguments.training.precision)
        key = keys.evaluation_key(arguments.model.digest, rows, precision)
        lineage = {"model": base_lineage(arguments.model), "rows": rows, "precision": precision}
        return cls(store, key, lineage)

    def find(self) -> RowLosses | None:
        """None where it was not measured yet. What can't be read, or does not have the single rows as it is
        older than them, is removed."""
        try:
            manifest = read_manifest(self.store, self._place)
            return None if manifest is None else MeasuredBaseLoss.decode(manifest.result or {}).losses
        except StageError as problem:
            if problem.reason is not Reason.ARTIFACT_CORRUPT:
                raise
            why = problem.message
        except ValidationError as problem:
            why = ": ".join((f"{self.store.uri}/{self._place}", *first_fault(problem)))
        log.warning("the base is evaluated again: %s", why)
        withdraw_manifest(self.store, self._place)
        return None

    def keep(self, losses: RowLosses) -> None:
        """Another training may have been first: then what it measured stays."""
        result = MeasuredBaseLoss(eval_loss=losses.loss, losses=losses).encode()
        commit_manifest(self.store, self._place, "evaluations", self.key, (), self.lineage, result)

    @property
    def _place(self) -> str:
        return place("evaluations", self.key)
