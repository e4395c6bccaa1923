"""What a person waits for in a local run of the sample: `python -m bench.local_run`.

The first run trains the real model; the second finds everything in the store. Times are from the start of
the command.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from bench.results import Row, write_results

ROOT: Final = Path(__file__).parents[2]
SAMPLE: Final = ROOT / "samples" / "smollm2-emollm.yaml"
BOUND_SECONDS: Final = 1200


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        fill_store(Path(folder))
        first = run(Path(folder))
        second = run(Path(folder))
    rows: list[Row] = [
        {"what": "first run: until the training's first step", "seconds": first["training"]},
        {"what": "first run: until complete", "seconds": first["complete"]},
        {"what": "second run, all four stages found in the store", "seconds": second["complete"]},
    ]
    write_results("local_run", rows)


def fill_store(folder: Path) -> None:
    """Model and data as `make demo` lays them out."""
    samples = folder / "lorafinetune-store" / "samples"
    model = samples / "SmolLM2-135M-Instruct"
    subprocess.run([sys.executable, ROOT / "samples" / "smollm2.py", model], check=True)
    shutil.copytree(ROOT / "samples" / "data" / "emollm", samples / "emollm")


def run(folder: Path) -> dict[str, float]:
    """Seconds until the first step and until the end."""
    began = time.monotonic()
    seen: dict[str, float] = {}
    process = subprocess.Popen(
        [sys.executable, "-c", "from lorafinetune.cli import main; main()", "run", str(SAMPLE)],
        cwd=folder,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.DEVNULL,
    )
    while process.poll() is None and time.monotonic() - began < BOUND_SECONDS:
        if "training" not in seen and any(
            map(has_stepped, folder.glob("lorafinetune-runs/*/*/*/progress.json"))
        ):
            seen["training"] = round(time.monotonic() - began, 1)
        time.sleep(0.1)
    if process.wait(timeout=1) != 0:
        raise SystemExit("the run failed")
    return seen | {"complete": round(time.monotonic() - began, 1)}


def has_stepped(progress: Path) -> bool:
    text = progress.read_text()
    return '"stage":"train"' in text and '"step":0' not in text and '"step":' in text


if __name__ == "__main__":
    main()
