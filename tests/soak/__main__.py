"""Thousands of short lives under one operator, which must not grow by them: `python -m soak --lives 2000`.

The API server and the controllers are the real ones; what a kubelet would do is done at once. What came of it
is kept in docs/results/soak.json. The exit status is 1 where something is left or has grown.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from bench.results import write_results
from soak.soaking import soak

NAME: Final = "soak"


def main() -> int:
    options = argparse.ArgumentParser(prog=NAME)
    options.add_argument("--lives", type=int, default=2000)
    options.add_argument("--at-once", type=int, default=16, help="how many lives there are beside each other")
    options.add_argument("--minutes", type=float, default=240, help="begin no life after this time")
    options.add_argument("--seed", type=int, default=7)
    given = options.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        soaked = soak(Path(folder), given.lives, given.at_once, 60 * given.minutes, given.seed)
    others = {"seed": given.seed, "lives": soaked.lives, "seconds": round(time.monotonic() - began)}
    write_results(NAME, soaked.rows(), **others, complaints=soaked.complaints())
    sys.stderr.write("".join(f"{complaint}\n" for complaint in soaked.complaints()))
    return int(bool(soaked.complaints()))


if __name__ == "__main__":
    sys.exit(main())
