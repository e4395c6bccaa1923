"""Rows, names of columns and last words of a pod, on their way into status, Events and a terminal."""

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Final

import pytest
from rich.console import Console

from faults.attacks.attempt import Attempt
from lorafinetune.api.reasons import Reason
from lorafinetune.cli.summary import Surroundings
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
    PlainView(Console(file=terminal, width=10_000), Surroundings(str), lambda: 0.0).show(
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


ROWS: Final = "the author of a dataset"
POD: Final = "a pod of the namespace"
ATTEMPTS: dict[str, Attempt[Path]] = {
    "a column that is a template": Attempt(ROWS, column("{{ 7 * 7 }}${7*7}<%= 7*7 %>"), "{{ 7 * 7 }}${7*7}"),
    "a column that is a format": Attempt(
        ROWS, column("{0.__class__}{message}%s%n%x"), "{0.__class__}{message}%s%n%x"
    ),
    "a column that is a look-up": Attempt(ROWS, column("${jndi:ldap://evil}"), "${jndi:ldap://evil}"),
    "a column that is YAML": Attempt(ROWS, column("!!python/object:os.system [ls]"), "!!python/object"),
    "a column that is CEL": Attempt(ROWS, column("') || true || ('"), "|| true ||"),
    "a column that is markup of the terminal": Attempt(
        ROWS, column("[red]x[/][link=http://evil]"), "[red]x[/]"
    ),
    "a column that is read from right to left": Attempt(ROWS, column("a\u202eb"), "fits no format"),
    "a column that draws on the terminal": Attempt(
        ROWS, column("\x1b]8;;http://evil\x07x"), "fits no format"
    ),
    "a column with half a character": Attempt(ROWS, column("\ud800"), "fits no format"),
    "words that draw on the terminal": Attempt(
        POD, words("\x1b[2J\x1b]0;owned\x07gone"), "\ufffd[2J\ufffd]0;owned"
    ),
    "words with C1 codes": Attempt(POD, words("\x9b2Jgone"), "\ufffd2Jgone"),
    "words that turn the reading direction": Attempt(POD, words("a\u202e\u2066b"), "a\ufffd\ufffdb"),
    "words with lines of another script": Attempt(POD, words("a\u2028b\u2029c"), "a\ufffdb\ufffdc"),
    "words without end": Attempt(POD, words("x" * 10**6), "xxx…"),
    "a log that draws on the terminal": Attempt(POD, log("\x1b[2Jgone"), "\ufffd[2Jgone"),
    "a log with a credential": Attempt(POD, log("token=hf_abcdefghijkl"), "[redacted]"),
}


@pytest.mark.parametrize("sentence", ATTEMPTS)
def test_words_stay_words(sentence: str, tmp_path: Path) -> None:
    attempt = ATTEMPTS[sentence]
    said = attempt.try_(tmp_path)
    assert attempt.refusal in said
    assert said.replace("\n", "").isprintable()
    assert "hf_abcdefghijkl" not in said
    assert len(said) < 40_000
