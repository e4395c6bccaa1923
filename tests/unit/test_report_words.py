"""The words of the page about a run: in both languages, to be read, and to be typed."""

import re
import string
from pathlib import Path

import pytest

from lorafinetune.report.language import Language
from lorafinetune.report.loading import Origin, ways
from lorafinetune.report.page import render
from lorafinetune.report.sources import DataReport, Run, Sources
from lorafinetune.report.texts import TEXTS
from unit.report_runs import data_report, ended, logged, steps

RUN = ended()

NAMED = "lorafinetune fetch team-a/tune --what merged --to model --s3"
LOADED: dict[str, tuple[Origin, str]] = {
    "a file is read again": (
        Origin("runs/tune.yaml", ""),
        "lorafinetune fetch runs/tune.yaml --what merged --to model",
    ),
    "another store is named": (
        Origin("a b.yaml", "--store 'my store'"),
        "lorafinetune fetch 'a b.yaml' --what merged --to model --store 'my store'",
    ),
    "a run on the cluster is asked for": (Origin(), NAMED),
}


@pytest.mark.parametrize("sentence", LOADED)
def test_how_the_result_is_loaded(sentence: str) -> None:
    origin, expected = LOADED[sentence]
    merged, adapter, _ = ways(Run.of(RUN), origin)
    assert merged.command == expected
    assert 'AutoTokenizer.from_pretrained("owner/model", revision="c0ffee")' in adapter.python
    compile(merged.python + adapter.python, "page", "exec")


def test_both_languages_say_the_same() -> None:
    def fields(text: str) -> set[str | None]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}

    assert [key for key, (english, chinese) in TEXTS.items() if fields(english) != fields(chinese)] == []
    assert [key for key, texts in TEXTS.items() if not all(texts)] == []


def test_every_text_is_said() -> None:
    folder = Path(render.__code__.co_filename).parent
    said = "".join(
        path.read_text() for path in folder.iterdir() if path.name != "texts.py" and path.is_file()
    )
    assert [key for key in TEXTS if f'"{key}"' not in said] == []


def test_words_can_be_read_in_light_and_in_dark() -> None:
    sources = Sources(Run.of(RUN), logged(steps(1)), DataReport.model_validate(data_report()), {})
    page = render(sources, Language.EN, Origin())
    light, dark = (dict(re.findall(r"--(\w+): #(\w{6})", block)) for block in re.split("prefers-color", page))
    assert set(light) == set(dark)
    for colors in (light, dark):
        for words in ("text", "quiet"):
            backgrounds = ["page", "box"] + (["learned", "warning", "bad", "good"] if words == "text" else [])
            assert min(contrast(colors[words], colors[each]) for each in backgrounds) >= 4.5
        assert min(contrast(colors[each], colors["page"]) for each in ("curve", "dot")) >= 3


def contrast(one: str, other: str) -> float:
    """By the formula of the web's accessibility guidelines."""

    def luminance(color: str) -> float:
        parts = [int(color[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)
