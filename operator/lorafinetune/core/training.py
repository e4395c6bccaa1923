"""From the spec to LLaMA-Factory's arguments.

What depends on the machine (paths, device, micro-batch, gradient checkpointing) is added by the train
stage at its start: it shapes no result, so it is not here.
"""

from typing import Any, Final

from lorafinetune.api.spec import LoRAFineTuneSpec
from lorafinetune.api.training import Training
from lorafinetune.contract.extra_args import EXTRA_ARGUMENTS
from lorafinetune.contract.keys import resolved_dpo, resolved_precision

Config = dict[str, Any]

FIXED: Final[Config] = {
    "do_train": True,
    "finetuning_type": "lora",
    "trust_remote_code": False,
    "save_strategy": "no",
    "report_to": "none",
    "plot_loss": True,
    "include_num_input_tokens_seen": "non_padding",
}
"""The same for every run. Checkpoints are ours (`save_strategy: no`), nothing is reported outside."""


def render(spec: LoRAFineTuneSpec) -> Config:
    """LLaMA-Factory's arguments, in a stable order. Extra arguments must have passed the checks."""
    training = spec.training
    return {
        "stage": training.objective,
        **FIXED,
        **_preference(training),
        **({"template": spec.model.template} if spec.model.template else {}),
        **_lora(training),
        **_precision(training),
        **_quantization(training),
        **_data(training),
        **_schedule(training),
        **_evaluation(training),
        "seed": training.seed,
        "logging_steps": 1,
        **{name: EXTRA_ARGUMENTS[name].parse(value) for name, value in training.extra_args.items()},
    }


def _preference(training: Training) -> Config:
    dpo = resolved_dpo(training)
    return {"pref_loss": "sigmoid", "pref_beta": float(dpo.beta)} if dpo else {}


def _lora(training: Training) -> Config:
    lora = training.lora
    return {
        "lora_rank": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": float(lora.dropout),
        "lora_target": ",".join(lora.targets),
        "use_rslora": lora.variant == "rslora",
        "use_dora": lora.variant == "dora",
    }


def _precision(training: Training) -> Config:
    precision = resolved_precision(training.precision)
    return {"bf16": precision in ("bf16", "fp8"), "fp16": precision == "fp16"}


def _quantization(training: Training) -> Config:
    if training.quantization == "none":
        return {}
    return {"quantization_bit": 4, "quantization_type": training.quantization, "double_quantization": True}


def _data(training: Training) -> Config:
    return {
        "cutoff_len": training.cutoff_length,
        "mask_history": training.learn_from == "lastTurn",
        "train_on_prompt": training.train_on_prompt,
    }


def _schedule(training: Training) -> Config:
    length = (
        {"max_steps": training.max_steps}
        if training.max_steps
        else {"num_train_epochs": float(training.epochs or "0")}
    )
    return {
        **length,
        "learning_rate": float(training.learning_rate),
        "lr_scheduler_type": training.scheduler,
        "warmup_steps": float(training.warmup_ratio),
        "weight_decay": float(training.weight_decay),
        "max_grad_norm": float(training.max_grad_norm),
    }


def _evaluation(training: Training) -> Config:
    if training.evaluation is None:
        return {"eval_strategy": "no"}
    return {
        "eval_strategy": "steps",
        "eval_steps": training.evaluation.every_steps,
        "per_device_eval_batch_size": 1,
    }
