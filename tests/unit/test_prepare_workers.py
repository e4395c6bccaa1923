"""Work that processes share: in order, and with an end whatever happens to them."""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.prepare import workers
from lorafinetune_stages.prepare.findings import Kind, RowError
from lorafinetune_stages.prepare.workers import in_order, processors, spare_processors

TASKS = range(50)
FEW = 4
SECONDS = 30.0

PARENT = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from lorafinetune_stages.prepare import workers
workers.processors = lambda: 2
def work(number):
    import os
    os.write(1, b"%d\\n" % os.getpid())  # in one piece: two processes write
    time.sleep(0.05)
list(workers.in_order(work, range(10**6), 4))
"""


@pytest.fixture(autouse=True)
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "processors", lambda: 2)


def in_a_copy(do: Callable[[], object]) -> Callable[[int], int]:
    """Work that does it in any process but this one."""
    here = os.getpid()

    def work(number: int) -> int:
        if os.getpid() != here:
            do()
        time.sleep(0.001)
        return number

    return work


def is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_results_come_in_the_order_of_the_tasks(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(workers, "processors", lambda: count)

    def work(number: int) -> tuple[int, int]:
        time.sleep(0.002 * (number % 3))
        return number, os.getpid()

    found = list(in_order(work, TASKS, FEW))
    assert [number for number, _ in found] == [*TASKS]
    assert len({process for _, process in found}) == count


def test_an_array_is_good_until_the_next_is_asked_for() -> None:
    found = in_order(lambda number: np.full(1000, number), TASKS, FEW)
    assert all((array == number).all() for number, array in enumerate(found))


def test_few_tasks_are_done_by_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    found = set(in_order(lambda _: os.getpid(), range(FEW), FEW))
    assert found == {os.getpid()}


def test_threads_have_what_copies_leave() -> None:
    here = os.getpid()
    found = list(in_order(lambda _: (os.getpid() == here, spare_processors()), TASKS, FEW))
    assert {spare for is_here, spare in found if not is_here} == {1}
    assert spare_processors() == 2


@pytest.mark.parametrize(
    "problem",
    [
        pytest.param(StageError(Reason.DATASET_INVALID, "what", "do"), id="a failure of the stage"),
        pytest.param(RowError(Kind.ROLES, "field", "what"), id="a bad row"),
        pytest.param(FileNotFoundError(2, "no such file", "a"), id="an error of the system"),
    ],
)
def test_what_is_raised_there_is_raised_here(problem: Exception) -> None:
    def fail() -> None:
        raise problem

    with pytest.raises(type(problem)) as caught:
        list(in_order(in_a_copy(fail), TASKS, FEW))
    assert (str(caught.value), vars(caught.value)) == (str(problem), vars(problem))


def test_a_process_that_is_killed_is_an_error_with_a_reason() -> None:
    work = in_a_copy(lambda: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(StageError) as caught:
        list(in_order(work, TASKS, FEW))
    assert caught.value.reason is Reason.HOST_OUT_OF_MEMORY


def test_a_process_that_leaves_by_itself_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="ended with exit code 3"):
        list(in_order(in_a_copy(lambda: os._exit(3)), TASKS, FEW))


def test_what_this_process_fails_at_comes_after_what_was_asked_for_before() -> None:
    here, seen = os.getpid(), list[int]()

    def work(number: int) -> int:
        time.sleep(0.01)
        if os.getpid() == here and number > 10:
            raise FileNotFoundError(2, "no such file", str(number))
        return number

    results = map(seen.append, in_order(work, TASKS, FEW))
    with pytest.raises(FileNotFoundError) as caught:
        deque(results, maxlen=0)
    assert seen == [*range(int(caught.value.filename))]


def test_no_process_is_left_where_nobody_waits_for_the_rest() -> None:
    results = in_order(lambda _: os.getpid(), iter(TASKS), FEW)
    processes = {next(results) for _ in range(20)} - {os.getpid()}
    assert len(processes) == 1
    results.close()
    assert not any(map(is_alive, processes))


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_where_the_first_is_ended(ending: signal.Signals) -> None:
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as parent:
        assert parent.stdout
        seen: set[int] = set()
        while len(seen) < 2:
            seen.add(int(parent.stdout.readline()))
        parent.send_signal(ending)
        parent.wait()
        wait_until(lambda: not any(map(is_alive, seen)))


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        pytest.param("max 100000", 8, id="no limit"),
        pytest.param("200000 100000", 2, id="two processors"),
        pytest.param("150000 100000", 2, id="one and a half"),
        pytest.param("10000 100000", 1, id="a tenth"),
        pytest.param(None, 8, id="no control group"),
    ],
)
def test_a_container_uses_as_many_processors_as_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str | None, expected: int
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(workers, "LIMIT", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    if limit:
        (tmp_path / "cpu.max").write_text(f"{limit}\n")
    assert processors() == expected
