"""Everything that shaped a training, so that it can be repeated bit for bit on equal hardware."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final

from lorafinetune.api.status import TrainingStatus
from lorafinetune.contract.arguments import TrainArguments
from lorafinetune.contract.keys import resolved_batch_size
from lorafinetune_stages.base import base_lineage
from lorafinetune_stages.train.inputs import TrainInputs
from lorafinetune_stages.train.plan import TrainingPlan

DISTRIBUTIONS: Final = ("torch", "transformers", "peft", "llamafactory", "accelerate", "tokenizers")
QUANTISING: Final = ("bitsandbytes",)


def lineage(
    arguments: TrainArguments,
    inputs: TrainInputs,
    config: Mapping[str, Any],
    plan: TrainingPlan,
    hardware: Mapping[str, Any],
    resumes: int,
    ended: TrainingStatus,
) -> dict[str, Any]:
    """For the manifest. config: LLaMA-Factory's arguments, without paths. ended: the training at its end."""
    rows, tokens = resolved_batch_size(arguments.training), arguments.training.batch_tokens
    return {
        "model": base_lineage(arguments.model),
        "prepared": {"key": arguments.prepared, "digest": inputs.prepared.digest},
        "config": dict(config),
        **({"batchTokens": tokens} if tokens else {"batchSize": rows}),
        "plan": plan.facts(),
        "seed": arguments.training.seed,
        "versions": {name: version(name) for name in (*DISTRIBUTIONS, *(QUANTISING if plan.nf4 else ()))},
        "hardware": dict(hardware),
        "resumes": resumes,
        **({"stoppedEarly": {"step": ended.step, "of": ended.total_steps}} if ended.stopped_early else {}),
        **({"best": {"step": ended.best_step, "evalLoss": ended.best_eval_loss}} if ended.best_step else {}),
    }
