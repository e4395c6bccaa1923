"""Watching a run over a slow link: what is said of it holds for a large run."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
import yaml

from apiserver.operating import Namespace
from apiserver.slow import linked
from apiserver.test_cli import Json, told, watches
from cluster.apiserver import ApiServer
from documents import ROOT
from forked import Call, forking

BYTES_PER_SECOND: Final = 8 * 1024
DELAY: Final = 0.3
CHANGES: Final = 4
BOUND: Final = 12_000
"""Bytes of a change: docs/how-to/cli.md says ten kilobytes, and the link adds headers of TLS."""

SCREENS: Final = {"a pipe": (0, "train began as Job lft-train-1"), "a terminal": (160, "▶ train ")}
"""Columns, and what is shown of the stage there."""


def training(step: int) -> Json:
    """As long as a status gets: the stages before it, and all points that are kept."""
    points = [{"step": step + n, "loss": f"1.{n:03}"} for n in range(32)]
    stages: list[Json] = [
        {"name": name, "state": "Complete", "attempts": 1, "job": f"lft-{name}-1"}
        for name in ("download", "prepare")
    ]
    running = {"name": "train", "state": "Running", "attempts": 1, "job": "lft-train-1"}
    progress = {"done": step, "total": 100, "unit": "steps"}
    numbers = {"step": step, "totalSteps": 100, "epoch": "1.5", "loss": "1.25", "tokensPerSecond": 2000}
    return {
        "stages": [*stages, running | {"progress": progress}],
        "training": numbers | {"recent": points},
        "checkpoint": {"step": step, "uri": "s3://emollm/checkpoints"},
    }


@pytest.mark.parametrize("sentence", SCREENS)
def test_watch_shows_a_large_run_over_a_slow_link_to(
    sentence: str, served: ApiServer, own_namespace: Namespace, tmp_path: Path
) -> None:
    columns, shown = SCREENS[sentence]
    recipe = yaml.safe_load((ROOT / "samples" / "emollm-glm4.yaml").read_text())
    own_namespace.apply("tune", recipe["spec"])
    told(own_namespace, "tune", "Train", training(0))
    others = watches(served)
    config = yaml.safe_load(served.kubeconfig.read_text())
    server = urlsplit(config["clusters"][0]["cluster"]["server"])
    with (
        linked((server.hostname or "", server.port or 0), BYTES_PER_SECOND, DELAY) as link,
        forking(HOME=str(tmp_path), TERM="xterm", NO_COLOR="1", COLUMNS="") as call,
        ThreadPoolExecutor() as elsewhere,
    ):
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{link.port}"
        (tmp_path / "slow").write_text(yaml.safe_dump(config))
        words = ("watch", "tune", "-n", own_namespace.name, "--kubeconfig", "slow")
        watching = elsewhere.submit(call, Call(words, str(tmp_path), columns))
        own_namespace.wait(lambda: watches(served) > others)
        before = link.received
        for step in range(1, CHANGES):
            told(own_namespace, "tune", "Train", training(10 * step))
        last = 10 * CHANGES
        told(own_namespace, "tune", "Suspended", training(last), reason="Suspended", true="Suspended")
        ended = watching.result(60)
    assert ended.code == 85
    assert "NoAnswer" not in ended.out
    assert shown in ended.out
    assert f"suspended at step {last};" in ended.out.splitlines()[-1]
    assert (link.received - before) / CHANGES < BOUND
