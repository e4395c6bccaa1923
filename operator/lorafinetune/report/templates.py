"""What our pages share: their style, and the rule that nothing on them can do harm.

Their content comes from strangers, so everything is escaped, and characters that could hide or reverse text
are shown as a replacement character.
"""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lorafinetune.api.safetext import safe


def environment(folder: Path) -> Environment:
    """For the templates of a folder; they include `head.html.jinja`, which lets a page load nothing."""
    made = Environment(
        loader=FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["number"] = lambda value: f"{value:,}"
    made.filters["percent"] = lambda value: f"{value:.1%}"
    made.filters["short"] = lambda value: f"{value:.4g}"
    made.filters["signed"] = lambda value: f"{value:+.3g}".replace("-", "\N{MINUS SIGN}")
    return made


def _shown(value: Any) -> Any:
    """A text without what could deceive; what is markup of our own stays."""
    is_text = isinstance(value, str) and not isinstance(value, Markup)
    return safe(value) if is_text else value
