"""The process that tells Weights & Biases of a run: `python -m lorafinetune_stages.tracking.wandb_client`.

What it tells comes as JSON on standard input, the key in WANDB_API_KEY.
"""

import json
import signal
import sys
from typing import Any, Final

import wandb

SILENT: Final[dict[str, Any]] = {
    "mode": "online",
    "silent": True,
    "console": "off",
    "disable_git": True,
    "disable_code": True,
    "save_code": False,
    "disable_job_creation": True,
    "host": "lorafinetune",
    "program": "lorafinetune",
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
    "x_skip_transaction_log": True,
    "x_primary": False,
}
"""Nothing is told of the machine, of what runs on it, and of what that says; and no file is sent, whose place
the server would choose."""


def main() -> None:
    told = json.load(sys.stdin)
    signal.alarm(told["within"])
    settings = wandb.Settings(
        **SILENT,
        base_url=told["endpoint"],
        http_proxy=told["proxy"],
        https_proxy=told["proxy"],
        root_dir=".",
        init_timeout=told["within"],
        finish_timeout=told["within"],
        finish_timeout_raises=True,
    )
    _tell(told, settings)


def _tell(record: dict[str, Any], settings: wandb.Settings) -> None:
    """A run that is there is gone on with: of its history only later steps are added."""
    where = {name: record[name] for name in ("entity", "project", "id", "name", "config")}
    with wandb.init(**where, resume="allow", settings=settings) as run:
        for step, values in record["points"]:
            run.log(values, step=step)
        run.summary.update(record["results"])


if __name__ == "__main__":
    main()
