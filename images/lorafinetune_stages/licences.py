"""What the licence of a base model asks of the name of a model that is made from it.

A repository's name can't be taken back once others know it, so a name that breaks a rule we know is refused
before anything is trained. A licence is recognised by what the base's card says of it, in the hubs' own
words, or by the title in its text. Nothing is refused for a licence that is not in this module.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from lorafinetune.api.exports import Publish
from lorafinetune.api.reasons import Reason
from lorafinetune.api.sources import HUBS
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.download.selection import is_licence_file
from lorafinetune_stages.store import Store
from lorafinetune_stages.store.manifest import Manifest

README: Final = "README.md"
FRONT_MATTER: Final = re.compile(rb"---\s*\n(.{0,65536}?)\n---\s*(\n|$)", re.DOTALL)
FIELDS: Final = ("license", "license_name", "license_link")
MAX_FIELD_LENGTH: Final = 256
MAX_CARD_BYTES: Final = 2**20
TITLE_BYTES: Final = 4096
"""From the start of a licence's text: further on others may be spoken of."""
SEPARATORS: Final = re.compile(r"[-_. ]")


@dataclass(frozen=True)
class NamingRule:
    """names: of the licence, as cards have them. title: pattern of how its text begins. prefix: with which a
    name must begin. asks: the licence's words."""

    names: frozenset[str]
    title: re.Pattern[str]
    prefix: str
    asks: str

    def allows(self, name: str) -> bool:
        """Whatever the case and what stands between the words: a repository's name has no blanks."""
        return _plain(name).startswith(_plain(self.prefix))

    def proposal(self, name: str) -> str:
        return f"{self.prefix.replace(' ', '-')}-{name}"


RULES: Final = (
    NamingRule(
        frozenset({"llama3"}),
        re.compile(r"llama 3 community license", re.IGNORECASE),
        "Llama 3",
        "you shall also include “Llama 3” at the beginning of any such AI model name",
    ),
    NamingRule(
        frozenset({"llama3.1", "llama3.2", "llama3.3", "llama4"}),
        re.compile(r"llama (3\.[1-3]|4) community license", re.IGNORECASE),
        "Llama",
        "you shall also include “Llama” at the beginning of any such AI model name",
    ),
    NamingRule(
        frozenset({"glm-4", "glm-4-9b"}),
        re.compile(r"the glm-4\S* license", re.IGNORECASE),
        "glm-4",
        "a model that is made or improved with glm-4, and distributed, has a name that begins with “glm-4”",
    ),
)


def check_names(store: Store, place: str, model: Manifest, publish: Sequence[Publish]) -> None:
    """Raises StageError(ConfigInvalid) for a hub's repository whose name breaks the licence of a model, be it
    private: it may become public by that name. place: of the model's files, or of what was made from it."""
    targets = [(index, wanted.to) for index, wanted in enumerate(publish) if _is_on_hub(wanted.to)]
    if not targets:
        return
    for rule in _rules(store, place, [file.path for file in model.files]):
        for index, to in targets:
            start, _, name = to.rpartition("/")
            if not rule.allows(name):
                field, asked = f"export.publish[{index}].to", f"begins with {rule.prefix!r}: {rule.asks}"
                raise StageError(
                    Reason.CONFIG_INVALID,
                    f"{field}: {to}: the base model's licence asks for a name that {asked}",
                    f"Set `spec.{field}` to `{start}/{rule.proposal(name)}`, for example.",
                )


def licence_fields(card: bytes) -> dict[str, str]:
    """What a card's metadata say of the licence, by the hubs' names: `license` and, for one of its own,
    `license_name` and `license_link`. A card may hold anything."""
    found = FRONT_MATTER.match(card)
    try:
        fields = yaml.safe_load(found[1]) if found else {}
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    if not isinstance(fields, dict):
        return {}
    return {name: fields[name] for name in FIELDS if _is_line(fields.get(name))}


def _is_line(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and 0 < len(value) <= MAX_FIELD_LENGTH


def _rules(store: Store, place: str, files: Iterable[str]) -> Iterator[NamingRule]:
    there = set(files)
    fields = licence_fields(_start(store, f"{place}/{README}", MAX_CARD_BYTES)) if README in there else {}
    texts = [
        _start(store, f"{place}/{path}", TITLE_BYTES).decode(errors="replace")
        for path in sorted(filter(is_licence_file, there))
    ]
    for rule in RULES:
        if _is_named(rule, fields) or any(rule.title.search(" ".join(text.split())) for text in texts):
            yield rule


def _is_named(rule: NamingRule, fields: Mapping[str, Any]) -> bool:
    named = {fields.get("license", "").casefold(), fields.get("license_name", "").casefold()}
    return not rule.names.isdisjoint(named)


def _start(store: Store, key: str, size: int) -> bytes:
    with store.open(key) as file:
        return file.read(size)


def _is_on_hub(target: str) -> bool:
    return target.startswith(HUBS)


def _plain(name: str) -> str:
    return SEPARATORS.sub("", name).casefold()
