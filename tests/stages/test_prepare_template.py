"""The template is compared with the model's own on rows of the data, too: of the real small model."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from stages.peer import smollm2
from stages.prepare_builders import Bench, json_lines

pytestmark = pytest.mark.model

START = "<|im_start|>{{ message.role }}\n"
END = "<|im_end|>\n{% endfor %}"
LOOP = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face.<|im_end|>\n{% endif %}"
    "{% for message in messages %}"
)
OWN = LOOP + START + "{{ message.content }}" + END
STRIPPING = LOOP + START + "{{ message.content | trim }}" + END
COUNTING = LOOP + START + "{{ 'late: ' if loop.index > 5 }}{{ message.content }}" + END
READING = LOOP + START + "{{ message.content | replace('Oslo', 'oslo') }}" + END
REFUSING = "{% if tools %}{{ raise_exception('no tools') }}{% endif %}" + OWN
TALKATIVE = (
    LOOP + START + "{{ message.content }}{% if message.content == 'hang' %}{{ 'x' * 2**21 }}{% endif %}" + END
)

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS = [{"name": "weather", "description": "of a city", "parameters": PARAMETERS}]


def talk(*texts: str, **more: Any) -> dict[str, Any]:
    turns = [{"from": "gpt" if at % 2 else "human", "value": text} for at, text in enumerate(texts)]
    return {"conversations": turns, **more}


CALL = {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Oslo"}}'}
RESULT = {"from": "observation", "value": '{"rain": 1}'}
CALLING = {
    "conversations": [{"from": "human", "value": "W?"}, CALL, RESULT, {"from": "gpt", "value": "Wet."}],
    "tools": TOOLS,
}


@dataclass(frozen=True)
class Case:
    """differs: what the refusal says; empty where there is none. warning: what is said in its place."""

    own: str
    rows: list[dict[str, Any]]
    differs: str = ""
    warning: str = ""


AT = " at datasets[0]: rows.jsonl"
CASES: dict[str, Case] = {
    "the same": Case(OWN, [talk("q", "a"), talk(*"qaqaqa", system="s")]),
    "blanks at the ends stripped": Case(STRIPPING, [talk(" q\n", "\na  ", system=" s\n")]),
    "a third round otherwise": Case(
        COUNTING,
        [talk("q", "a"), talk("q", "a", "q", "a", "q", "a")],
        f"the model{AT}:2: ",
    ),
    "some texts otherwise": Case(READING, [talk("Oslo?", "a")], f"the model{AT}:1: "),
    "no tools": Case(
        OWN,
        [talk("q", "a", system="s", tools=TOOLS)],
        warning=f"template smollm2 writes tools otherwise than the model's own{AT}:1: ",
    ),
    "a result of a tool otherwise": Case(
        OWN,
        [talk("q", "a"), CALLING | {"tools": ""}],
        warning=f"template smollm2 writes tools otherwise than the model's own{AT}:2: ",
    ),
    "an error for tools": Case(
        REFUSING, [CALLING], warning="the model's own template refuses rows like datasets[0]: rows.jsonl:1"
    ),
}


@pytest.fixture(scope="module")
def model() -> Mapping[str, bytes]:
    return smollm2()


def with_own(root: Path, model: Mapping[str, bytes], own: str) -> Bench:
    return Bench(root, {**model, "chat_template.jinja": f"{own}{{# named SmolLM #}}".encode()})


def refusal(bench: Bench) -> StageError:
    with pytest.raises(StageError) as caught:
        bench.run()
    return caught.value


@pytest.mark.parametrize("sentence", [name for name in CASES if not CASES[name].differs])
def test_the_template_fits_a_model_that_writes(
    sentence: str, tmp_path: Path, model: Mapping[str, bytes]
) -> None:
    case = CASES[sentence]
    bench = with_own(tmp_path, model, case.own).add(json_lines(case.rows))
    report = bench.report(bench.run().key)
    told = [warning for warning in report["warnings"] if "the model's own" in warning]
    assert [case.warning in warning for warning in told] == [True] * bool(case.warning)
    texts = (
        ["model with tools", "template with tools", "row with tools"] if "otherwise" in case.warning else []
    )
    assert list(report["templateDifferences"]) == texts
    assert bench.run().cache_hit


@pytest.mark.parametrize("sentence", [name for name in CASES if CASES[name].differs])
def test_the_template_fits_no_model_that_writes(
    sentence: str, tmp_path: Path, model: Mapping[str, bytes]
) -> None:
    """It is refused before the rows are prepared and after, and good where it is declared."""
    case = CASES[sentence]
    bench = with_own(tmp_path, model, case.own).add(json_lines(case.rows))
    first = refusal(bench)
    assert case.differs in first.message
    result = bench.run("smollm2")
    assert result.warnings[0].startswith("template smollm2 differs from the model's own at datasets[0]: ")
    assert set(bench.report(result.key)["templateDifferences"]) == {"model", "template", "row"}
    assert refusal(bench).message == first.message


def test_a_template_that_comes_to_no_end_with_a_row_is_refused(
    tmp_path: Path, model: Mapping[str, bytes]
) -> None:
    bench = with_own(tmp_path, model, TALKATIVE).add(json_lines([talk("hang", "a")]))
    assert refusal(bench).reason is Reason.MODEL_UNSUPPORTED
