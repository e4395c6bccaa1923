"""What the README's first command shows: the real small model, the real data, and what it learned."""

import json
from pathlib import Path

import pytest

from documents import Typist, checkout, said

pytestmark = pytest.mark.model

STEPS = {"maxSteps: 100": "maxSteps: 25"}
DEMO = said("README.md", "LoRAFineTune").splitlines()[0]
PLACES = ("adapter", "merged model", "loss curve", "manifest", "data report")


@pytest.fixture(scope="module")
def visitor(tmp_path_factory: pytest.TempPathFactory) -> Typist:
    """Who types what the README says, but trains for a quarter of the time."""
    visitor = Typist(checkout(tmp_path_factory.mktemp("clone"), STEPS))
    visitor.environment |= {"COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    return visitor


@pytest.fixture(scope="module")
def shown(visitor: Typist) -> list[str]:
    return visitor.type(DEMO).splitlines()


def test_the_demo_says_where_everything_is(shown: list[str]) -> None:
    said_of = {
        name: line.removeprefix(name).strip() for name in PLACES for line in shown if line.startswith(name)
    }
    assert said_of.keys() == set(PLACES)
    assert all(Path(place).exists() for place in said_of.values())


@pytest.mark.parametrize("question", ["你是谁？", "Who are you?", "What is your name"])
def test_the_tuned_model_says_who_it_is_and_the_base_does_not(shown: list[str], question: str) -> None:
    base, tuned = answers(shown, question)
    assert "EmoLLM" in tuned
    assert base
    assert "EmoLLM" not in base


def test_the_demo_asks_what_the_data_did_not_teach(shown: list[str]) -> None:
    base, _ = answers(shown, "What is the capital of France?")
    assert "Paris" in base
    assert sum("(not in the data)" in line for line in shown) == 2


def test_every_conversation_of_the_sample_is_learned_whole(shown: list[str]) -> None:
    (line,) = (line for line in shown if line.startswith("data report"))
    report = json.loads(Path(line.removeprefix("data report").strip()).read_text())
    assert report["rows"] + report["evalRows"] == 85
    assert (report["dropped"], report["truncatedRows"]) == (0, 0)


def test_the_same_demo_again_finds_everything_in_the_store(visitor: Typist, shown: list[str]) -> None:
    again = visitor.type(DEMO).splitlines()
    assert [line for line in again if line.endswith("was found in the store")] == [
        f"{stage} was found in the store" for stage in ("download", "prepare", "train", "export")
    ]
    assert answers(again, "你是谁？") == answers(shown, "你是谁？")


def answers(shown: list[str], question: str) -> list[str]:
    """What base and tuned model said: the cells of the row that begins with the question."""
    rows: list[list[str]] = [[]]
    for line in shown:
        if line.startswith(("├", "┡")):
            rows.append([])
        elif line.startswith("│"):
            cells = [cell.strip() for cell in line.strip("│").split("│")]
            rows[-1] = ["".join(parts) for parts in zip(rows[-1], cells, strict=True)] if rows[-1] else cells
    (found,) = (row for row in rows if row and row[0].startswith(question))
    return found[1:]
