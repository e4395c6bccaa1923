"""What must hold before any Job is created, in order: a run is told of the first violation, a file of all.

The list is the specification. What the CRD can refuse is refused there and never gets here.
"""

from collections.abc import Callable, Iterator
from typing import Final

from lorafinetune.api.reasons import Reason
from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.sources import LOCAL
from lorafinetune.api.status import LoRAFineTuneStatus
from lorafinetune.api.training import Training
from lorafinetune.contract.arguments import MAX_ARGUMENTS_BYTES
from lorafinetune.contract.chat_templates import UNKNOWN_HINT, unknown_template
from lorafinetune.contract.extra_args import packing_safe, problem, suits
from lorafinetune.contract.https import HTTPS, NOT_ALLOWED, host_of, how_to_allow
from lorafinetune.contract.outcome import StageError
from lorafinetune.core.jobs import Settings
from lorafinetune.core.steps import has_result, step

MODEL: Final = "spec.model.source"
STORAGE: Final = "spec.storage.uri"

Check = Callable[[LoRAFineTune, Settings], Iterator[StageError]]


def first_violation(resource: LoRAFineTune, settings: Settings) -> StageError | None:
    """The first thing that is wrong with the resource, or None."""
    return next(violations(resource, settings), None)


def violations(resource: LoRAFineTune, settings: Settings) -> Iterator[StageError]:
    """All that is wrong with the resource."""
    for check in CHECKS:
        yield from check(resource, settings)


def sources_are_reachable(resource: LoRAFineTune, settings: Settings) -> Iterator[StageError]:
    """`file://` names a path of the machine that runs the stages: it means something in local runs only."""
    for field, uri in _places(resource).items():
        if uri.startswith(LOCAL) and not settings.local:
            yield _invalid(f"{field}: {uri} is for local runs only", _elsewhere(field))


def https_hosts_are_allowed(resource: LoRAFineTune, settings: Settings) -> Iterator[StageError]:
    """What is in the store already stays: who takes a host off the list ends no training by it."""
    status = resource.status or LoRAFineTuneStatus()
    if has_result(status, step("download", resource, status)):
        return
    for field, uri in _places(resource).items():
        if uri.startswith(HTTPS) and not settings.https.allows(host_of(uri)):
            host = host_of(uri)
            yield _invalid(f"{field}: {uri} can't be fetched: {host} {NOT_ALLOWED}", how_to_allow(host))


def template_is_known(resource: LoRAFineTune, _: Settings) -> Iterator[StageError]:
    """A name that is written wrong; whether a right one fits the model, its files tell."""
    name = resource.spec.model.template
    if name is not None and (problem := unknown_template(name)):
        yield StageError(Reason.TEMPLATE_MISMATCH, f"spec.model.template: {problem}", UNKNOWN_HINT)


def extra_arguments_are_allowed(resource: LoRAFineTune, _: Settings) -> Iterator[StageError]:
    """Only arguments that can neither run code, nor reach another place, nor contradict a typed field."""
    for name, value in resource.spec.training.extra_args.items():
        if found := problem(name, value):
            what, hint = found
            yield _invalid(f"spec.training.extraArgs.{name}: {what}", hint)


def extra_arguments_suit_the_objective(resource: LoRAFineTune, _: Settings) -> Iterator[StageError]:
    """An argument that LLaMA-Factory would pass over is not what the person wanted."""
    objective = resource.spec.training.objective
    for name in _allowed(resource.spec.training):
        if not suits(name, objective):
            yield _invalid(
                f"spec.training.extraArgs.{name}: does not go with training.objective: {objective}",
                "Remove it, or set another objective.",
            )


def extra_arguments_suit_the_packing(resource: LoRAFineTune, _: Settings) -> Iterator[StageError]:
    """Steps of tokens are packed always: they can't be padded for an argument that needs it."""
    training = resource.spec.training
    for name in _allowed(training) if training.packing == "tokens" else ():
        if not packing_safe([name]):
            yield _invalid(
                f"spec.training.extraArgs.{name}: does not go with training.packing: tokens",
                "Remove it, or set `packing: auto`, with `batchSize` in place of `batchTokens`.",
            )


def arguments_fit(resource: LoRAFineTune, _: Settings) -> Iterator[StageError]:
    """A longer variable can make exec fail, with no word to the user."""
    size = len(resource.spec.model_dump_json(by_alias=True, exclude_none=True).encode())
    if size > MAX_ARGUMENTS_BYTES * 3 // 4:
        yield _invalid(f"spec: is {size} bytes long; 75 KiB are the limit", "Shorten the system prompts.")


CHECKS: Final[tuple[Check, ...]] = (
    sources_are_reachable,
    https_hosts_are_allowed,
    template_is_known,
    extra_arguments_are_allowed,
    extra_arguments_suit_the_objective,
    extra_arguments_suit_the_packing,
    arguments_fit,
)


def _allowed(training: Training) -> list[str]:
    """Names of the extra arguments with which nothing is wrong by themselves."""
    return [name for name, value in training.extra_args.items() if not problem(name, value)]


def _places(resource: LoRAFineTune) -> dict[str, str]:
    """Every URI of the spec, by its field."""
    spec = resource.spec
    return {
        MODEL: spec.model.source,
        STORAGE: spec.storage.uri,
        **{f"spec.datasets[{i}].source": dataset.source for i, dataset in enumerate(spec.datasets)},
        **{f"spec.export.publish[{i}].to": target.to for i, target in enumerate(spec.export.publish)},
    }


def _elsewhere(field: str) -> str:
    """What a cluster reaches, of what the field takes."""
    if field == STORAGE:
        return "Use s3://."
    if field == MODEL:
        return "Use s3://, hf:// or modelscope://."
    return "Use s3://, hf://, modelscope:// or https://."


def _invalid(message: str, hint: str) -> StageError:
    return StageError(Reason.CONFIG_INVALID, message, hint)
