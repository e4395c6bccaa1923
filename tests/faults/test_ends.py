"""What counts as another end of an edited run, and what of it the table says."""

from typing import Any, Final

import pytest

from builders import merged
from faults.schema import Mutated, Tried, differences, judged

END: Final[dict[str, Any]] = {
    "model": {"digest": "m"},
    "dataset": {"digest": "d"},
    "artifacts": {"adapter": {"digest": "a"}},
    "stages": [{"name": "train", "job": "life-train-1"}],
}
EXPORTED: Final = {"name": "export", "job": "life-export-1"}
OTHERS: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "by the base model": ({"model": {"digest": "n"}}, "base model"),
    "by the dataset": ({"dataset": {"digest": "e"}}, "dataset"),
    "by the adapter": ({"artifacts": {"adapter": {"digest": "b"}}}, "artifacts"),
    "by a merged model too many": ({"artifacts": {"merged": {"digest": "c"}}}, "artifacts"),
    "by a failure": ({"failure": {"reason": "ConfigInvalid"}}, "failure"),
    "by a Job too many": ({"stages": [*END["stages"], EXPORTED]}, "Jobs"),
}


@pytest.mark.parametrize("sentence", OTHERS)
def test_an_end_is_another(sentence: str) -> None:
    changes, named = OTHERS[sentence]
    (said,) = differences(merged(END, changes), END)
    assert said.startswith(named)


def test_an_end_without_its_artefacts_is_another_and_the_same_is_not() -> None:
    assert list(differences({**END, "artifacts": {}}, END))
    assert not list(differences(END, END))


def test_what_was_made_before_stays_where_a_fresh_run_begins_nothing_but_no_failure_does() -> None:
    refused = {"failure": {"reason": "ConfigInvalid"}}
    assert not list(differences({**END, **refused}, refused))
    assert list(differences(END, refused))


def test_a_refusal_that_is_wrong_is_counted_and_named() -> None:
    done = Tried([Mutated(["b"], {}, {}, faults=["late"])], {"a": "no", "c": "no"}, ["a: refused"], [])
    outcome = judged(done)
    assert [(row["points"], row["converged"]) for row in outcome.rows] == [(2, 1), (1, 0)]
    assert outcome.complaints == ["a: refused", "b: late"]
