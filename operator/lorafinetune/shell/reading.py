"""A stored resource → its typed form. All rules are checked once a generation: that takes ten times as long
as reading, and the API server has checked them too.
"""

from lorafinetune.api.codec import decode
from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.shell.index import Key, key_of
from lorafinetune.shell.trimming import Object


class Reader:
    """Remembers which generation of a resource was found good."""

    def __init__(self) -> None:
        self._good: dict[Key, tuple[str, int]] = {}

    def read(self, stored: Object) -> LoRAFineTune:
        """The resource. Raises InvalidResourceError for one of another version."""
        key, metadata = key_of(stored), stored["metadata"]
        version = (metadata["uid"], metadata["generation"])
        if self._good.get(key) == version:
            try:
                return LoRAFineTune.decode(stored)
            except ValueError:
                self.forget(key)
        resource = decode(stored)
        self._good[key] = version
        return resource

    def forget(self, key: Key) -> None:
        self._good.pop(key, None)
