"""What the stages of several nodes say to each other, over real sockets."""

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from builders import error, result
from cluster.process import free_port
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError, TrainResult
from lorafinetune_stages.train.last_checkpoint import LastCheckpoint
from lorafinetune_stages.train.node_connection import (
    HEARTBEAT_SECONDS,
    LONGEST,
    SILENCE_SECONDS,
    NodeConnection,
    NodeMessage,
)
from lorafinetune_stages.train.nodes import Coordinator, Member, Node, NodeGroup, SingleNode
from unit.test_shell_queue import Clock

MEETING = {"LORAFINETUNE_MEETING": "lft-train-1-0.lft-tune:29400", "LORAFINETUNE_NODES": "2"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        pytest.param({"JOB_COMPLETION_INDEX": "1"}, Node(), id="a pod that is told of no meeting is alone"),
        pytest.param(
            MEETING | {"JOB_COMPLETION_INDEX": "1"},
            Node(1, 2, "lft-train-1-0.lft-tune", 29400),
            id="another looks for the first by its name",
        ),
        pytest.param(
            MEETING | {"JOB_COMPLETION_INDEX": "0"},
            Node(0, 2, "localhost", 29400),
            id="the first needs no name for itself",
        ),
    ],
)
def test_a_node(environment: dict[str, str], expected: Node) -> None:
    assert Node.of(environment) == expected


def test_who_is_alone_waits_for_nobody_and_agrees(tmp_path: Path) -> None:
    with Node().connect(LastCheckpoint(tmp_path)) as others:
        assert isinstance(others, SingleNode)
        others.begin(lambda: None)
        assert others.poll(failing=True) is False
        failure = error(Reason.LOSS_DIVERGED)
        assert others.agree(failure) is failure


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(3) as made:
        yield made


def in_time() -> None:
    """Nobody has asked it to stop."""


@pytest.fixture
def notes(tmp_path: Path) -> list[LastCheckpoint]:
    """Of three nodes."""
    directories = [tmp_path / str(index) for index in range(3)]
    for each in directories:
        each.mkdir()
    return [LastCheckpoint(each) for each in directories]


@pytest.fixture
def three(pool: ThreadPoolExecutor, notes: list[LastCheckpoint]) -> Iterator[list[NodeGroup]]:
    """Three nodes that have begun."""
    port = free_port()
    made = [Node(index, 3, "localhost", port).connect(note) for index, note in enumerate(notes)]
    for begun in [pool.submit(each.begin, in_time) for each in made]:
        begun.result(30)
    yield made
    for each in made:
        each.__exit__()


def test_the_first_hears_the_others(three: list[NodeGroup]) -> None:
    assert [type(each) for each in three] == [Coordinator, Member, Member]
    assert not any(each.poll(failing=False) for each in three)


def until(holds: Callable[[], bool]) -> None:
    for _ in range(10**6):
        if holds():
            return
    raise AssertionError("it never holds")


def test_that_one_fails_reaches_all(three: list[NodeGroup]) -> None:
    first, second, third = three
    second.poll(failing=True)
    until(lambda: first.poll(failing=False))
    until(lambda: third.poll(failing=False))


def test_how_far_the_first_has_come_is_noted_by_all_before_it_fails_or_is_gone(
    three: list[NodeGroup], notes: list[LastCheckpoint]
) -> None:
    for step in (20, 30):
        notes[0].record(step)
        three[0].poll(failing=step == 30)
    three[0].__exit__()
    for other in three[1:]:
        until(lambda other=other: other.poll(failing=False))  # type: ignore[misc]
    assert [note.step for note in notes] == [30, 30, 30]


GOOD = result("train")
LOST = error(Reason.RANK_LOST, "another rank does not answer")
STOPPED = error(Reason.PREEMPTED, "saved a checkpoint")
DIVERGED = error(Reason.LOSS_DIVERGED, "at step 7")
VERDICTS: dict[str, tuple[list[StageError], StageError]] = {
    "the cause, wherever it is": ([LOST, LOST, DIVERGED], DIVERGED),
    "the cause before what was asked": ([STOPPED, DIVERGED, LOST], DIVERGED),
    "what was asked before what followed of it": ([LOST, STOPPED, LOST], STOPPED),
    "that all lost each other, where that is all": ([LOST, LOST, LOST], LOST),
}


@pytest.mark.parametrize("sentence", VERDICTS)
def test_all_say(three: list[NodeGroup], pool: ThreadPoolExecutor, sentence: str) -> None:
    found, expected = VERDICTS[sentence]
    said = [pool.submit(each.agree, one) for each, one in zip(three, found, strict=True)]
    for each in said:
        agreed = each.result(60)
        assert isinstance(agreed, StageError)
        assert (agreed.reason, agreed.message) == (expected.reason, expected.message)


def test_they_can_agree_once_more(three: list[NodeGroup], pool: ThreadPoolExecutor) -> None:
    for outcome in (error(Reason.CUDA_OUT_OF_MEMORY), DIVERGED):
        said = [pool.submit(each.agree, outcome if each is three[1] else LOST) for each in three]
        assert {str(each.result(60)) for each in said} == {outcome.message}


def test_a_result_needs_no_agreement(three: list[NodeGroup]) -> None:
    assert isinstance(GOOD, TrainResult)
    assert [each.agree(GOOD) for each in three] == [GOOD] * 3


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        pytest.param(2, "node 2 of 3 does not answer", id="another"),
        pytest.param(0, "node 0 of 3 does not answer", id="the first"),
    ],
)
def test_a_node_that_is_gone_is_named(
    three: list[NodeGroup], pool: ThreadPoolExecutor, gone: int, message: str
) -> None:
    three[gone].__exit__()
    left = [each for each in three if each is not three[gone]]
    for each in left:
        until(lambda each=each: each.poll(failing=False))  # type: ignore[misc]
    said = [pool.submit(each.agree, LOST) for each in left]
    assert {str(each.result(60)) for each in said} == {message}


def test_who_waits_for_others_obeys_a_request_to_stop(tmp_path: Path) -> None:
    def check() -> None:
        raise STOPPED

    for index in range(2):
        node = Node(index, 2, "localhost", free_port())
        with (
            node.connect(LastCheckpoint(tmp_path)) as others,
            pytest.raises(StageError, match="saved a checkpoint"),
        ):
            others.begin(check)


def test_who_says_no_node_is_not_taken_for_one(pool: ThreadPoolExecutor, notes: list[LastCheckpoint]) -> None:
    port = free_port()
    nodes = [Node(index, 2, "localhost", port).connect(notes[index]) for index in range(2)]
    begun = [pool.submit(nodes[0].begin, in_time)]
    for said in (b"GET / HTTP/1.1\r\n\r\n", b'{"node": 7}\n', b'{"node": 0}\n'):
        until(lambda said=said: speaks(port, said))  # type: ignore[misc]
    begun.append(pool.submit(nodes[1].begin, in_time))
    for each in begun:
        each.result(30)
    for node in nodes:
        node.__exit__()


def speaks(port: int, said: bytes) -> bool:
    try:
        with socket.create_connection(("localhost", port), 5) as stranger:
            stranger.sendall(said)
    except ConnectionRefusedError:
        return False
    return True


class Ends:
    """Both ends of a connection, and the clock of one."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        self.clock = Clock()
        self.connection = NodeConnection(ours, self.clock)

    def received(self, said: bytes) -> Any:
        self.theirs.sendall(said)
        self.connection.receive()
        return self.connection


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.connection.close()
    made.theirs.close()


@pytest.mark.parametrize(
    ("said", "is_lost"),
    [
        pytest.param(b'{"node": 1}\n', False, id="a message"),
        pytest.param(b'{"node": ', False, id="half a message"),
        pytest.param(b"[]\n", True, id="what is no message"),
        pytest.param(b'{"node": -1}\n', True, id="a node below the first"),
        pytest.param(b'{"checkpoint": -1}\n', True, id="a checkpoint before the first"),
        pytest.param(b'{"run": "sh"}\n', True, id="a message with more in it"),
        pytest.param(b"x" * (LONGEST + 1), True, id="a line without an end"),
    ],
)
def test_a_connection_is_lost_by(ends: Ends, said: bytes, is_lost: bool) -> None:
    assert ends.received(said).lost is is_lost


def test_a_message_in_two_parts_is_one(ends: Ends) -> None:
    assert ends.received(b'{"no').node is None
    assert ends.received(b'de": 1}\n').node == 1


def test_a_connection_is_lost_by_silence_and_not_by_a_heartbeat(ends: Ends) -> None:
    ends.clock.now += SILENCE_SECONDS - 1
    assert not ends.received(b"{}\n").lost
    ends.clock.now += SILENCE_SECONDS - 1
    ends.connection.receive()
    assert not ends.connection.lost
    ends.clock.now += 2
    ends.connection.receive()
    assert ends.connection.lost


def test_what_came_while_nobody_listened_counts(ends: Ends) -> None:
    ends.theirs.sendall(b"{}\n")
    ends.clock.now += 2 * SILENCE_SECONDS
    ends.connection.receive()
    assert not ends.connection.lost


def test_a_heartbeat_is_sent_from_time_to_time_and_when_it_is_news(ends: Ends) -> None:
    ends.theirs.setblocking(False)
    told: list[NodeMessage | None] = []
    fine, saved, failing = NodeMessage(), NodeMessage(checkpoint=4), NodeMessage(checkpoint=4, failing=True)
    for pause, message in ((0, fine), (1, fine), (0, saved), (0, failing), (HEARTBEAT_SECONDS, failing)):
        ends.clock.now += pause
        ends.connection.heartbeat(message)
        try:
            told.append(NodeMessage.model_validate_json(ends.theirs.recv(LONGEST)))
        except BlockingIOError:
            told.append(None)
    assert told == [fine, None, saved, failing, failing]
