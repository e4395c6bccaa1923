"""The operator as its image starts it, but what takes minutes takes seconds: `MODULE:NAME=SECONDS …` sets
constants before anything runs.
"""

import sys
from datetime import timedelta
from importlib import import_module

from lorafinetune.shell.__main__ import main


def hurry(setting: str) -> None:
    where, _, seconds = setting.partition("=")
    module, _, name = where.partition(":")
    there = getattr(import_module(module), name)
    hasty = float(seconds)
    setattr(
        import_module(module),
        name,
        timedelta(seconds=hasty) if isinstance(there, timedelta) else type(there)(hasty),
    )


if __name__ == "__main__":
    for given in sys.argv[1:]:
        hurry(given)
    sys.exit(main())
