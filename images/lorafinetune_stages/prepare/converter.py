"""A row as it is read, made the conversation that is learned from."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from lorafinetune.api.training import Objective
from lorafinetune_stages.prepare.cleaning import Cleaner
from lorafinetune_stages.prepare.conversation import Conversation
from lorafinetune_stages.prepare.findings import Kind, RowError
from lorafinetune_stages.prepare.formats import Reader
from lorafinetune_stages.prepare.preference import check_pair
from lorafinetune_stages.prepare.texts import Texts, require_text


@dataclass(frozen=True)
class Converter:
    """Reads rows of one file, cleans their answers, and checks what is left of them."""

    reader: Reader
    cleaner: Cleaner
    texts: Texts
    objective: Objective

    def convert(self, row: Any) -> Conversation:
        """Raises RowError."""
        if isinstance(row, RowError):
            raise row
        found = self.reader.convert(row, self.texts)
        cleaned = self.cleaner.clean(found)
        if cleaned is found:
            return found
        kind = Kind.EMPTY_TEXT if self.objective == "pt" else Kind.EMPTY_ANSWER
        for index, turn in enumerate(cleaned.turns):
            if turn.role == "assistant":
                field = self._named(index, len(cleaned.turns))
                require_text(turn.content, kind, field, "nothing is left after cleaning")
                self.texts.text(turn.content, field)  # what is taken out may leave a special token behind
        if self.objective == "dpo":
            check_pair(cleaned, "after cleaning")
        return cleaned

    def used(self, rows: Iterable[Any], limit: int | None) -> Iterator[Any]:
        """Rows up to as many good ones as are used."""
        good = 0
        for row in rows:
            yield row
            good += limit is not None and self._is_good(row)
            if good == limit:
                return

    def _is_good(self, row: Any) -> bool:
        try:
            self.convert(row)
        except RowError:
            return False
        return True

    def _named(self, index: int, turns: int) -> str:
        """An answer that was cleaned, for a message. index: its turn's."""
        if self.objective == "pt":
            return "the text"
        rejected = self.objective == "dpo" and index == turns - 1
        return "the rejected answer" if rejected else f"answer {index // 2 + 1}"
