"""One attempt at a training, in a process of its own: `python -m bench.resume.worker SITE GPUS NAME PRECISION
STEPS CUT`. At the step CUT it is asked to stop; 0 for never."""

import logging
import sys
from pathlib import Path

from bench.train.cases import Case
from bench.train.measure import train
from bench.train.site import Site
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.progress import Reporter
from stages.train_builders import Interrupting


def case(name: str, precision: str, steps: int) -> Case:
    return Case(f"{name} in {precision}", steps=steps, training={"precision": precision})


def main(root: str, gpus: str, name: str, precision: str, steps: str, cut: str) -> None:
    logging.basicConfig(level=logging.INFO)
    asked = int(cut)
    try:
        train(
            case(name, precision, int(steps)),
            Site(Path(root), int(gpus)),
            lambda path: Interrupting(path, asked) if asked else Reporter("train", path),
        )
    except StageError as stopped:
        if not asked or stopped.reason is not Reason.PREEMPTED:
            raise


if __name__ == "__main__":
    main(*sys.argv[1:])
