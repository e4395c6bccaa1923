"""What held-out rows cost a model: the totals stay whatever is kept of the rows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lorafinetune.contract.rowlosses import MOST_ROWS, Compared, RowLosses

ROWS = st.lists(st.tuples(st.integers(1, 1000), st.floats(0, 1e6)), min_size=1, max_size=40)


@given(ROWS)
def test_every_row_is_kept_as_it_is(rows: list[tuple[int, float]]) -> None:
    tokens, nats = zip(*rows, strict=True)
    kept = RowLosses.of(tokens, nats)
    assert (kept.rows, kept.tokens, kept.nats) == (len(rows), tokens, nats)
    assert kept.loss == pytest.approx(sum(nats) / sum(tokens))
    assert RowLosses.decode(kept.encode()) == kept


def test_of_many_rows_some_are_added_up() -> None:
    count = 3 * MOST_ROWS + 1
    kept = RowLosses.of([1] * count, [0.5] * count)
    assert (kept.rows, len(kept.nats), sum(kept.tokens), kept.loss) == (count, MOST_ROWS, count, 0.5)
    assert {*kept.tokens} == {3, 4}
    assert RowLosses.decode(kept.encode()) == kept


def test_models_are_compared_on_the_same_rows_alone() -> None:
    base = RowLosses.of([2, 3], [1.0, 2.0])
    assert Compared.of(base, RowLosses.of([2, 4], [1.0, 2.0])) is None
    assert Compared.of(base, RowLosses.of([2, 3], [0.5, 2.5])) == Compared(
        rows=2, tokens=(2, 3), base=(1.0, 2.0), tuned=(0.5, 2.5)
    )


BROKEN = {
    "fewer losses than rows": {"rows": 2, "tokens": [1, 1], "nats": [1.0]},
    "no rows": {"rows": 0, "tokens": [], "nats": []},
    "a row in which nothing is learned": {"rows": 1, "tokens": [0], "nats": [0.0]},
    "a loss that is no number": {"rows": 1, "tokens": [1], "nats": [None]},
    "more than are kept": {
        "rows": MOST_ROWS + 1,
        "tokens": [1] * (MOST_ROWS + 1),
        "nats": [1.0] * (MOST_ROWS + 1),
    },
}


@pytest.mark.parametrize("sentence", BROKEN)
def test_what_is_no_measurement_is_refused(sentence: str) -> None:
    with pytest.raises(ValidationError):
        RowLosses.decode(BROKEN[sentence])
