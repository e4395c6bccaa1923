"""The page about a run: one file that contains its pictures and style."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from jinja2 import Template

from lorafinetune.contract.answers import CUT
from lorafinetune.contract.times import duration, moment
from lorafinetune.report.curve import HEIGHT, WIDTH, Chart, chart
from lorafinetune.report.language import Language
from lorafinetune.report.leaves import flat
from lorafinetune.report.loading import Origin, ways
from lorafinetune.report.sources import LengthBin, Run, Sources
from lorafinetune.report.templates import environment
from lorafinetune.report.texts import Speaker
from lorafinetune.report.verdict import FEWEST_ROWS, verdict

TEMPLATE: Final = "page.html.jinja"
BEGINNING: Final = "<!doctype html>\n<!-- report of lorafinetune -->\n"
"""By which a page of ours is known."""
MANY_DOTS: Final = 40
"""More of them are drawn small, as they would be one thick line."""
BARS_WIDTH: Final = 480
BARS_HEIGHT: Final = 120


def render(sources: Sources, language: Language, origin: Origin) -> str:
    """The whole page."""
    say = Speaker(language)
    page = _template().render(language=language.value, say=say, **_facts(sources, origin))
    return f"{BEGINNING}{page}\n"


@functools.cache
def _template() -> Template:
    return environment(Path(__file__).parent).get_template(TEMPLATE)


def _facts(sources: Sources, origin: Origin) -> dict[str, Any]:
    run = sources.run
    return {
        "run": run,
        "status": run.status,
        "verdict": verdict(sources),
        "needed": FEWEST_ROWS,
        "trained": sources.is_trained,
        "unit": "perPair" if run.objective == "dpo" else "perToken",
        "loss": _loss(sources),
        "rate": chart([(r.step, r.learning_rate) for r in sources.log if r.learning_rate is not None]),
        "answers": sources.answers,
        "cut": CUT,
        "data": sources.data,
        "bars": _bars(sources.data.rows_by_length) if sources.data else [],
        "durations": _durations(run),
        "ways": ways(run, origin),
        "outputs": [(kind, made, flat(made.lineage)) for kind, made in sources.outputs.items()],
        "width": WIDTH,
        "height": HEIGHT,
        "many": MANY_DOTS,
        "bars_width": BARS_WIDTH,
        "bars_height": BARS_HEIGHT,
    }


def _loss(sources: Sources) -> Chart | None:
    trained = [(row.step, row.loss) for row in sources.log if row.loss is not None]
    held_out = [
        (row.step, row.eval_loss) for row in sources.log if row.eval_loss is not None and not row.exported
    ]
    return chart(trained, held_out)


def _bars(bins: tuple[LengthBin, ...]) -> list[dict[str, Any]]:
    """The histogram in pixels from the top left."""
    most = max((each.rows for each in bins), default=0) or 1
    width = BARS_WIDTH / max(1, len(bins))
    return [
        {
            "x": round(index * width + 3, 1),
            "width": round(width - 6, 1),
            "middle": round((index + 0.5) * width, 1),
            "height": round(BARS_HEIGHT * each.rows / most, 1),
            "rows": each.rows,
            "up_to": each.up_to,
        }
        for index, each in enumerate(bins)
    ]


def _durations(run: Run) -> Mapping[str, str]:
    """How long the stages took that have come to an end."""
    ended = ((s.name, moment(s.start_time), moment(s.completion_time)) for s in run.status.stages)
    return {
        name: duration(max(0, int((end - start).total_seconds())))
        for name, start, end in ended
        if start and end
    }
