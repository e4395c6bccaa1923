"""Merging by ranked results is merging by ranked pairs, on every text that is not ruled out."""

from collections.abc import Sequence

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tiktoken import Encoding
from tokenizers import Tokenizer, models

from lorafinetune_stages.prepare.bpe_ranks import Pair, Ranked, rank_results
from searching import examples

LETTERS = "abc"


@st.composite
def merge_lists(draw: st.DrawFn) -> list[Pair]:
    """Pairs of letters or of earlier results, in an order that no training would choose."""
    tokens = list(LETTERS)
    pairs: list[Pair] = []
    for _ in range(draw(st.integers(1, 12))):
        pair = draw(st.sampled_from(tokens)), draw(st.sampled_from(tokens))
        if "".join(pair) not in tokens:
            pairs.append(pair)
            tokens.append("".join(pair))
    return pairs


@st.composite
def all_splits(draw: st.DrawFn) -> list[Pair]:
    """Every pair of each of some tokens, which stand in any order: as converted from tiktoken's own files."""
    words = draw(st.lists(st.text(LETTERS, min_size=2, max_size=5), min_size=1, max_size=12, unique=True))
    known = {*LETTERS, *words}
    splits = [(word[:at], word[at:]) for word in words for at in range(1, len(word))]
    pairs: list[Pair] = [pair for pair in splits if known.issuperset(pair)]
    assume({"".join(pair) for pair in pairs} == set(words))
    return pairs


TEXTS = st.lists(st.text(LETTERS, min_size=1, max_size=14), min_size=1, max_size=8)


def by_pairs(pairs: Sequence[Pair], tokens: Sequence[str], whole_first: bool, text: str) -> list[int]:
    vocabulary = {token: rank for rank, token in enumerate(tokens)}
    model = models.BPE(vocab=vocabulary, merges=list(map(tuple, pairs)), ignore_merges=whole_first)
    ids: list[int] = Tokenizer(model).encode(text).ids
    return ids


def by_results(ranked: Ranked, whole_first: bool, text: str) -> list[int]:
    usable = [token for token, made in zip(ranked.tokens, ranked.made, strict=True) if made or whole_first]
    ranks = {token.encode(): rank for rank, token in enumerate(usable)}
    encoding = Encoding("letters", pat_str=".+", mergeable_ranks=ranks, special_tokens={})
    return [ranked.tokens.index(usable[rank]) for rank in encoding.encode_ordinary(text)]


@settings(max_examples=examples(120))
@given(st.one_of(merge_lists(), all_splits()), st.booleans(), TEXTS)
def test_both_ways_of_merging_agree_where_it_is_said(
    pairs: list[Pair], whole_first: bool, texts: list[str]
) -> None:
    ranked = rank_results(LETTERS, pairs, whole_first)
    assume(ranked is not None)
    assert ranked
    for text in [*texts, *ranked.tokens]:
        if not any(token in text for token in ranked.late):
            expected = by_pairs(pairs, ranked.tokens, whole_first, text)
            assert by_results(ranked, whole_first, text) == expected


def test_a_token_that_no_text_becomes_is_known() -> None:
    ranked = rank_results(LETTERS, [("a", "b"), ("b", "c"), ("a", "bc")], whole_first=False)
    assert ranked
    assert dict(zip(ranked.tokens, ranked.made, strict=True))["abc"] is False


def test_a_token_whose_turn_comes_before_its_part_s_is_late() -> None:
    ranked = rank_results("ab", [("a", "b"), ("abb", "a"), ("ab", "b")], whole_first=False)
    assert ranked
    assert ranked.late == ["abba"]


def test_pairs_of_one_result_that_stand_apart_are_not_ranked() -> None:
    pairs = [("a", "b"), ("ab", "c"), ("b", "c"), ("a", "bc")]
    assert rank_results(LETTERS, pairs, whole_first=False) is None


def test_a_part_that_is_no_token_is_not_ranked() -> None:
    assert rank_results(LETTERS, [("ab", "c")], whole_first=False) is None


def test_a_token_that_is_only_taken_whole_must_not_be_merged_from_parts() -> None:
    pairs = [("a", "b"), ("b", "c"), ("a", "bc"), ("ab", "ca"), ("c", "a")]
    assert rank_results(LETTERS, pairs, whole_first=False)
    assert rank_results(LETTERS, pairs, whole_first=True) is None
