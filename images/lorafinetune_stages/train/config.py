"""LLaMA-Factory's arguments for this machine: those that the operator rendered, and ours on top."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from lorafinetune.contract.arguments import TrainArguments
from lorafinetune.contract.keys import resolved_batch_size
from lorafinetune_stages.train.plan import TrainingPlan

OURS: Final[dict[str, Any]] = {
    "dataset": "prepared",
    "disable_tqdm": True,
    "eval_strategy": "no",
    "logging_nan_inf_filter": False,
    "logging_steps": 1,
    "overwrite_output_dir": True,
    "plot_loss": False,
    "push_to_hub": False,
    "report_to": "none",
    "save_strategy": "no",
    "trust_remote_code": False,
}
"""The callback logs, evaluates, draws and saves. The dataset's name is a placeholder: `tokenized_path`
counts, and the parser insists on one. A loss that is no number is shown, so that it can be refused."""


def portable(config: Mapping[str, Any], template: str) -> dict[str, Any]:
    """What shaped the training, for its lineage: no path and nothing of the machine."""
    return {**config, "template": template}


def local(
    portable_config: Mapping[str, Any],
    plan: TrainingPlan,
    arguments: TrainArguments,
    ranks: int,
    model: Path,
    dataset: Path,
    output: Path,
    resume_from: Path | None,
) -> dict[str, Any]:
    """The arguments for `run_exp`. model, dataset, output, resume_from: directories in the scratch.

    The trainer of each of several ranks gets whole steps; one of tokens is one pack."""
    whole = (resolved_batch_size(arguments.training) or 1, 1)
    rows, passes = whole if ranks > 1 else (plan.fit.micro_batch, plan.fit.accumulation)
    return {
        **portable_config,
        **OURS,
        "model_name_or_path": str(model),
        "tokenized_path": str(dataset),
        "output_dir": str(output),
        "resume_from_checkpoint": str(resume_from) if resume_from else None,
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": passes,
        "disable_gradient_checkpointing": not plan.fit.gradient_checkpointing,
        "use_cpu": arguments.gpus == 0,
    }
