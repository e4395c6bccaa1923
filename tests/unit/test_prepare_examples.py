"""On which rows of the data a template is compared with the model's own."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from lorafinetune_stages.prepare.conversation import Conversation, Turn
from lorafinetune_stages.prepare.corpus import Corpus
from lorafinetune_stages.prepare.examples import (
    EXAMINED_ROWS,
    MAX_CHARACTERS,
    MOST,
    Example,
    find_examples,
)
from lorafinetune_stages.prepare.findings import Place
from lorafinetune_stages.prepare.selection import Rows
from unit.prepare_rows import talk

TOOLS = '[{"name": "f", "parameters": {"properties": {}}}]'
CALLED = Conversation(
    (
        Turn("user", "q"),
        Turn("function", '{"name": "f", "arguments": {}}'),
        Turn("observation", "1"),
        Turn("assistant", "a"),
    ),
    tools=TOOLS,
)
PLAIN = talk("q", "a")
EVERY_SHAPE = [
    Conversation(turns * rounds, system, tools)
    for tools in (TOOLS, "")
    for system in ("s", "")
    for rounds in (1, 2, 3)
    for turns in (PLAIN.turns, CALLED.turns)
]


def examples(
    root: Path, *datasets: Sequence[Conversation], held_out: Sequence[int] = ()
) -> Sequence[Example]:
    """Of datasets of which all rows are trained on, but for some."""
    with Corpus(root / "rows") as corpus:
        for rows in datasets:
            corpus.begin_dataset()
            for line, row in enumerate(rows, 1):
                corpus.append(Place("a", line), row)
        train = [row for row in range(len(corpus)) if row not in held_out]
        return find_examples(corpus, Rows(train, held_out))


FOUND: dict[str, tuple[Sequence[Conversation], Sequence[int]]] = {
    "of equal shapes the first is one": ([PLAIN, talk("q2", "a2")], [1]),
    "a system prompt makes another shape": ([PLAIN, talk("q", "a", system="s")], [1, 2]),
    "one round, two, and three or more differ": (
        [talk(*"qa" * rounds) for rounds in (1, 2, 3, 9)],
        [1, 2, 3],
    ),
    "descriptions of tools make another shape": ([PLAIN, talk("q", "a", tools=TOOLS)], [1, 2]),
    "rows without tools come first": ([CALLED, PLAIN], [2, 1]),
    "a long row gives way to a shorter one": ([talk("q", "a" * MAX_CHARACTERS), PLAIN], [2]),
    "half a thought is no example": ([talk("q", "<think> a"), PLAIN], [2]),
    "a thought alone is no example": ([talk("q", "<think>t</think>"), PLAIN], [2]),
    "what LLaMA-Factory replaces is no example": ([talk("q {{idx}}", "a"), PLAIN], [2]),
    "only the first rows are looked at": ([PLAIN] * EXAMINED_ROWS + [CALLED], [1]),
}


@pytest.mark.parametrize("sentence", FOUND)
def test_rows_of_the_data_are_examples(sentence: str, tmp_path: Path) -> None:
    rows, lines = FOUND[sentence]
    found = examples(tmp_path, rows)
    assert [example.place for example in found] == [f"datasets[0]: a:{line}" for line in lines]


def test_every_dataset_and_what_is_held_out_is_looked_at(tmp_path: Path) -> None:
    found = examples(
        tmp_path, [PLAIN] * EXAMINED_ROWS * 2, [talk(*"qaqa"), CALLED], held_out=[2 * EXAMINED_ROWS]
    )
    assert [example.place for example in found] == [
        "datasets[0]: a:1",
        "datasets[1]: a:1",
        "datasets[1]: a:2",
    ]


def test_there_are_only_so_many_and_some_have_tools(tmp_path: Path) -> None:
    found = examples(tmp_path, EVERY_SHAPE)
    assert len(found) == MOST
    assert {example.has_tools for example in found} == {True, False}


BARE: dict[str, tuple[Conversation, Conversation]] = {
    "blanks at the ends of texts": (talk(" q\n", "\ta ", system=" s "), talk("q", "a", system="s")),
    "thoughts": (talk("q", "<think>\nt\n</think>\n\na"), PLAIN),
    "the answer that is rejected": (Conversation((*PLAIN.turns, Turn("assistant", "b"))), PLAIN),
}


@pytest.mark.parametrize("sentence", BARE)
def test_an_example_has_not(sentence: str, tmp_path: Path) -> None:
    row, bare = BARE[sentence]
    (found,) = examples(tmp_path, [row])
    assert found.conversation == bare
