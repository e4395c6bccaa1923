"""One training in a process of its own: `python -m bench.parity.worker SITE GPUS MODEL STEPS NUMBER`.

It imports everything, and begins when it reads a line from its input. Its last line of output is the curve.
"""

import json
import logging
import sys
from pathlib import Path

from bench.parity.cases import trainings
from bench.parity.models import MODELS
from bench.train.measure import run
from bench.train.site import Site
from lorafinetune.contract import keys
from lorafinetune.contract.arguments import METRICS, place
from stages.train_builders import stand_in


def main(root: str, gpus: str, model: str, steps: str, number: str) -> None:
    from lorafinetune_stages.train import launch

    assert launch
    logging.basicConfig(level=logging.INFO)
    sys.stdin.readline()
    site = Site(Path(root), int(gpus))
    asked = MODELS[model]
    training = trainings(site.gpus, int(steps), asked.training, asked.in_fp16)[int(number)]
    run(training.case, site, sustained_flops=1.0)
    where = place("trainings", keys.digest(training.case.name))
    lines = (stand_in(site.root).root / where / METRICS).read_text().splitlines()
    logged = [json.loads(line) for line in lines]
    curve = {
        "settings": training.settings,
        "seed": training.seed,
        "losses": [row["loss"] for row in logged],
        "tokens": [row["tokens"] for row in logged],
        "lost": [row["step"] for row in logged if "grad_norm" not in row],
    }
    sys.stdout.write(f"\n{json.dumps(curve)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
