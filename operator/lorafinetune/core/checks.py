"""What must hold before any Job is created, in order; the first violated check is reported.

The list is the specification. What the CRD can refuse is refused there and never gets here.
"""

from collections.abc import Callable
from typing import Final

from lorafinetune.api.reasons import Reason
from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.sources import LOCAL
from lorafinetune.api.status import LoRAFineTuneStatus
from lorafinetune.contract.arguments import MAX_ARGUMENTS_BYTES
from lorafinetune.contract.chat_templates import UNKNOWN_HINT, unknown_template
from lorafinetune.contract.extra_args import packing_safe, problem, suits
from lorafinetune.contract.https import HTTPS, NOT_ALLOWED, host_of, how_to_allow
from lorafinetune.contract.outcome import StageError
from lorafinetune.core.jobs import Settings
from lorafinetune.core.steps import has_result, step

Check = Callable[[LoRAFineTune, Settings], StageError | None]


def first_violation(resource: LoRAFineTune, settings: Settings) -> StageError | None:
    """The first check that the resource does not pass, or None."""
    return next((error for check in CHECKS if (error := check(resource, settings))), None)


def sources_are_reachable(resource: LoRAFineTune, settings: Settings) -> StageError | None:
    """`file://` names a path of the machine that runs the stages: it means something in local runs only."""
    for field, uri in _places(resource).items():
        if uri.startswith(LOCAL) and not settings.local:
            return _invalid(f"{field}: {uri} is for local runs only", "Use s3://, hf:// or modelscope://.")
    return None


def https_hosts_are_allowed(resource: LoRAFineTune, settings: Settings) -> StageError | None:
    """What is in the store already stays: who takes a host off the list ends no training by it."""
    status = resource.status or LoRAFineTuneStatus()
    if has_result(status, step("download", resource, status)):
        return None
    for field, uri in _places(resource).items():
        if uri.startswith(HTTPS) and not settings.https.allows(host_of(uri)):
            host = host_of(uri)
            return _invalid(f"{field}: {uri} can't be fetched: {host} {NOT_ALLOWED}", how_to_allow(host))
    return None


def template_is_known(resource: LoRAFineTune, _: Settings) -> StageError | None:
    """A name that is written wrong; whether a right one fits the model, its files tell."""
    name = resource.spec.model.template
    if name is None or (problem := unknown_template(name)) is None:
        return None
    return StageError(Reason.TEMPLATE_MISMATCH, f"spec.model.template: {problem}", UNKNOWN_HINT)


def extra_arguments_are_allowed(resource: LoRAFineTune, _: Settings) -> StageError | None:
    """Only arguments that can neither run code, nor reach another place, nor contradict a typed field."""
    for name, value in resource.spec.training.extra_args.items():
        if found := problem(name, value):
            what, hint = found
            return _invalid(f"spec.training.extraArgs.{name}: {what}", hint)
    return None


def extra_arguments_suit_the_objective(resource: LoRAFineTune, _: Settings) -> StageError | None:
    """An argument that LLaMA-Factory would pass over is not what the person wanted."""
    objective = resource.spec.training.objective
    for name in resource.spec.training.extra_args:
        if not suits(name, objective):
            return _invalid(
                f"spec.training.extraArgs.{name}: does not go with training.objective: {objective}",
                "Remove it, or set another objective.",
            )
    return None


def extra_arguments_suit_the_packing(resource: LoRAFineTune, _: Settings) -> StageError | None:
    """Steps of tokens are packed always: they can't be padded for an argument that needs it."""
    training = resource.spec.training
    for name in training.extra_args if training.packing == "tokens" else ():
        if not packing_safe([name]):
            return _invalid(
                f"spec.training.extraArgs.{name}: does not go with training.packing: tokens",
                "Remove it, or set `packing: auto`, with `batchSize` in place of `batchTokens`.",
            )
    return None


def arguments_fit(resource: LoRAFineTune, _: Settings) -> StageError | None:
    """A longer variable can make exec fail, with no word to the user."""
    size = len(resource.spec.model_dump_json(by_alias=True, exclude_none=True).encode())
    if size > MAX_ARGUMENTS_BYTES * 3 // 4:
        return _invalid(f"spec: is {size} bytes long; 75 KiB are the limit", "Shorten the system prompts.")
    return None


CHECKS: Final[tuple[Check, ...]] = (
    sources_are_reachable,
    https_hosts_are_allowed,
    template_is_known,
    extra_arguments_are_allowed,
    extra_arguments_suit_the_objective,
    extra_arguments_suit_the_packing,
    arguments_fit,
)


def _places(resource: LoRAFineTune) -> dict[str, str]:
    """Every URI of the spec, by its field."""
    spec = resource.spec
    return {
        "spec.model.source": spec.model.source,
        "spec.storage.uri": spec.storage.uri,
        **{f"spec.datasets[{i}].source": dataset.source for i, dataset in enumerate(spec.datasets)},
        **{f"spec.export.publish[{i}].to": target.to for i, target in enumerate(spec.export.publish)},
    }


def _invalid(message: str, hint: str) -> StageError:
    return StageError(Reason.CONFIG_INVALID, message, hint)
