"""Rows, names of columns and last words of a pod, on their way into status, Events and a terminal."""

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Final, Literal

import pytest
from rich.console import Console

from faults.attacks.attempt import Attempt
from faults.attacks.written import Written, attempts
from lorafinetune.api.reasons import Reason
from lorafinetune.cli.summary import Environment
from lorafinetune.cli.view import PlainView
from lorafinetune.contract.outcome import StageError, decode_message, encode_error
from lorafinetune.core.logtail import log_tail
from stages.prepare_builders import Bench
from unit.world import World


def shown(outcome: StageError) -> str:
    """What a resource, its Events and a terminal say of a stage that ended so."""
    read = decode_message("download", encode_error(outcome))
    assert isinstance(read, StageError)
    world = World()
    world.settle()
    world.end(read)
    world.settle()
    terminal = StringIO()
    PlainView(Console(file=terminal, width=10_000), Environment(str), lambda: 0.0).show(
        world.resource, {}, tuple(world.events)
    )
    status = json.dumps(world.status.encode(), ensure_ascii=False)
    return "\n".join([status, *(event.message for event in world.events), terminal.getvalue()])


def column(name: str) -> Callable[[Path], str]:
    """A dataset whose only column is called so."""

    def attempt(directory: Path) -> str:
        with pytest.raises(StageError) as refused:
            Bench(directory / "bench").add(json.dumps({name: 1}).encode()).run()
        return shown(refused.value)

    return attempt


def words(text: str) -> Callable[[Path], str]:
    """The termination message that a pod has written."""
    return lambda _directory: shown(StageError(Reason.DATASET_INVALID, text, text))


def log(text: str) -> Callable[[Path], str]:
    """The last lines of the log of a pod that died without a word."""
    return lambda _directory: shown(StageError(Reason.INTERNAL, f"its log ends:\n{log_tail(text)}"))


class Text(Written):
    """by: how it comes there."""

    by: Literal["column", "words", "log"]
    text: str


WAYS: Final = {"column": column, "words": words, "log": log}
WRITTEN: Final = attempts("texts", Text, lambda file: WAYS[file.by](file.text))
ATTEMPTS: dict[str, Attempt[Path]] = WRITTEN | {
    # no YAML may have it
    "a column with half a character": Attempt("the author of a dataset", column("\ud800"), "fits no format"),
}


@pytest.mark.parametrize("sentence", ATTEMPTS)
def test_words_stay_words(sentence: str, tmp_path: Path) -> None:
    attempt = ATTEMPTS[sentence]
    said = attempt.try_(tmp_path)
    assert attempt.refusal in said
    assert said.replace("\n", "").isprintable()
    assert "hf_abcdefghijkl" not in said
    assert len(said) < 40_000
