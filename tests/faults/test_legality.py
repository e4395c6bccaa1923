"""What the schema says of a spec, and when an answer of the API server is a fault."""

from typing import Any, Final

import pytest

from faults.legality import illegal, misjudged, rules_of
from faults.mutations import WHOLE, every_mutation
from lorafinetune.api.crd import crd

SCHEMA: Final = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
SPEC: Final = SCHEMA["properties"]["spec"]
LEGAL: Final = {"the least", "the most", "as short as can be"}
ILLEGAL: Final = {
    "of another type",
    "no such value",
    "less than the least",
    "more than the most",
    "too long",
    "with too many items",
    "with too many fields",
}

RULES: Final = frozenset({"a must be b", "c needs d"})
PLAIN: Final = 'X "life" is invalid: '
ANSWERS: Final[dict[str, tuple[str | None, list[str], bool]]] = {
    "what is legal is accepted": (None, [], True),
    "what is legal is refused by a rule": (f"{PLAIN}spec.a: Invalid value: a must be b", [], True),
    "what is legal is refused by two rules": (
        f"{PLAIN}[spec.a: Invalid value: a must be b, spec: Invalid value: c needs d]",
        [],
        True,
    ),
    "what is legal is refused by a rule and by something else": (
        f"{PLAIN}[spec.a: Invalid value: a must be b, spec.c: Too long]",
        [],
        False,
    ),
    "what is legal is refused by a rule that can't be evaluated": (
        f"{PLAIN}spec.a: Invalid value: no such key: b evaluating rule: a must be b",
        [],
        False,
    ),
    "what is legal is refused in words that nobody knows": ("no", [], False),
    "what is illegal is accepted": (None, ["spec.a"], False),
    "what is illegal is refused by its path": (f"{PLAIN}spec.a: Too long", ["spec.a"], True),
    "what is illegal is refused by the path of another": (f"{PLAIN}spec.ab: Too long", ["spec.a"], False),
    "what nobody knows is refused by its path": ('unknown field "spec.a"', ["spec.a"], True),
}
"""An answer, what is illegal, and whether that is right."""


@pytest.mark.parametrize("sentence", ANSWERS)
def test_an_answer_by_which(sentence: str) -> None:
    answer, paths, is_right = ANSWERS[sentence]
    assert (misjudged(answer, paths, RULES) is None) == is_right


def test_changes_are_as_legal_as_they_are_called() -> None:
    judged = [(m.what, list(illegal(m.applied(), SPEC))) for m in every_mutation(SPEC)]
    assert not [what for what, paths in judged if what in ILLEGAL and not paths]
    assert not [what for what, paths in judged if what in LEGAL and paths]
    assert {what for what, _ in judged} >= LEGAL | ILLEGAL


def test_what_every_change_is_made_to_is_legal() -> None:
    assert not list(illegal(WHOLE, SPEC))


PATHS: Final[dict[str, tuple[dict[str, Any], list[str]]]] = {
    "an item's": ({"datasets": [{"source": "s3://data/a", "weight": 2}]}, ["spec.datasets[0].weight"]),
    "a field's that nobody knows": ({"suspended": True}, ["spec.suspended"]),
    "that of the second with a name": ({"connections": [{"name": "a"}] * 2}, ["spec.connections[1]"]),
    "none, of what is null": ({"suspend": None}, []),
}


@pytest.mark.parametrize("sentence", PATHS)
def test_a_path(sentence: str) -> None:
    changes, paths = PATHS[sentence]
    assert list(illegal({**WHOLE, **changes}, SPEC)) == paths


def test_rules_are_found_wherever_they_are() -> None:
    found = rules_of(SCHEMA)
    assert "give epochs or maxSteps" in found
    assert "can't be changed once the model is there: make another resource" in found
