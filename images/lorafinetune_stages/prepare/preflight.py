"""What the training will need of LLaMA-Factory and of the model, tried here before a GPU is asked for.

Importing this module imports torch, transformers and LLaMA-Factory, which takes long.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from llamafactory.hparams import get_train_args
from llamafactory.model import load_tokenizer
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from lorafinetune.api.reasons import Reason
from lorafinetune.api.training import Lora, Training
from lorafinetune.contract.arguments import PrepareArguments
from lorafinetune.contract.keys import resolved_packing
from lorafinetune.contract.memory import MemorySettings, ModelShape
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.prepare.inputs import PrepareInputs
from lorafinetune_stages.prepare.recommendations import SettingsOf
from lorafinetune_stages.prepare.weights import check_weights, read_shapes
from lorafinetune_stages.shape import ALL_LINEAR, adaptable, build, fixed, measure
from lorafinetune_stages.store import Advance, Store
from lorafinetune_stages.train.optimizations import can_pack, check_packing, compiles

SHOWN_LAYERS: Final = 16


@dataclass(frozen=True)
class Toolkit:
    """LLaMA-Factory's parsed arguments, and the tokenizer as its training will load it."""

    data_args: Any
    tokenizer: Any
    processor: Any


@dataclass(frozen=True)
class Proof:
    """What was loaded to try a training, the sizes of its model, and what else counts for the memory of a
    training on it."""

    toolkit: Toolkit
    shape: ModelShape
    settings_of: SettingsOf


def prove(
    arguments: PrepareArguments, inputs: PrepareInputs, store: Store, model: Path, advance: Advance
) -> Proof:
    """model: directory of the model's small files. Raises StageError where a training can't begin."""
    training = arguments.training
    toolkit = load_toolkit(arguments.config, inputs.template, model, training)
    advance(1)
    check_quantization(training, inputs.model.config)
    network = check_architecture(inputs.model.config, model, training.lora)
    check_packing(training, network.config.get_text_config())
    advance(1)
    check_weights(network, read_shapes(store, inputs.model))
    advance(1)
    return Proof(toolkit, measure(network, training.lora), partial(_settings, network))


def load_toolkit(config: Mapping[str, Any], template: str, model: Path, training: Training) -> Toolkit:
    """config: LLaMA-Factory's arguments as the operator rendered them. model: directory of its files.

    Raises StageError where LLaMA-Factory refuses the arguments, or the tokenizer can't be loaded.
    """
    arguments = _complete(config, template, model, training)
    try:
        model_args, data_args, *_ = get_train_args(arguments)
    except (ValueError, TypeError, ImportError) as problem:
        raise StageError(
            Reason.CONFIG_INVALID, f"training: LLaMA-Factory refuses its arguments: {str(problem)[:600]}"
        ) from problem
    try:
        loaded = load_tokenizer(model_args)
    except Exception as problem:
        why = str(problem.__cause__ or problem)[:600]
        raise StageError(
            Reason.MODEL_UNSUPPORTED, f"model.source: its tokenizer can't be loaded: {why}"
        ) from problem
    return Toolkit(data_args, loaded["tokenizer"], loaded["processor"])


def _complete(config: Mapping[str, Any], template: str, model: Path, training: Training) -> dict[str, Any]:
    """The arguments with what the train stage adds, as far as the parser looks at it."""
    held_out = {"val_size": 0.1} if training.evaluation else {}
    return {
        **config,
        **held_out,
        "template": template,
        "model_name_or_path": str(model),
        "dataset": "prepared",
        "output_dir": str(model.parent / "output"),
        "use_cpu": True,  # the parser refuses bf16 where it sees no card that can do it
    }


def _settings(network: Any, training: Training) -> MemorySettings:
    """As the train stage will choose them where it finds a card and a compiler."""
    config = network.config.get_text_config()
    packed = resolved_packing(training) != "none" and can_pack(config, training.cutoff_length)
    compiled = compiles(training.lora.variant, training.quantization) and training.precision != "fp32"
    return MemorySettings.of(training, packed=packed, compiled=packed and compiled)


def check_quantization(training: Training, config: Mapping[str, Any]) -> None:
    """Raises StageError(ConfigInvalid) where a base is to be quantised that is so already."""
    if training.quantization != "none" and config.get("quantization_config"):
        raise StageError(
            Reason.CONFIG_INVALID,
            f"training.quantization: {training.quantization}: the base model is quantised already",
            "Leave `spec.training.quantization` out, or start from the model that is not quantised.",
        )


def check_architecture(config: Mapping[str, Any], model: Path, lora: Lora) -> Any:
    """Builds the model without its weights.

    Raises StageError(ModelUnsupported), or StageError(ConfigInvalid) for a target that is not there.
    """
    _check_supported(config)
    network = build(model)
    check_targets(lora.targets, adaptable(network), fixed(network))
    return network


def check_targets(targets: Iterable[str], layers: Iterable[str], untuned: Mapping[str, str]) -> None:
    """layers: full names of all layers that can get an adapter. A target is the end of such a name.
    untuned: layers that can get none, by their names' ends, and what they are.

    Raises StageError(ConfigInvalid) for a target that is none.
    """
    dotted = [f".{layer}" for layer in layers]
    names = sorted({layer.rpartition(".")[2] for layer in dotted} - {""})
    for index, target in enumerate(targets):
        if target == ALL_LINEAR or any(layer.endswith(f".{target}") for layer in dotted):
            continue
        field = f"training.lora.targets[{index}]"
        if target in untuned:
            raise StageError(
                Reason.CONFIG_INVALID, f"{field}: {target} is {untuned[target]}, which can't be tuned"
            )
        close = difflib.get_close_matches(target, names, n=1)
        meant = f": did you mean {close[0]}?" if close else ""
        raise StageError(
            Reason.CONFIG_INVALID,
            f"{field}: the model has no layer {target!r}{meant} (it has {', '.join(names[:SHOWN_LAYERS])})",
        )


def _check_supported(config: Mapping[str, Any]) -> None:
    model_type = config.get("model_type")
    if model_type not in CONFIG_MAPPING:
        what = f"transformers {version('transformers')} does not know"
    elif model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        what = "is no causal language model"
    else:
        return
    raise StageError(Reason.MODEL_UNSUPPORTED, f"model.source: model_type {str(model_type)[:64]!r} {what}")
