"""What a stranger's program may take of the processor and of the memory; it leaves this process alone."""

import itertools
import os
import signal
from collections.abc import Callable

import pytest

from lorafinetune_stages.prepare import sandbox as module
from lorafinetune_stages.prepare.sandbox import MAX_ANSWER_BYTES, Texts, bounded


def endless() -> Texts:
    for _ in itertools.count():
        pass
    return []


def waiting() -> Texts:
    signal.pause()
    return []


def crashing() -> Texts:
    os.kill(os.getpid(), signal.SIGKILL)
    return []


OUT_OF_BOUNDS: dict[str, Callable[[], Texts]] = {
    "never ends": endless,
    "waits for what never comes": waiting,
    "computes a number of a billion digits": lambda: [str(9**9**9)],
    "takes ten gigabytes": lambda: ["x" * 10**10],
    "says too much": lambda: ["x" * MAX_ANSWER_BYTES],
    "crashes": crashing,
    "raises": lambda: [str(1 // 0)],
}


@pytest.mark.parametrize("sentence", OUT_OF_BOUNDS)
def test_nothing_comes_of_what(sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CPU_SECONDS", 1)
    monkeypatch.setattr(module, "SECONDS", 2)
    assert bounded(OUT_OF_BOUNDS[sentence]) is None


def test_what_stays_in_bounds_is_given() -> None:
    seen: list[int] = []

    def render() -> Texts:
        seen.append(1)
        return ["你好", None]

    assert bounded(render) == ["你好", None]
    assert not seen, "it ran in a copy"
