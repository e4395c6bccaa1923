"""Lines of a log, for people or for machines: the operator's and the stages' have the same fields.

namespace, resource, uid and stage say which run a line is about; a line that is about none has none of them.
"""

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Literal

Form = Literal["text", "json"]

LOG_FORMAT: Final = "LORAFINETUNE_LOG_FORMAT"
"""The variable that says how operator and stages log."""
LOG_ABOUT: Final = "LORAFINETUNE_LOG_ABOUT"
"""The variable that says to a stage about which run it logs: NAMESPACE/RESOURCE/UID."""
RUN: Final = ("namespace", "resource", "uid")
FIELDS: Final = (*RUN, "stage")


class JsonFormatter(logging.Formatter):
    """One object a line. always: fields of every line; a record's own come first."""

    def __init__(self, always: Mapping[str, str] = {}) -> None:
        super().__init__()
        self._always = always

    def format(self, record: logging.LogRecord) -> str:
        values = {name: getattr(record, name, "") or self._always.get(name, "") for name in FIELDS}
        line = {"time": time_of(record), "level": record.levelname, "logger": record.name}
        line |= {name: value for name, value in values.items() if value}
        line |= {"message": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def time_of(record: logging.LogRecord) -> str:
    """RFC 3339, with milliseconds."""
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def about_run(told: str, stage: str) -> dict[str, str]:
    """The fields of a stage's lines. told: the value of the variable; empty: it is not known."""
    run = zip(RUN, told.split("/"), strict=False)
    return {name: value for name, value in run if value} | {"stage": stage}


def plain(line: str) -> list[str]:
    """What a line of either form says to a person: of one that is no such object, the line itself."""
    try:
        told = json.loads(line) if line.startswith("{") else None
    except ValueError:
        told = None
    if not isinstance(told, dict) or not {"level", "message"} <= told.keys():
        return [line]
    said = " ".join(filter(None, (str(told.get(name, "")) for name in ("time", "level", "message"))))
    return [*said.splitlines(), *str(told.get("exception", "")).splitlines()]
