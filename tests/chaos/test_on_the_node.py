"""What chaos does to a node, done to a network, a disk, a clock and a store of our own.

The tools are the real ones, and ask for root.
"""

import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
from botocore.exceptions import ClientError

from chaos import clock, disk
from chaos.depot import STAND_IN
from chaos.ways import Way, back, cut, to
from cluster.cgroups import PODS, ControlGroup
from cluster.machine import hindrance
from cluster.packages import become_administrator
from cluster.process import CommandError, Process, fetch, free_port, run
from cluster.s3server import HEALTH, S3Endpoint, S3Server
from e2e.installation import until
from lorafinetune.contract.arguments import credential_variable

pytestmark = pytest.mark.skipif(bool(hindrance()), reason=f"no machine within this one: {hindrance()}")

HERE, THERE = "127.0.0.2", "127.0.0.3"
SERVE: Final = "import socket, time; s = socket.create_server(('', {port})); time.sleep(600)"
CONNECT: Final = "import socket; socket.create_connection(('{address}', {port}), 1).close()"
PORT: Final = 7000
ID: Final = "0123456789abcdef"
"""Of a container."""
Inside = Callable[..., str]


@pytest.fixture
def inside(tmp_path: Path) -> Iterator[Inside]:
    """Runs commands in a network of their own, in which somebody listens."""
    become_administrator()
    name = f"chaos-{secrets.token_hex(4)}"
    into = ("ip", "netns", "exec", name)
    run("ip", "netns", "add", name)
    run(*into, "ip", "link", "set", "lo", "up")
    server = Process([*into, sys.executable, "-c", SERVE.format(port=PORT)], tmp_path / "server.log")
    server.start(lambda: run(*into, *connecting(THERE)))
    yield lambda *command: run(*into, *command)
    server.stop()
    run("ip", "netns", "delete", name)


def connecting(address: str) -> list[str]:
    return [sys.executable, "-c", CONNECT.format(address=address, port=PORT)]


def answers(inside: Inside, address: str) -> bool:
    try:
        inside(*connecting(address))
    except CommandError:
        return False
    return True


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(to("INPUT", PORT, "-d", HERE), id="what is asked"),
        pytest.param(back("OUTPUT", PORT, "-s", HERE), id="the answer"),
    ],
)
def test_of_two_addresses_one_is_cut_off_for_as_long_as_the_block_runs(inside: Inside, way: Way) -> None:
    with cut(inside, [way]) as packets:
        assert packets() == 0
        assert not answers(inside, HERE)
        assert answers(inside, THERE)
        assert packets() > 0
    assert answers(inside, HERE)
    assert "DROP" not in inside("iptables", "-w", "-S")


def test_a_way_that_can_not_be_cut_leaves_the_others_as_they_were(inside: Inside) -> None:
    with pytest.raises(CommandError), cut(inside, [to("INPUT", PORT), to("NOWHERE", PORT)]):
        pytest.fail("the block was entered")
    assert "DROP" not in inside("iptables", "-w", "-S")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    become_administrator()
    run("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(tmp_path))
    yield tmp_path
    run("umount", "--lazy", str(tmp_path))


def refusal(action: Callable[..., Any], **arguments: Any) -> str:
    """With which code a store refuses something; empty where it does not."""
    try:
        action(Bucket="bucket", Key="key", **arguments)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


def test_a_store_whose_disk_is_full_for_a_while_refuses_to_write_and_keeps_what_it_has(
    small_disk: Path,
) -> None:
    with S3Server(small_disk) as server:
        server.create_bucket("bucket")
        client = server.client()
        client.put_object(Bucket="bucket", Key="key", Body=b"before")
        with disk.full(run, small_disk, "64m"):
            assert refusal(client.put_object, Body=b"x" * 2**20) == "InsufficientStorage"
            assert refusal(client.get_object) == ""
        assert client.get_object(Bucket="bucket", Key="key")["Body"].read() == b"before"
        assert refusal(client.put_object, Body=b"after") == ""
        client.close()


@pytest.mark.parametrize(("status", "code"), [(403, "RequestTimeTooSkewed"), (400, "ExpiredToken")])
def test_the_stand_in_refuses_all_for_a_reason(tmp_path: Path, status: int, code: str) -> None:
    endpoint = S3Endpoint(f"http://127.0.0.1:{(port := free_port())}", "somebody", "secret")
    command = [sys.executable, str(STAND_IN), "127.0.0.1", str(port), str(status), code]
    process = Process(command, tmp_path / "stand_in.log")
    process.start(lambda: fetch(endpoint.endpoint + HEALTH))
    client = endpoint.client()
    assert refusal(client.get_object) == refusal(client.put_object, Body=b"x" * 2**20) == code
    assert refusal(client.head_object) == str(status)
    client.close()
    names = [Path(f"/proc/{child}/comm") for child in os.listdir("/proc") if child.isdecimal()]
    assert STAND_IN.stem in [told.strip() for told in map(read, names)]
    process.stop()


def read(file: Path) -> str:
    with suppress(OSError):
        return file.read_text()
    return ""


FINDING_TESTS: Final = {"PYTHONPATH": f"{Path(__file__).parents[1]}:{os.environ.get('PYTHONPATH', '')}"}
ASK: Final = """
import sys, time
from botocore.exceptions import ClientError
from cluster.s3server import S3Endpoint
client = S3Endpoint(*sys.argv[1:]).client()
print(time.time(), time.monotonic())
for action in (client.get_object, client.head_object):
    try:
        action(Bucket="bucket", Key="key")
    except ClientError as error:
        print(error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"])
"""


def test_a_process_with_a_wrong_clock_is_refused_as_the_stand_in_does(s3_server: S3Server) -> None:
    keys = (s3_server.endpoint, s3_server.access_key, s3_server.secret_key)
    skewed = clock.environment("+2h", str(clock.library().parent)) | FINDING_TESTS
    told = run(sys.executable, "-c", ASK, *keys, environment=skewed).split()
    assert float(told[0]) - time.time() == pytest.approx(7200, abs=60)
    assert float(told[1]) - time.monotonic() == pytest.approx(0, abs=60)
    assert told[2:] == ["403", "RequestTimeTooSkewed", "403", "403"]


ASK_AS_A_STAGE: Final = """
import sys
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.store.s3 import S3Store
from stages.store_builders import QUICK, connection
store = S3Store("bucket", "runs", connection(sys.argv[1]), QUICK)
for action in (lambda: store.find("key"), lambda: store.read("key"), lambda: store.write("key", b"1")):
    try:
        action()
    except StageError as error:
        print(error.reason, error.hint)
"""


def test_a_stage_with_a_wrong_clock_says_that_it_is_the_clock(s3_server: S3Server) -> None:
    keys = {"AWS_ACCESS_KEY_ID": s3_server.access_key, "AWS_SECRET_ACCESS_KEY": s3_server.secret_key}
    surroundings = {
        **clock.environment("+2h", str(clock.library().parent)),
        **{credential_variable("store", name): value for name, value in keys.items()},
        **FINDING_TESTS,
    }
    told = run(sys.executable, "-c", ASK_AS_A_STAGE, s3_server.endpoint, environment=surroundings)
    lines = told.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("CredentialsInvalid The clocks of the node and") for line in lines), told


@pytest.fixture
def node(tmp_path: Path) -> Iterator[tuple[ControlGroup, ControlGroup]]:
    """Groups like those of a cluster, and of a container of a pod in it; one process runs in each."""
    become_administrator()
    whole = ControlGroup(f"chaos-{secrets.token_hex(4)}")
    pods, container = ControlGroup(f"{whole.path[1:]}/{PODS}"), ControlGroup(f"{whole.path[1:]}/{PODS}/{ID}")
    for group in (whole, pods, container):
        group.create()
    commands = [group.joined(["sleep", "600"]) for group in (whole, container)]
    sleeps = [Process(command, tmp_path / "sleep.log", detached=True) for command in commands]
    for process in sleeps:
        process.launch()
    until(lambda: container.processes() and len(whole.processes()) == 2, 10)
    yield whole, container
    for process in sleeps:
        process.kill()
    whole.kill()
    whole.remove()


def stopped(group: ControlGroup) -> set[int]:
    """Those of its processes that stand still."""
    return {process for process in group.processes() if ") T " in Path(f"/proc/{process}/stat").read_text()}


def test_a_container_stands_still_alone_while_the_block_runs(
    node: tuple[ControlGroup, ControlGroup],
) -> None:
    whole, container = node
    with whole.container_paused(ID):
        until(lambda: stopped(whole) == container.processes(), 10)
    until(lambda: not stopped(whole), 10)


def test_a_node_that_is_lost_takes_its_pods_with_it_and_not_its_other_programs(
    node: tuple[ControlGroup, ControlGroup],
) -> None:
    whole, container = node
    whole.kill_pods()
    until(lambda: not container.processes(), 10)
    assert len(whole.processes()) == 1
    whole.kill_program("sleep")
    assert not whole.processes()
