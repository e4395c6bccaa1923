"""A chat template is a program of the model's author, which the preparation runs to compare it with ours."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from faults.attacks.attempt import Attempt
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.prepare import bounded
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


A: Final = "the author of a model"
ENDLESS: Final = "its chat template does not come to an end"
NOT_RUN: Final = "the model has no chat template of its own to compare the template with"
LOOP: Final = "{% for a in range(99999) %}" * 4 + "{% endfor %}" * 4
ATTEMPTS: dict[str, Attempt[Path]] = {
    "loops in loops": Attempt(A, template(LOOP), ENDLESS),
    "a number of a billion digits": Attempt(A, template("{{ 9**(9**9) }}"), ENDLESS),
    "a text of ten gigabytes": Attempt(A, template("{{ 'x' * 10**10 }}"), NOT_RUN),
    "a program of the shell, by a function's globals": Attempt(
        A, template("{{ cycler.__init__.__globals__.os.popen('touch MARK').read() }}"), NOT_RUN
    ),
    "a program of the shell, by all classes": Attempt(
        A, template("{{ ''.__class__.__mro__[1].__subclasses__() }}"), NOT_RUN
    ),
    "a program of the shell, by the format of a text": Attempt(
        A, template("{{ '{0.__class__.__init__.__globals__}'.format(messages) }}"), NOT_RUN
    ),
    "a file of the pod, by an include": Attempt(A, template("{% include '/proc/self/environ' %}"), NOT_RUN),
}


@pytest.mark.parametrize("sentence", ATTEMPTS)
def test_does_not_run(sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "CPU_SECONDS", 2)
    attempt = ATTEMPTS[sentence]
    assert attempt.refusal in attempt.try_(tmp_path)
    assert not (tmp_path / "mark").exists()
