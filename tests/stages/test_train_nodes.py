"""A training on several nodes: each is a stage with a scratch directory of its own, and they meet by
an address. They learn what one learns, and end together.
"""

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from cluster.process import free_port
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.arguments import INDEX_VARIABLE, MEETING_VARIABLE, NODES_VARIABLE
from lorafinetune.contract.outcome import ExitCode
from stages.test_train_processes import Stage, is_at
from stages.test_train_ranks import EVALUATION, EXACT, SHORT_OF_MEMORY, numbers, ranks_of
from stages.train_builders import World, random_rows, world

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]

STEPS = 24
SLOW_STORE = """
import sys

if "lorafinetune_stages" in sys.orig_argv:
    import time

    from lorafinetune_stages.store.directory import DirectoryStore
    from lorafinetune_stages.train import worker_group

    upload, worker_group.LAST_WORDS_SECONDS = DirectoryStore.upload, 1.0

    def slowly(self, path, key, *others):
        time.sleep(4 if key.endswith("optimizer.pt") else 0)
        return upload(self, path, key, *others)

    DirectoryStore.upload = slowly
"""
"""What every Python begins with that finds it: a checkpoint takes longer than ranks get that lost another."""

CRASHES_IN_THE_END = """
import os, signal, sys

if "lorafinetune_stages" in sys.orig_argv and '"rank":0,' in os.environ.get("LORAFINETUNE_RANK", ""):
    from lorafinetune_stages.train import launch

    launch.disconnect = lambda: os.kill(os.getpid(), signal.SIGSEGV)
"""
"""The same: the rank that leads crashes when its adapter is in the store, and all know it."""


def two_free_ports() -> int:
    """The first of two that follow one another."""
    while (port := free_port()) % 2:
        continue
    return port


@contextmanager
def nodes(made: World, root: Path, monkeypatch: pytest.MonkeyPatch, count: int = 2) -> Iterator[list[Stage]]:
    """The stages of all nodes, on one machine."""
    root.mkdir()
    port = two_free_ports()
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    monkeypatch.setenv(NODES_VARIABLE, str(count))
    monkeypatch.setenv(MEETING_VARIABLE, f"127.0.0.1:{port}")
    with ExitStack() as stack:
        stages = []
        for index in range(count):
            monkeypatch.setenv(INDEX_VARIABLE, str(index))
            stages.append(stack.enter_context(Stage(made, root / str(index))))
        for variable in (NODES_VARIABLE, MEETING_VARIABLE, INDEX_VARIABLE):
            monkeypatch.delenv(variable)
        yield stages


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, str]:
    """A training of 24 steps on two nodes that nobody disturbed, with dropout, and its adapter's digest."""
    root = tmp_path_factory.mktemp("whole")
    made = world(root, epochs="8", checkpoint={"every": 2})
    with pytest.MonkeyPatch.context() as patch, nodes(made, root / "nodes", patch) as stages:
        assert [stage.end() for stage in stages] == [ExitCode.DONE, ExitCode.DONE]
        return made, stages[0].result().adapter.digest


def test_two_nodes_learn_what_one_rank_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields: Mapping[str, Any] = {**EXACT, "evaluation": EVALUATION}
    made = world(tmp_path / "one", **fields)
    together = made.copy(tmp_path / "two")
    with nodes(together, tmp_path / "nodes", monkeypatch) as stages:
        assert [stage.end() for stage in stages] == [ExitCode.DONE, ExitCode.DONE]
        told = [stage.result() for stage in stages]
        progress = [stage.progress() for stage in stages]
    made.train()
    assert numbers(together.metrics()) == pytest.approx(numbers(made.metrics()), rel=1e-5)
    assert told[0] == told[1]
    for side in ("base", "tuned"):
        assert together.compared()[side] == pytest.approx(made.compared()[side], rel=1e-5)
    assert together.manifest().lineage["hardware"]["ranks"] == 2
    assert progress[0] is not None
    assert progress[1] is None


def test_two_nodes_that_are_stopped_and_lost_end_with_the_same_adapter(
    whole: tuple[World, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, digest = whole
    left = made.copy(tmp_path / "world")
    left.store.delete(f"trainings/{left.arguments.key}")
    with nodes(left, tmp_path / "stopped", monkeypatch) as (first, second):
        first.wait_until(is_at(3))
        second.process.send_signal(signal.SIGTERM)
        assert [first.end(), second.end()] == [ExitCode.STOPPED, ExitCode.STOPPED]
        step = left.checkpoints()[-1]
        said = {stage.error().message for stage in (first, second)}
        assert said == {f"saved a checkpoint at step {step} of {STEPS}"}
    with nodes(left, tmp_path / "lost", monkeypatch) as (first, second):
        first.wait_until(is_at(step + 3))
        os.kill(ranks_of(second)[0], signal.SIGKILL)
        assert [first.end(), second.end()] == [ExitCode.TEMPORARY, ExitCode.TEMPORARY]
        said = {stage.error().message for stage in (first, second)}
        assert said == {"rank 1 of 2 was ended by SIGKILL, and left no message"}
        assert {stage.error().checkpoint for stage in (first, second)} == {left.checkpoints()[-1]}
    with nodes(left, tmp_path / "again", monkeypatch) as (first, second):
        assert [first.end(), second.end()] == [ExitCode.DONE, ExitCode.DONE]
        assert first.result().adapter.digest == digest
    assert left.metrics() == made.metrics()


def test_two_nodes_that_are_asked_to_stop_leave_once_the_checkpoint_is_there(
    whole: tuple[World, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SLOW_STORE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    left = whole[0].copy(tmp_path / "world")
    left.store.delete(f"trainings/{left.arguments.key}")
    with nodes(left, tmp_path / "nodes", monkeypatch) as (first, second):
        first.wait_until(is_at(3))
        second.process.send_signal(signal.SIGTERM)
        assert [first.end(), second.end()] == [ExitCode.STOPPED, ExitCode.STOPPED]
        assert {stage.error().checkpoint for stage in (first, second)} == {left.checkpoints()[-1]}
        assert first.error().message == f"saved a checkpoint at step {left.checkpoints()[-1]} of {STEPS}"


@pytest.mark.parametrize("gone", [pytest.param(0, id="the first"), pytest.param(1, id="another")])
def test_a_node_that_loses_another_ends_within_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: int
) -> None:
    made = world(tmp_path / "world", epochs="800", checkpoint={"every": 4, "keep": "all"})
    with nodes(made, tmp_path / "nodes", monkeypatch) as stages:
        stages[0].wait_until(lambda progress: (progress.checkpoint_step or 0) >= 40)
        stages[gone].process.kill()
        other = stages[1 - gone]
        assert other.process.wait(60) == ExitCode.TEMPORARY
        assert other.error().reason is Reason.RANK_LOST
        assert other.error().message == f"node {gone} of 2 does not answer"
        assert other.error().checkpoint in made.checkpoints()


def test_what_one_node_finds_wrong_is_what_all_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = world(tmp_path / "world", lora={"targets": ["q_proj", "query"]})
    with nodes(made, tmp_path / "nodes", monkeypatch) as stages:
        assert [stage.end() for stage in stages] == [ExitCode.BAD_INPUT, ExitCode.BAD_INPUT]
        said = {stage.error().message for stage in stages}
    assert said == {"training.lora.targets: no layer of the model is named 'query'"}


def test_nodes_whose_memory_does_not_do_all_begin_again_with_half_of_a_pack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SHORT_OF_MEMORY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    made = world(tmp_path / "world", rows=random_rows(10, longest=20), held_out=random_rows(3, longest=20))
    with nodes(made, tmp_path / "nodes", monkeypatch) as stages:
        assert [stage.end() for stage in stages] == [ExitCode.DONE, ExitCode.DONE]
    assert made.manifest().lineage["plan"]["packTokens"] == 20


def test_what_crashes_when_all_is_done_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(CRASHES_IN_THE_END)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    made = world(tmp_path / "world")
    with nodes(made, tmp_path / "nodes", monkeypatch) as stages:
        assert [stage.end() for stage in stages] == [ExitCode.DONE, ExitCode.DONE]
        assert stages[0].result() == stages[1].result()


def test_a_finished_training_is_found_by_every_node_alone(
    whole: tuple[World, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with nodes(whole[0], tmp_path / "nodes", monkeypatch) as stages:
        assert [stage.end() for stage in stages] == [ExitCode.DONE, ExitCode.DONE]
        assert all(stage.result().cache_hit for stage in stages)
