"""The verdict over bad rows: what is said, and when it is an error."""

import pytest

from lorafinetune.api.datasets import Dataset
from lorafinetune.contract.outcome import MAX_MESSAGE_BYTES, StageError, decode_message, encode_error
from lorafinetune_stages.prepare.findings import KEPT_PLACES, Findings, Kind, Place, RowError


def findings(rows: int, bad: int, **fields: str) -> Findings:
    """Findings over one dataset of which the last rows have no answer."""
    found = Findings([Dataset.decode({"source": "s3://raw/a"} | fields)])
    for line in range(1, rows + 1):
        found.count_rows(0, 1)
        if line > rows - bad:
            found.add(
                0, str(Place("a.jsonl", line)), RowError(Kind.EMPTY_ANSWER, "output", "the answer is empty")
            )
    return found


def test_bad_rows_fail_with_counts_kinds_and_the_first_places() -> None:
    found = findings(85, 7)
    found.add(0, "b.json[3] (line 9)", RowError(Kind.WRONG_TYPE, "output", "is a number, not a text"))
    with pytest.raises(StageError) as caught:
        found.judge()
    assert caught.value.message == (
        "datasets[0]: 8 of 85 rows can't be learned from (7 empty answer, 1 wrong type)\n"
        "  a.jsonl:79: output: the answer is empty\n"
        "  a.jsonl:80: output: the answer is empty\n"
        "  a.jsonl:81: output: the answer is empty\n"
        "  a.jsonl:82: output: the answer is empty\n"
        "  a.jsonl:83: output: the answer is empty\n"
        "  a.jsonl:84: output: the answer is empty\n"
        "  a.jsonl:85: output: the answer is empty\n"
        "  b.json[3] (line 9): output: is a number, not a text"
    )


SKIPPED = {"onBadRow": "skip"}


@pytest.mark.parametrize(
    ("rows", "bad", "fields"),
    [
        pytest.param(10, 0, {}, id="no row is bad"),
        pytest.param(10, 9, SKIPPED, id="bad rows are skipped"),
        pytest.param(10, 1, SKIPPED | {"maxBadFraction": "0.1"}, id="as many as may be are bad"),
        pytest.param(100, 29, SKIPPED | {"maxBadFraction": "0.29"}, id="so are 29 of 100"),
        pytest.param(100, 57, SKIPPED | {"maxBadFraction": "0.57"}, id="so are 57 of 100"),
        pytest.param(200, 29, SKIPPED | {"maxBadFraction": "0.145"}, id="so are 29 of 200"),
    ],
)
def test_there_is_nothing_to_object_to(rows: int, bad: int, fields: dict[str, str]) -> None:
    found = findings(rows, bad, **fields)
    found.judge()
    assert found.bad == bad


@pytest.mark.parametrize(
    ("rows", "bad", "fields", "message", "hint"),
    [
        pytest.param(
            2,
            1,
            {},
            "datasets[0]: 1 of 2 rows can't be learned from (1 empty answer)",
            "set `onBadRow: skip` on the dataset.",
            id="one is bad, and none may be",
        ),
        pytest.param(
            10,
            2,
            SKIPPED | {"maxBadFraction": "0.1"},
            "datasets[0]: 2 of 10 rows can't be learned from, more than datasets[0].maxBadFraction 0.1 "
            "(2 empty answer)",
            "raise the dataset's `maxBadFraction`.",
            id="more are bad than may be",
        ),
        pytest.param(
            2,
            2,
            SKIPPED,
            "datasets[0]: 2 of 2 rows can't be learned from, so none is left (2 empty answer)",
            "leave out the dataset.",
            id="every row is bad",
        ),
        pytest.param(
            2,
            2,
            {},
            "datasets[0]: 2 of 2 rows can't be learned from (2 empty answer)",
            "leave out the dataset.",
            id="every row is bad, which skipping would not mend",
        ),
    ],
)
def test_too_many_bad_rows_are_an_error_that_says_what_helps(
    rows: int, bad: int, fields: dict[str, str], message: str, hint: str
) -> None:
    with pytest.raises(StageError) as caught:
        findings(rows, bad, **fields).judge()
    assert caught.value.message.splitlines()[0] == message
    assert caught.value.hint == f"Mend the rows named in the message, or {hint}"


@pytest.mark.parametrize(
    ("kinds", "rows", "hint"),
    [
        pytest.param(
            [Kind.CUT_OFF],
            2,
            "raise `training.cutoffLength`, or set `onBadRow: skip` on the dataset.",
            id="an answer that is cut off",
        ),
        pytest.param(
            [Kind.PROMPT_CUT_OFF, Kind.TOOLS],
            2,
            "raise `training.cutoffLength`, or leave out the dataset.",
            id="a prompt that is cut off, and no good row",
        ),
    ],
)
def test_what_helps_depends_on_what_is_wrong(kinds: list[Kind], rows: int, hint: str) -> None:
    found = findings(rows, 0)
    for kind in kinds:
        found.add(0, "a.jsonl:1", RowError(kind, "", "x"))
    with pytest.raises(StageError) as caught:
        found.judge()
    assert caught.value.hint == f"Mend the rows named in the message, {hint}"


def test_a_row_that_shows_its_fault_as_tokens_is_one_of_those_that_were_chosen() -> None:
    found = findings(1000, 1, onBadRow="skip", maxBadFraction="0.05")
    found.judge()
    found.begin_chosen([10])
    for line in (7, 8):
        found.add(0, f"a.jsonl:{line}", RowError(Kind.CUT_OFF, "", "the answer is cut"))
    with pytest.raises(StageError) as caught:
        found.judge()
    assert caught.value.message == (
        "datasets[0]: 2 of 10 chosen rows can't be learned from, more than datasets[0].maxBadFraction 0.05 "
        "(2 answer cut off)\n  a.jsonl:7: the answer is cut\n  a.jsonl:8: the answer is cut"
    )
    assert (found.rows, found.bad, found.kinds) == (
        [1000],
        3,
        [{Kind.EMPTY_ANSWER: 1, Kind.CUT_OFF: 2}],
    )


def test_where_all_chosen_rows_are_bad_they_are_told() -> None:
    found = Findings([Dataset(source="s3://raw/a"), Dataset(source="s3://raw/b")])
    for dataset in (0, 1):
        found.count_rows(dataset, 9)
    found.begin_chosen([1, 1])
    found.leave_out(11, 1, "b.jsonl:3", RowError(Kind.CUT_OFF, "", "the answer is cut"))
    assert found.left_out == {11}
    assert found.none_left("train on").message == (
        "datasets[1]: 1 of 1 chosen rows can't be learned from, so no row is left to train on "
        "(1 answer cut off)\n  b.jsonl:3: the answer is cut"
    )


def test_the_first_places_say_of_which_dataset_they_are() -> None:
    found = Findings([Dataset(source="s3://raw/a"), Dataset(source="s3://raw/b")])
    for dataset in (1, 0):
        found.add(dataset, "train.jsonl:2", RowError(Kind.EMPTY_ANSWER, "", "x"))
    assert found.places == ["datasets[0]: train.jsonl:2: x", "datasets[1]: train.jsonl:2: x"]


@pytest.mark.parametrize(
    ("bad", "shown", "more"),
    [
        pytest.param([20], [20], [], id="one dataset has all places"),
        pytest.param([1000], [20], ["  and 980 more"], id="of more bad rows than are kept, the first"),
        pytest.param(
            [30, 30, 1],
            [10, 9, 1],
            ["  and 20 more, 10 of them in the log", "  and 21 more, 11 of them in the log"],
            id="each has its share, and what another does not need",
        ),
        pytest.param(
            [2, 19],
            [2, 18],
            ["  and 1 more, in the log"],
            id="what is left is in the log",
        ),
        pytest.param([1] * 22, [1] * 20, ["and 2 more datasets"], id="no dataset is without a place"),
    ],
)
def test_places_are_shared_among_datasets(bad: list[int], shown: list[int], more: list[str]) -> None:
    found = Findings([Dataset(source="s3://raw/a") for _ in bad])
    for dataset, count in enumerate(bad):
        found.count_rows(dataset, count)
        for line in range(1, count + 1):
            found.add(dataset, f"{dataset}.jsonl:{line}", RowError(Kind.EMPTY_ANSWER, "output", "is empty"))
    with pytest.raises(StageError) as caught:
        found.judge()
    lines = caught.value.message.splitlines()
    places = [
        f"  {dataset}.jsonl:{row}: " for dataset, count in enumerate(shown) for row in range(1, count + 1)
    ]
    assert [line.removesuffix("output: is empty") for line in lines if ".jsonl" in line] == places
    assert [line for line in lines if "more" in line] == more
    assert caught.value.message == decoded(encode_error(caught.value))


def test_the_longest_message_has_a_place_and_fits_a_termination_message() -> None:
    found = Findings(
        [
            Dataset.decode({"source": "s3://raw/a", "onBadRow": "skip", "maxBadFraction": "0.000000001"}),
            *(Dataset(source="s3://raw/a") for _ in range(31)),
        ]
    )
    for dataset in range(32):
        for kind in [*Kind] * 10:
            found.count_rows(dataset, 2)
            found.add(dataset, '🐳"\\' * 400, RowError(kind, "你" * 400, "is a number"))
    assert len(found.places) == KEPT_PLACES
    with pytest.raises(StageError) as caught:
        found.judge()
    lines = caught.value.message.splitlines()
    assert any(line.startswith("  🐳") for line in lines)
    assert lines[-1].endswith("more datasets")
    assert caught.value.message == decoded(encode_error(caught.value))


def decoded(text: str) -> str:
    assert len(text.encode()) <= MAX_MESSAGE_BYTES
    error = decode_message("prepare", text)
    assert isinstance(error, StageError)
    return error.message


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        pytest.param(Place("a.jsonl", 3), "a.jsonl:3", id="a line"),
        pytest.param(Place("a.json", 3, 1), "a.json[1] (line 3)", id="an item of a list"),
        pytest.param(Place("a.json", 3, None, 7, 20), "a.json:3:7 (byte 20)", id="a character"),
        pytest.param(Place("a\n\x1b[31m", 1), "'a\\n\\x1b[31m':1", id="a name with control characters"),
    ],
)
def test_places_name_the_file_and_where_in_it(place: Place, expected: str) -> None:
    assert str(place) == expected
