"""A stored resource → its typed form. All rules are checked only once for each generation: checking takes
many times as long as reading, the API server has checked them too, and a restart must not check thousands at
once."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from lorafinetune.api.codec import decode
from lorafinetune.api.reasons import Reason
from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.shell.projections import Object


def read(stored: Object) -> LoRAFineTune:
    """The resource. Raises InvalidResourceError for one of another version."""
    if was_found_good(stored):
        with suppress(ValueError):
            return LoRAFineTune.decode(stored)
    return decode(stored)


def was_found_good(stored: Object) -> bool:
    """Whether the status says that an operator has read this generation."""
    status: Mapping[str, Any] = stored.get("status") or {}
    observed, reason = status.get("observedGeneration"), status.get("failure", {}).get("reason")
    return bool(observed == stored["metadata"]["generation"] and reason != Reason.CONFIG_INVALID)
