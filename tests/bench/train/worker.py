"""One case in a process of its own, so that none inherits another's memory or compiled code:
`python -m bench.train.worker SITE GPUS CASES NUMBER RANK`. It imports everything, and begins when it reads
the card's sustained rate from its input. Its last line of output is the row."""

import json
import logging
import sys
from pathlib import Path

from bench.train import cases
from bench.train.measure import run
from bench.train.site import Site


def main(root: str, gpus: str, table: str, number: str, rank: str) -> None:
    from lorafinetune_stages.train import launch

    assert launch
    logging.basicConfig(level=logging.INFO)
    sustained = float(sys.stdin.readline())
    row = run(getattr(cases, table)[int(number)], Site(Path(root), int(gpus)), sustained, int(rank))
    sys.stdout.write(f"\n{json.dumps(row)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
