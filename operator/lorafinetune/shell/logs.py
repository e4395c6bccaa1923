"""One line of the log for each decision, about which resource, for people or for machines."""

import logging
import sys
from typing import Final

from lorafinetune.contract.loglines import Form, JsonFormatter, time_of
from lorafinetune.shell.writer import ABOUT

QUIET: Final = {"kopf": logging.WARNING, "aiohttp.access": logging.WARNING}
"""Loggers that say more than anybody reads."""


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.000Z INFO team-a/tune: created Job …`."""

    def format(self, record: logging.LogRecord) -> str:
        about = "/".join(str(value) for name in ABOUT if (value := getattr(record, name, "")))
        said = f"{about}: {record.getMessage()}" if about else record.getMessage()
        line = f"{time_of(record)} {record.levelname} {said}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def configure(form: Form) -> None:
    """Logs to the standard error stream."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name, level in QUIET.items():
        logging.getLogger(name).setLevel(level)
