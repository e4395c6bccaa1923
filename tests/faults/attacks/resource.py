"""Resources that somebody applies who may only edit LoRAFineTunes, and would have more. They are tried at
both doors: our own decoder, and the API server."""

from typing import Any, Final

from faults.attacks.written import Written, written


class Applied(Written):
    """changes: what is laid over a good spec. refused: the field that is named."""

    changes: dict[str, Any]


REFUSED: Final = written("resources", Applied)
