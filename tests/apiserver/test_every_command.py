"""Every command that speaks with a cluster, against a real API server that refuses, on terminals and pipes.

What goes wrong before one answers is in `tests/local/test_every_command.py`.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml

from apiserver.operating import MERGE, Namespace
from builders import NOW, document
from calls import COMMANDS, FILE, ROWS, forms, is_a_sentence, is_decent, takes, there
from cluster.apiserver import ApiServer
from cluster.kubeconfig import kubeconfig
from cluster.s3server import S3Server
from forked import Call, Ended, forking
from lorafinetune.contract.times import rfc3339
from stages.store_builders import s3_store
from unit.test_cli_store import UNUSED, put

Calls = Callable[..., Ended]

THERE: Final = [command for command, row in ROWS.items() if row.there is not None]


@pytest.fixture
def call(own_namespace: Namespace, served: ApiServer, tmp_path: Path) -> Iterator[Calls]:
    """Makes calls about a namespace, as an administrator unless told otherwise."""
    made = document() | {"metadata": {"name": "tune", "namespace": own_namespace.name}}
    (tmp_path / FILE).write_text(yaml.safe_dump(made))
    (tmp_path / "secrets" / "s3").mkdir(parents=True)
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        (tmp_path / "secrets" / "s3" / key).write_text("k")
    home = {"HOME": str(tmp_path), "KUBECONFIG": str(served.kubeconfig), "NO_COLOR": "1", "TERM": "xterm"}
    with forking(**home) as calling:
        yield lambda command, *options, **how: calling(
            Call((*there(command), "-n", own_namespace.name, *options), str(tmp_path), **how)
        )


def login(server: ApiServer, folder: Path, token: str) -> Path:
    """A kubeconfig that logs in with a token."""
    path = folder / "login"
    path.write_text(kubeconfig(server.url, server.ca_file.read_bytes(), token))
    return path


def token_of_nobody(own: Namespace) -> str:
    """Of an account that may do nothing."""
    made = own.client.request("POST", f"{own.path('serviceaccounts', 'default')}/token", {"spec": {}})
    return str(made["status"]["token"])


LOGINS: Final[dict[str, tuple[Callable[[Namespace], str], str]]] = {
    "a wrong token": (lambda _: "unknown", "Unauthorized: Unauthorized. Log in again"),
    "no rights": (token_of_nobody, "Forbidden: lorafinetunes.lorafinetune.dev "),
}


@pytest.mark.parametrize("sentence", LOGINS)
def test_an_api_server_can_refuse(
    sentence: str, call: Calls, served: ApiServer, own_namespace: Namespace, tmp_path: Path
) -> None:
    token, begins = LOGINS[sentence]
    access = login(served, tmp_path, token(own_namespace))
    for command in THERE:
        for form in forms(command):
            told = call(command, "--kubeconfig", str(access), *form)
            assert told.code == 64
            assert is_a_sentence(told), told
            assert told.err.startswith(begins), told


NAMED: Final = [command for command in THERE if "tune" in there(command)]


@pytest.mark.parametrize("command", NAMED)
def test_a_run_can_be_missing(command: str, call: Calls) -> None:
    for form in forms(command):
        told = call(command, *form)
        assert (told.code, told.out, told.err) == (
            64,
            "",
            'NotFound: lorafinetunes.lorafinetune.dev "tune" not found. '
            "`lorafinetune list -A` shows what there is.\n",
        )


def test_a_namespace_can_be_missing(call: Calls, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(yaml.safe_dump(document() | {"metadata": {"name": "tune"}}))
    told = call("apply", "-n", "no-such")
    assert (told.code, told.out) == (64, "")
    assert told.err.endswith("not found. Create the namespace, or give another one with --namespace.\n")


@pytest.fixture
def frugal(s3_server: S3Server, call: Calls, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Calls about a store with garbage, as a user of it who has no rights yet."""
    s3_server.create_bucket("bucket")
    put(s3_store(s3_server, monkeypatch, "bucket", "runs"), UNUSED[0])
    s3_server.create_user("k", "k")
    return lambda *options: call("gc", "--endpoint", s3_server.endpoint, "--older-than", "0m", *options)


def test_a_store_can_refuse_what_gc_asks_of_it(frugal: Calls, s3_server: S3Server) -> None:
    for form in forms("gc"):
        told = frugal(*form)
        assert told.code == 64
        assert is_a_sentence(told), told
        assert told.err.startswith("StorageDenied: s3://bucket/runs")
    s3_server.let_read("k", "bucket")
    assert frugal().code == 0
    told = frugal("--delete", "--without-runs")
    assert (told.code, "freed" in told.out) == (64, False)
    assert told.err.startswith("StorageDenied: s3://bucket/runs")


@pytest.fixture
def two_runs(own_namespace: Namespace) -> Namespace:
    """The one has ended, and nobody has looked at the other."""
    for name in ("tune", "other"):
        own_namespace.apply(name)
    conditions = [
        {
            "type": kind,
            "status": "True",
            "reason": "Complete",
            "message": "m",
            "lastTransitionTime": rfc3339(NOW),
        }
        for kind in ("Ready", "Complete")
    ]
    status = {"observedGeneration": 1, "stage": "Complete", "progress": "100%", "conditions": conditions}
    path = f"{own_namespace.path('lorafinetunes', 'tune')}/status"
    own_namespace.client.request("PATCH", path, {"status": status}, MERGE)
    return own_namespace


STORELESS: Final = [command for command in THERE if not takes(command, "store")]


@pytest.mark.parametrize("columns", [20, 40])
@pytest.mark.parametrize("command", STORELESS)
def test_a_terminal_can_be_narrow(command: str, columns: int, call: Calls, two_runs: Namespace) -> None:
    wide, narrow = (call(command, columns=width) for width in (200, columns))
    assert narrow.code == wide.code
    assert is_decent(narrow), narrow
    if command == "watch":
        assert all(len(line) <= columns for line in narrow.out.splitlines() if line.startswith("·")), narrow
    elif command not in ("apply", "suspend", "resume"):  # the second time they say something else
        assert ageless(narrow.out) == ageless(wide.out)


def ageless(shown: str) -> list[str]:
    """The words, whatever second it is."""
    return re.sub(r"\b\d+s\b", "0s", shown).split()


READERS_LEAVE: Final = {"watch": 130, "logs": 64}
"""A watch was interrupted, and these runs have no pods whose logs could be shown."""


@pytest.mark.parametrize("command", STORELESS)
def test_a_reader_can_leave(command: str, call: Calls, two_runs: Namespace) -> None:
    for form in forms(command):
        told = call(command, *form, is_read=False)
        assert told.code == READERS_LEAVE.get(command, 0), told
        assert is_decent(told)


def test_every_command_of_a_cluster_is_called() -> None:
    assert set(THERE) == {command for command in COMMANDS if takes(command, "context")}
