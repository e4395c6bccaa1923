"""The merged rows: which are equal, which are left, and what the cutoff leaves of one."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorafinetune_stages.prepare.conversation import Conversation
from lorafinetune_stages.prepare.corpus import Corpus
from lorafinetune_stages.prepare.findings import Place, RowError
from lorafinetune_stages.prepare.fingerprints import Overlap
from lorafinetune_stages.prepare.truncation import Turn, check_kept, lost_answer_tokens
from unit.prepare_rows import talk


def corpus(path: Path, *datasets: Sequence[Conversation]) -> Corpus:
    """A corpus of these datasets; what it has on disk is not read."""
    made = Corpus(path / "rows")
    with made:
        for rows in datasets:
            made.begin_dataset()
            for line, row in enumerate(rows, 1):
                made.append(Place("a", line), row)
    return made


A, B = talk("q", "a"), talk("q", "b")


@pytest.mark.parametrize(
    ("datasets", "repeated"),
    [
        pytest.param([[A, B], [A]], [2], id="a row of another dataset"),
        pytest.param([[A, A, A, B, B]], [1, 2, 4], id="each but the first"),
        pytest.param(
            [[A, talk("q", "a", system="s"), talk("q", "a", tools="[]")]], [], id="all that is said counts"
        ),
        pytest.param([[talk("ab", "c"), talk("a", "bc")]], [], id="where a text ends counts"),
        pytest.param([[]], [], id="no rows"),
    ],
)
def test_rows_are_equal_to_earlier_ones(
    tmp_path: Path, datasets: Sequence[Sequence[Conversation]], repeated: list[int]
) -> None:
    assert list(corpus(tmp_path, *datasets).fingerprints.repeated()) == repeated


@given(st.lists(st.integers(0, 5), max_size=30))
def test_as_many_rows_are_left_as_there_are_different_ones(
    tmp_path_factory: pytest.TempPathFactory, answers: list[int]
) -> None:
    made = corpus(tmp_path_factory.getbasetemp(), [talk("q", f"a{answer}") for answer in answers])
    (left,) = made.pools(without=made.fingerprints.repeated())
    assert [answers[row] for row in left] == list(dict.fromkeys(answers))


@pytest.mark.parametrize(
    ("train", "held_out", "expected"),
    [
        pytest.param([0, 1], [2], Overlap(1, 1), id="an equal row"),
        pytest.param([0], [1], Overlap(0, 1), id="an equal prompt"),
        pytest.param([0, 1, 2], [3], Overlap(0, 0), id="nothing in common"),
        pytest.param([0, 1, 2], [], Overlap(0, 0), id="nothing held out"),
        pytest.param(range(3), range(3, 6), Overlap(1, 2), id="each counts once"),
    ],
)
def test_what_is_held_out_and_trained_on_is_counted(
    tmp_path: Path, train: Sequence[int], held_out: Sequence[int], expected: Overlap
) -> None:
    rows = [A, B, A, talk("other", "x"), A, talk("q", "c")]
    assert corpus(tmp_path, rows).fingerprints.overlap(train, held_out) == expected


def test_a_prompt_is_what_is_asked_and_not_what_is_answered_or_who_is_asked(tmp_path: Path) -> None:
    rows = [talk("q", "a", "r", "b"), talk("q", "x", "r", "y", system="s"), talk("q", "a"), talk("qr", "a")]
    prompts = corpus(tmp_path, rows).fingerprints.prompts
    assert [prompts.index(prompt) for prompt in prompts] == [0, 0, 2, 3]


def test_datasets_whose_answers_are_all_equal_are_found(tmp_path: Path) -> None:
    made = corpus(tmp_path, [A, B], [A, talk("r", "a")], [A], [talk("q", "x", "r", "a"), A])
    assert made.monotonous() == [1, 3]


@pytest.mark.parametrize(
    ("turn", "kept", "message"),
    [
        pytest.param((9, 3), (7, 3), "7 of the 9 tokens of its prompt are left", id="the prompt is cut"),
        pytest.param((4, 8), (4, 6), "6 of the 8 tokens of its answer are left", id="the answer is cut"),
        pytest.param((4, 8), (0, 0), "0 of the 4 tokens of its prompt are left", id="nothing is left"),
    ],
)
def test_a_row_that_the_cutoff_spoils_is_bad(turn: Turn, kept: Turn, message: str) -> None:
    with pytest.raises(RowError) as caught:
        check_kept(turn, kept, 14, 10)
    expected = f"{message} within training.cutoffLength 10 (the row has 14 tokens)"
    assert str(caught.value) == expected


def test_a_row_with_a_whole_first_turn_is_good_and_what_it_loses_is_counted() -> None:
    turns, kept = [(3, 4), (5, 6), (1, 9)], [(3, 4), (2, 1)]
    check_kept(turns[0], kept[0], 28, 10)
    assert lost_answer_tokens(turns, kept) == 14
