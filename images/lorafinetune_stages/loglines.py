"""How a stage logs: for people, or with the fields by which a machine finds the lines of a run."""

import logging
import os

from lorafinetune.api.status import StageName
from lorafinetune.contract.loglines import LOG_ABOUT, LOG_FORMAT, JsonFormatter, about_run
from lorafinetune_stages.credentials import clear_streams


def configure(stage: StageName | None) -> None:
    """Logs to the standard error stream. What libraries write there themselves has no fields. No credential
    is left in either."""
    clear_streams()
    handler = logging.StreamHandler()
    if os.environ.get(LOG_FORMAT) == "json" and stage:
        handler.setFormatter(JsonFormatter(about_run(os.environ.get(LOG_ABOUT, ""), stage)))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
