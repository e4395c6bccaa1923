"""tiktoken encodes texts as `tokenizers` does, for every way of splitting that is said to be equal."""

import unicodedata
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

from lorafinetune_stages.prepare.bytepairs import (
    ALPHABET,
    ONE_DIGIT,
    THREE_DIGITS,
    BytePairs,
    find_byte_pairs,
)
from searching import examples

BYTE_LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False)
AFTER_SPLIT = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def split_by(pattern: str) -> Any:
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), AFTER_SPLIT])


SPLITTING = {
    "as GPT-2": BYTE_LEVEL,
    "as GPT-2, with single digits": pre_tokenizers.Sequence([pre_tokenizers.Digits(True), BYTE_LEVEL]),
    "as Qwen": split_by(ONE_DIGIT),
    "as Llama 3 and GLM-4": split_by(THREE_DIGITS),
}
BYTES = {byte: chr(point) for point, byte in ALPHABET.items()}
NEIGHBOURS = [BYTES[byte] for byte in b"ab12 \n.s"]
"""Each merges with whatever byte stands beside it, so that tokens show where a text was split."""


def tokenizer(splitting: Any, normaliser: Any = None, without: str = "") -> Any:
    """A tokenizer as transformers wraps it. without: characters whose bytes are missing."""
    single = [character for byte, character in BYTES.items() if chr(byte) not in without]
    pairs = [(near, byte) for near in NEIGHBOURS for byte in single if near in single]
    pairs += [
        (byte, near) for near in NEIGHBOURS for byte in single if near in single and byte not in NEIGHBOURS
    ]
    vocabulary = {token: at for at, token in enumerate([*single, *(a + b for a, b in pairs)])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    made.pre_tokenizer = splitting
    if normaliser:
        made.normalizer = normaliser
    made.add_special_tokens([AddedToken("<|end|>", normalized=False), AddedToken("<tool>", normalized=False)])
    return SimpleNamespace(backend_tokenizer=made, split_special_tokens=False)


def exactly(made: Any, text: str) -> list[int]:
    ids: list[int] = made.backend_tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def found(made: Any) -> BytePairs:
    pairs = find_byte_pairs(made)
    assert pairs
    return pairs


MADE = {name: tokenizer(splitting) for name, splitting in SPLITTING.items()}
FOUND = {name: found(made) for name, made in MADE.items()}


@pytest.mark.parametrize("splitting", ["as GPT-2, with single digits", "as Llama 3 and GLM-4"])
def test_every_character_is_split_off_or_kept_as_the_tokenizer_does(splitting: str) -> None:
    """The other two ways of splitting ask for the same properties of characters."""
    made, pairs = MADE[splitting], FOUND[splitting]
    points = np.flatnonzero(pairs.shown)
    assert len(points) > 140_000
    representatives = [point for point in points.tolist() if not _is_one_of_many(point)]
    text = "".join(f"a{c}b1{c}2 {c}\n{c} .{c}'{c}" for c in map(chr, representatives))
    assert pairs.covers(text)
    assert pairs.encode([text])[0].tolist() == exactly(made, text)


def _is_one_of_many(point: int) -> bool:
    """Ideographs and Hangul syllables come in blocks of letters; every hundredth is tried."""
    return point % 97 != 0 and unicodedata.name(chr(point), "").startswith(("CJK UNIFIED", "HANGUL SYL"))


TEXTS = st.text(st.sampled_from("ab12 \n\r\t.'sSſlL你好é\u0301🐳٣½\u3000<|end>tool"), max_size=30)
PARTS = st.lists(st.one_of(TEXTS, st.sampled_from(["<|end|>", "<tool>", "'LL", "\r\n\r\n"])), max_size=4)


@pytest.mark.parametrize("splitting", SPLITTING)
@settings(max_examples=examples(60))
@given(texts=st.lists(PARTS.map("".join), min_size=1, max_size=5))
def test_texts_are_encoded_as_the_tokenizer_does(splitting: str, texts: list[str]) -> None:
    made, pairs = MADE[splitting], FOUND[splitting]
    assert all(map(pairs.covers, texts))
    tokens, sizes = pairs.encode(texts)
    expected = [exactly(made, text) for text in texts]
    assert tokens.tolist() == [token for tokens in expected for token in tokens]
    assert sizes.tolist() == [len(tokens) for tokens in expected]


@pytest.mark.parametrize(
    ("made", "text", "covered"),
    [
        pytest.param(tokenizer(BYTE_LEVEL), "\ue000", False, id="a character for private use"),
        pytest.param(tokenizer(BYTE_LEVEL), "\u0378", False, id="a character that no Unicode has yet"),
        pytest.param(tokenizer(BYTE_LEVEL), "\ud800", False, id="a lone surrogate"),
        pytest.param(tokenizer(BYTE_LEVEL), "e\u0301", True, id="composed or not is all the same"),
        pytest.param(
            tokenizer(BYTE_LEVEL, normalizers.NFC()), "e\u0301", False, id="what would first be composed"
        ),
        pytest.param(tokenizer(BYTE_LEVEL, normalizers.NFC()), "é", True, id="what is composed"),
        pytest.param(tokenizer(BYTE_LEVEL, without="\x04"), "a\x04", False, id="a byte that is missing"),
        pytest.param(tokenizer(BYTE_LEVEL, without="\xf1"), "\U00040000", False, id="a missing first byte"),
        pytest.param(tokenizer(BYTE_LEVEL, without="\xf1"), "🐳", True, id="another first byte"),
    ],
)
def test_what_is_covered(made: Any, text: str, covered: bool) -> None:
    assert found(made).covers(text) is covered


def with_added(*tokens: AddedToken) -> Any:
    made = tokenizer(BYTE_LEVEL)
    made.backend_tokenizer.add_tokens(list(tokens))
    return made


def with_model(**options: Any) -> Any:
    vocabulary = {character: byte for byte, character in BYTES.items()} | {"ab": 256, "qqq": 257}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[("a", "b")], **options))
    made.pre_tokenizer = BYTE_LEVEL
    return SimpleNamespace(backend_tokenizer=made, split_special_tokens=False)


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(SimpleNamespace(), id="a tokenizer in Python"),
        pytest.param(
            SimpleNamespace(backend_tokenizer=None, split_special_tokens=True), id="special tokens are split"
        ),
        pytest.param(tokenizer(pre_tokenizers.Whitespace()), id="another way of splitting"),
        pytest.param(tokenizer(BYTE_LEVEL, normalizers.Lowercase()), id="another normaliser"),
        pytest.param(tokenizer(BYTE_LEVEL, without="\x80"), id="a byte that many characters need is missing"),
        pytest.param(with_added(AddedToken("<x>", lstrip=True)), id="an added token that takes spaces along"),
        pytest.param(with_added(AddedToken("<|end|>>")), id="an added token with another inside"),
        pytest.param(with_added(AddedToken("|>x")), id="an added token that overlaps another"),
        pytest.param(with_model(dropout=0.1), id="merges by chance"),
        pytest.param(with_model(ignore_merges=True), id="a token that is only ever taken whole"),
    ],
)
def test_a_tokenizer_that_is_not_shown_to_be_equal_is_not_replaced(made: Any) -> None:
    assert find_byte_pairs(made) is None


def test_a_token_that_nothing_is_merged_into_is_left_out() -> None:
    made = with_model()
    tokens, _ = found(made).encode(["ab", "qqq"])
    assert tokens.tolist() == exactly(made, "ab") + exactly(made, "qqq")
