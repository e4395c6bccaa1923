"""Several ranks of one training, started and watched by the stage: its own program again, once for each GPU.

torchrun is not used: asked to stop, it gives its processes 30 seconds and kills them then, checkpoint or not;
and they are in sessions of their own, so that they outlive a stage that is killed.
"""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.arguments import (
    MESSAGE_VARIABLE,
    PROGRESS_URL_VARIABLE,
    PROGRESS_VARIABLE,
    WORKDIR_VARIABLE,
)
from lorafinetune.contract.outcome import BY_BUS_ERROR, ExitCode, StageError, TrainResult, decode_message
from lorafinetune_stages.train.node_connection import POLL_SECONDS
from lorafinetune_stages.train.nodes import LAST_WORDS_SECONDS, Node, NodeGroup, first_cause
from lorafinetune_stages.train.rank_spec import GO, RANK_VARIABLE, TCP, RankSpec
from lorafinetune_stages.train.stop_signal import StopSignal

log = logging.getLogger(__name__)

THREADS: Final = "OMP_NUM_THREADS"
PROGRESS: Final = (PROGRESS_VARIABLE, PROGRESS_URL_VARIABLE)


@dataclass(frozen=True)
class _Worker:
    """A process, and where it leaves its termination message."""

    number: int
    process: subprocess.Popen[bytes]
    message: Path

    @property
    def code(self) -> int | None:
        return self.process.poll()

    @property
    def failed(self) -> bool:
        return self.code not in (None, ExitCode.DONE)

    def outcome(self) -> TrainResult | StageError | None:
        """What it left; None where it ended without a word."""
        text = self.message.read_text() if self.message.is_file() else ""
        outcome = decode_message("train", text)
        return outcome if isinstance(outcome, TrainResult | StageError) else None


class WorkerGroup:
    """The ranks of one attempt on this node, while this is entered. ranks: on each node. workdir: scratch
    that all share."""

    def __init__(self, node: Node, ranks: int, workdir: Path, smaller: bool = False) -> None:
        self._folder = workdir / ("smaller" if smaller else "ranks")
        self._folder.mkdir()
        first, rendezvous = node.index * ranks, f"{TCP}{node.host}:{node.port + 1}"
        self._specs = [
            RankSpec(
                rank=rank,
                world_size=node.count * ranks,
                first_of_node=first,
                inputs=str(workdir),
                rendezvous=rendezvous if node.count > 1 else str(self._folder / "rendezvous"),
                smaller=smaller,
            )
            for rank in range(first, first + ranks)
        ]
        self._ranks: list[_Worker] = []

    def __enter__(self) -> "WorkerGroup":
        self._ranks = [self._start(spec) for spec in self._specs]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._signal(signal.SIGKILL)
        for rank in self._ranks:
            rank.process.communicate()

    def check(self) -> None:
        """Raises StageError where a rank has failed."""
        if any(rank.failed for rank in self._ranks):
            raise self._failure()

    def run(self, stop: StopSignal, nodes: NodeGroup) -> TrainResult:
        """Has the ranks train, and returns what they made. Raises StageError with why they did not."""
        stop.defer()
        for rank in self._ranks:
            self._release(rank)
        self._wait(stop, nodes)
        results = [rank.outcome() for rank in self._ranks if rank.code == ExitCode.DONE]
        if len(results) == len(self._ranks) and isinstance(results[0], TrainResult):
            return results[0]
        raise self._failure()

    def _start(self, spec: RankSpec) -> _Worker:
        message = self._folder / f"message-{spec.rank}"
        process = subprocess.Popen(
            [sys.executable, "-m", "lorafinetune_stages", "train"],
            env=dict(environment(os.environ, spec, message, len(self._specs))),
            stdin=subprocess.PIPE,
            stdout=None if spec.rank == 0 else subprocess.DEVNULL,  # the trainer prints every step there
        )
        return _Worker(spec.rank, process, message)

    def _release(self, rank: _Worker) -> None:
        assert rank.process.stdin  # noqa: S101 - it is a pipe
        try:
            rank.process.stdin.write(GO)
            rank.process.stdin.flush()
        except BrokenPipeError:
            log.warning("rank %d has ended before it was told to go", rank.number)

    def _wait(self, stop: StopSignal, nodes: NodeGroup) -> None:
        """Until all have ended; those that are left where one has failed, here or elsewhere, are ended."""
        signalled, until = False, float("inf")
        while any(rank.code is None for rank in self._ranks) and time.monotonic() < until:
            if stop.requested and not signalled:
                signalled = True
                self._signal(signal.SIGTERM)
            codes = {rank.code for rank in self._ranks} - {None, ExitCode.DONE, ExitCode.STOPPED}
            if (nodes.poll(failing=bool(codes)) or codes) and until == float("inf"):
                until = time.monotonic() + LAST_WORDS_SECONDS
            time.sleep(POLL_SECONDS)

    def _signal(self, number: signal.Signals) -> None:
        for rank in self._ranks:
            if rank.code is None:
                rank.process.send_signal(number)

    def _failure(self) -> StageError:
        """Of all that the ranks say the cause, which is not that others are gone."""
        ended = [rank for rank in self._ranks if rank.failed]
        errors = [outcome for rank in ended if isinstance(outcome := rank.outcome(), StageError)]
        silent = [rank for rank in self._ranks if rank.code is not None and rank.outcome() is None]
        wordless = [self._without_a_word(rank) for rank in silent]
        left = StageError(Reason.RANK_LOST, "the ranks of this node were ended: another node has failed")
        return first_cause([*wordless, *errors, left])

    def _without_a_word(self, rank: _Worker) -> StageError:
        code = rank.code or 0
        who = f"rank {rank.number} of {self._specs[0].world_size}"
        if code == -signal.SIGBUS:
            return StageError(Reason.DATA_UNREADABLE, f"{who} was ended {BY_BUS_ERROR}")
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return StageError(Reason.RANK_LOST, f"{who} was ended {how}, and left no message")


def environment(
    own: Mapping[str, str], spec: RankSpec, message: Path, ranks: int
) -> Iterator[tuple[str, str]]:
    """Of a rank: the stage's own, where only the first reports progress, and all on the node share its
    processors. ranks: how many these are."""
    hidden = PROGRESS if spec.rank else ()
    yield from ((name, value) for name, value in own.items() if name not in hidden)
    threads = int(own.get(THREADS) or len(os.sched_getaffinity(0)))
    yield THREADS, str(max(1, threads // ranks))
    yield MESSAGE_VARIABLE, str(message)
    yield WORKDIR_VARIABLE, spec.inputs
    yield RANK_VARIABLE, spec.model_dump_json(by_alias=True)
