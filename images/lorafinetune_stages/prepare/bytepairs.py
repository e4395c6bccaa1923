"""Texts into tokens by tiktoken, where it is shown that the model's own tokenizer makes the same of them.

Three things are shown: the merges (see bpe_ranks.py), that added tokens are found in the same places, and
that a text is first split by one of the patterns for which a test tries every character that this Python
knows. Everything else is left to the tokenizer itself.
"""

import re
import sys
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise, permutations
from typing import Any, Final

import numpy as np
import orjson
from tiktoken import Encoding

from lorafinetune_stages.prepare.bpe_ranks import Ranked, rank_results

SEPARATOR: Final = "\ufffe"
"""Between texts that are encoded in one go. A noncharacter: no text that is encoded here has it."""
CONTRACTIONS: Final = r"'s|'t|'re|'ve|'m|'ll|'d"
GPT2: Final = rf"{CONTRACTIONS}| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|\s+(?!\S)|\s+"
GPT2_DIGITS: Final = rf"\p{{N}}|{CONTRACTIONS}| ?\p{{L}}+| ?[^\s\p{{L}}\p{{N}}]+|\s+(?![^\s\p{{N}}])|\s+"
"""As GPT2 on what is left of a text after every digit was split off."""
ONE_DIGIT: Final = (
    rf"(?i:{CONTRACTIONS})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
THREE_DIGITS: Final = ONE_DIGIT.replace(r"\p{N}|", r"\p{N}{1,3}|")


def _byte_level(splits: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "use_regex": splits}


def _split(pattern: str) -> list[dict[str, Any]]:
    isolated = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return [isolated, _byte_level(False)]


PATTERNS: Final[Sequence[tuple[Any, str]]] = (
    ([_byte_level(True)], GPT2),
    ([{"type": "Digits", "individual_digits": True}, _byte_level(True)], GPT2_DIGITS),
    (_split(ONE_DIGIT), ONE_DIGIT),
    (_split(THREE_DIGITS), THREE_DIGITS),
)
"""How a tokenizer splits a text before it merges, and the pattern that splits it the same way."""
NFC: Final = {"type": "NFC"}
PRINTABLE: Final = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
SHIFTED: Final = tuple(byte for byte in range(256) if byte not in PRINTABLE)
ALPHABET: Final = {byte: byte for byte in PRINTABLE} | {256 + at: byte for at, byte in enumerate(SHIFTED)}
"""Byte by code point of the character that stands for it in the vocabulary of a byte-level tokenizer."""
BYTES: Final = np.array([ALPHABET.get(point, 0) for point in range(256 + len(SHIFTED))], np.uint8)
CONTINUATION: Final = range(0x80, 0xC0)
UNASSIGNED: Final = frozenset(["Cn", "Co", "Cs"])
BLOCK: Final = 64
"""Code points that are looked up at once: what is printable is assigned."""
ASSIGNED_PLANES: Final = 0x32000
"""Behind it are a few rare ideographs, and tags."""


@dataclass(frozen=True)
class BytePairs:
    """Makes the tokens that `tokenizers` makes, several times as fast; many threads may use it at once.

    ids: tokens by the ranks that the encoding makes. shown: by code point, whether all of this holds for it.
    late: finds tokens that merge otherwise (see Ranked). added: finds the tokens at which a text is split.
    """

    encoding: Encoding
    ids: Any
    shown: Any
    late: re.Pattern[str] | None
    added: re.Pattern[str] | None
    composed: bool

    def covers(self, text: str) -> bool:
        """Whether this text is one of those for which the tokens are shown to be the same."""
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        return bool(
            self.shown[points].all()
            and not (self.late and self.late.search(text))
            and (not self.composed or unicodedata.is_normalized("NFC", text))
        )

    def encode(self, texts: Sequence[str]) -> tuple[Any, Any]:
        """The tokens of all texts in a row, as int32, and how many each text has. Every text is covered."""
        ranks = self.encoding.encode_to_numpy(
            SEPARATOR.join(texts), allowed_special="all", disallowed_special=()
        )
        separators = np.flatnonzero(ranks == self.encoding.max_token_value)
        sizes = np.diff(separators, prepend=-1, append=len(ranks)) - 1
        return self.ids[np.delete(ranks, separators)], sizes


def find_byte_pairs(tokenizer: Any) -> BytePairs | None:
    """tokenizer: of transformers. None where the same tokens can't be shown."""
    if not hasattr(tokenizer, "backend_tokenizer") or tokenizer.split_special_tokens:
        return None
    definition = orjson.loads(tokenizer.backend_tokenizer.to_str())
    pattern, model = _pattern(definition["pre_tokenizer"]), definition["model"]
    added = {token["content"]: token["id"] for token in definition["added_tokens"]}
    normaliser = _parts(definition["normalizer"], "normalizers")
    if pattern is None or normaliser not in ([], [NFC]) or not _merges_plainly(model):
        return None
    if not _found_alone(definition["added_tokens"]):
        return None
    pairs = [pair if isinstance(pair, list) else pair.split(" ") for pair in model["merges"]]
    single = [token for token in model["vocab"] if len(token) == 1 and token not in added]
    whole_first = bool(model.get("ignore_merges"))
    ranked = rank_results(single, pairs, whole_first)
    if ranked is None or not ALPHABET.keys() >= set(map(ord, single)):
        return None
    if whole_first and not model["vocab"].keys() <= {*ranked.tokens, *added}:
        return None
    return _byte_pairs(pattern, ranked, model["vocab"] | added, added, whole_first, bool(normaliser))


def _byte_pairs(
    pattern: str, ranked: Ranked, ids: Mapping[str, int], added: Collection[str], whole_first: bool, nfc: bool
) -> BytePairs | None:
    usable = [token for token, made in zip(ranked.tokens, ranked.made, strict=True) if made or whole_first]
    ranks = {token: rank for rank, token in enumerate(_to_bytes(usable))}
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    ranks |= {bytes([byte]): len(usable) + at for at, byte in enumerate(missing)}
    special = {content: len(ranks) + at for at, content in enumerate([*added, SEPARATOR])}
    try:
        late = [token.decode() for token in _to_bytes(ranked.late)]
    except UnicodeDecodeError:
        return None
    if not set(missing).isdisjoint(CONTINUATION):
        return None
    table = [ids[token] for token in usable] + [0] * len(missing) + [ids[token] for token in added] + [0]
    return BytePairs(
        Encoding("byte pairs", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special),
        np.array(table, np.int32),
        _shown(missing),
        _any_of(late),
        _any_of(added),
        nfc,
    )


def _any_of(texts: Collection[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(re.escape, texts))) if texts else None


def _pattern(definition: Any) -> str | None:
    parts = _parts(definition, "pretokenizers")
    for part in parts:
        part.pop("trim_offsets", None)  # of no account to tokens
    return next((pattern for known, pattern in PATTERNS if known == parts), None)


def _parts(definition: Any, name: str) -> list[dict[str, Any]]:
    """The steps of a part of a tokenizer, which may be none, one, or a sequence."""
    if definition is None:
        return []
    parts: list[dict[str, Any]] = definition[name] if definition["type"] == "Sequence" else [definition]
    return parts


def _merges_plainly(model: Mapping[str, Any]) -> bool:
    affixes = (model.get("dropout"), model.get("continuing_subword_prefix"), model.get("end_of_word_suffix"))
    return model["type"] == "BPE" and not any(affixes)


def _found_alone(added: Sequence[Mapping[str, Any]]) -> bool:
    """Whether added tokens are found wherever they stand, by themselves, and never across each other."""
    contents = [token["content"] for token in added]
    if any(token["lstrip"] or token["rstrip"] or token["single_word"] for token in added):
        return False
    if not all(unicodedata.is_normalized("NFC", content) and content for content in contents):
        return False
    starts = {content[:at] for content in contents for at in range(1, len(content))}
    ends = {content[at:] for content in contents for at in range(1, len(content))}
    inside = any(one in other for one, other in permutations(contents, 2))
    return starts.isdisjoint(ends) and not inside and SEPARATOR not in "".join(contents)


def _to_bytes(tokens: Sequence[str]) -> list[bytes]:
    """What tokens stand for, all of whose characters are in the alphabet."""
    joined = BYTES[np.frombuffer("".join(tokens).encode("utf-32-le"), np.uint32)].tobytes()
    ends = [0, *accumulate(map(len, tokens))]
    return [joined[start:end] for start, end in pairwise(ends)]


def _shown(missing: Sequence[int]) -> Any:
    """By code point: whether it is assigned, and none of its bytes is missing from the vocabulary."""
    shown = _assigned().copy()
    for byte in missing:
        if byte < 0x80:
            shown[byte] = False
        elif 0xC2 <= byte < 0xF5:
            more = 1 if byte < 0xE0 else 2 if byte < 0xF0 else 3
            first = (byte & (0x3F >> more)) << (6 * more)
            shown[first : first + (1 << 6 * more)] = False
    return shown


@cache
def _assigned() -> Any:
    """By code point: whether the Unicode of this Python gives it a meaning: these are what the test tries."""
    points = np.arange(ASSIGNED_PLANES, dtype=np.uint32)
    characters = points.tobytes().decode("utf-32-le", "surrogatepass")
    assigned = np.zeros(sys.maxunicode + 1, bool)
    for start in range(0, ASSIGNED_PLANES, BLOCK):
        block = characters[start : start + BLOCK]
        assigned[start : start + BLOCK] = block.isprintable() or ~np.fromiter(
            map(UNASSIGNED.__contains__, map(unicodedata.category, block)), bool
        )
    return assigned
