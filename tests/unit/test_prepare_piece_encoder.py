"""Pieces are encoded as the tokenizer does it, whatever was encoded before and is still remembered."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorafinetune_stages.prepare import workers
from lorafinetune_stages.prepare.piece_encoder import PieceEncoder
from lorafinetune_stages.prepare.rendering import Piece
from unit.test_bytepairs import MADE, exactly

GLM4 = MADE["as Llama 3 and GLM-4"]
PIECES = st.lists(st.one_of(st.text("ab1 é🐳\n", max_size=9), st.integers(0, 3)), max_size=20)


def exact(piece: Piece) -> list[int]:
    return [piece] if isinstance(piece, int) else exactly(GLM4, piece)


def recalled(encoder: PieceEncoder, pieces: Sequence[Piece]) -> list[list[int]]:
    arena = encoder.recall(pieces)
    ends = arena.starts + arena.sizes
    return [arena.tokens[start:end].tolist() for start, end in zip(arena.starts, ends, strict=True)]


@given(st.lists(PIECES, max_size=8), st.sampled_from([0, 30, 10**6]))
def test_what_was_encoded_before_changes_nothing(batches: list[list[Piece]], room: int) -> None:
    encoder = PieceEncoder(GLM4)
    encoder.ROOM_TOKENS = room  # type: ignore[misc]  # so that much is forgotten
    for pieces in batches:
        assert recalled(encoder, pieces) == [*map(exact, pieces)]


@given(PIECES, PIECES)
def test_a_stream_of_tokens_has_each_piece_as_often_as_it_stands_there(
    before: list[Piece], pieces: list[Piece]
) -> None:
    encoder = PieceEncoder(GLM4)
    encoder.recall(before)
    assert encoder.encode(pieces).tokens.tolist() == [token for piece in pieces for token in exact(piece)]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PieceEncoder, "ROOM_TOKENS", 1000)
    encoder = PieceEncoder(GLM4)
    sizes = [len(encoder.recall([f"{number} a"] * 3).tokens) for number in range(10_000)]
    assert 900 < max(sizes) < 1100


@pytest.mark.parametrize("processors", [1, 2, 3])
def test_threads_share_the_texts(monkeypatch: pytest.MonkeyPatch, processors: int) -> None:
    monkeypatch.setattr(workers, "processors", lambda: processors)
    texts = [f"{number} é" for number in range(PieceEncoder.LEAST_SHARED)]
    assert recalled(PieceEncoder(GLM4), texts) == [*map(exact, texts)]
