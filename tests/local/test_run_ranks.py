"""A local run whose training is shared by several processes, as GPUs share one."""

import json
import signal
from pathlib import Path

import pytest

from local.runs import desk
from local.test_run import wait_for_step
from lorafinetune_stages.train.device import CPU_RANKS_VARIABLE

pytestmark = pytest.mark.model

TWO = {CPU_RANKS_VARIABLE: "2"}


def test_ctrl_c_stops_all_of_them_after_a_checkpoint_and_the_same_command_goes_on(tmp_path: Path) -> None:
    made = desk(tmp_path)
    samples = made.samples.as_uri()
    made.edit({"model": {"source": f"{samples}/tiny"}, "datasets": [{"source": f"{samples}/rows.jsonl"}]})
    made.edit({"training": {"maxSteps": 60, "evaluation": {"everySteps": 20}, "checkpoint": {"every": 10}}})
    runner = made.start(**TWO)
    wait_for_step(made, 5)
    runner.send_signal(signal.SIGINT)
    out, _ = runner.communicate(timeout=120)
    assert runner.returncode == 85, out
    code, out = made.finish(**TWO)
    assert code == 0, out
    assert made.status()["training"]["step"] == 60
    (manifest,) = tmp_path.glob("lorafinetune-store/runs/test/trainings/*/manifest.json")
    lineage = json.loads(manifest.read_text())["lineage"]
    assert (lineage["hardware"]["ranks"], lineage["resumes"]) == (2, 1)
    kept = [path for path in (tmp_path / "lorafinetune-store" / "runs").rglob("*") if path.is_file()]
    assert [path for path in kept if str(tmp_path).encode() in path.read_bytes()] == []
