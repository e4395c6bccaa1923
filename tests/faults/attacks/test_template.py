"""A chat template is a program of the model's author, which the preparation runs to compare it with ours."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from faults.attacks.written import Written, attempts
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.prepare import sandbox
from stages.peer import smollm2
from stages.prepare_builders import EMOLLM, Bench

pytestmark = pytest.mark.model

IDENTITY: Final = (EMOLLM / "self_cognition_EmoLLM.json").read_bytes()


def template(text: str) -> Callable[[Path], str]:
    """What the preparation ends with, or warns of, for a model that comes with this."""

    def attempt(directory: Path) -> str:
        text_of = text.replace("MARK", str(directory / "mark"))
        bench = Bench(directory / "bench", smollm2() | {"chat_template.jinja": text_of.encode()}).add(
            IDENTITY
        )
        try:
            return "\n".join(bench.run("smollm2").warnings)
        except StageError as refused:
            return refused.message

    return attempt


class Template(Written):
    """template: in which MARK is the path of a file that must not come to be."""

    template: str


ATTEMPTS: Final = attempts("templates", Template, lambda file: template(file.template))


@pytest.mark.parametrize("sentence", ATTEMPTS)
def test_does_not_run(sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "CPU_SECONDS", 2)
    attempt = ATTEMPTS[sentence]
    assert attempt.refusal in attempt.try_(tmp_path)
    assert not (tmp_path / "mark").exists()
