"""What must hold before any Job is created, in order; the first violated check is reported.

The list is the specification. What the CRD can refuse is refused there and never gets here.
"""

from collections.abc import Callable
from typing import Final

from lorafinetune.api.reasons import Reason
from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.contract.arguments import MAX_ARGUMENTS_BYTES
from lorafinetune.contract.extra_args import problem
from lorafinetune.contract.outcome import StageError
from lorafinetune.core.jobs import Settings

Check = Callable[[LoRAFineTune, Settings], StageError | None]


def first_violation(resource: LoRAFineTune, settings: Settings) -> StageError | None:
    """The first check that the resource does not pass, or None."""
    return next((error for check in CHECKS if (error := check(resource, settings))), None)


def sources_are_reachable(resource: LoRAFineTune, settings: Settings) -> StageError | None:
    """`file://` names a path of the machine that runs the stages: it means something in local runs only."""
    for field, uri in _places(resource).items():
        if uri.startswith("file://") and not settings.local:
            return _invalid(f"{field}: {uri} is for local runs only", "Use s3://, hf:// or modelscope://.")
    return None


def places_are_plain(resource: LoRAFineTune, _: Settings) -> StageError | None:
    """A client may resolve `..`, and so reach another prefix or bucket."""
    for field, uri in _places(resource).items():
        if not uri.startswith("file://") and {".", ".."} & set(uri.split("/")):
            return _invalid(f"{field}: {uri} has the part . or ..", "Write the path that is meant.")
    return None


def extra_arguments_are_allowed(resource: LoRAFineTune, _: Settings) -> StageError | None:
    """Only arguments that can neither run code, nor reach another place, nor contradict a typed field."""
    for name, value in resource.spec.training.extra_args.items():
        if found := problem(name, value):
            what, hint = found
            return _invalid(f"spec.training.extraArgs.{name}: {what}", hint)
    return None


def one_gpu_at_most(resource: LoRAFineTune, _: Settings) -> StageError | None:
    """Training on several GPUs comes in a later version."""
    count = resource.spec.resources.train.gpu.count
    if count > 1:
        return _invalid(f"spec.resources.train.gpu.count: {count} GPUs are not supported yet", "Set it to 1.")
    return None


def arguments_fit(resource: LoRAFineTune, _: Settings) -> StageError | None:
    """A longer variable can make exec fail, with no word to the user."""
    size = len(resource.spec.model_dump_json(by_alias=True, exclude_none=True).encode())
    if size > MAX_ARGUMENTS_BYTES * 3 // 4:
        return _invalid(f"spec: is {size} bytes long; 75 KiB are the limit", "Shorten the system prompts.")
    return None


CHECKS: Final[tuple[Check, ...]] = (
    sources_are_reachable,
    places_are_plain,
    extra_arguments_are_allowed,
    one_gpu_at_most,
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
