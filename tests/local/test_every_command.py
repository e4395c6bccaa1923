"""Every command with every bad input that it can get: a sentence and an exit code, and never a traceback.

What only a cluster can answer is in `tests/apiserver/test_every_command.py`.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest
import yaml
from rich.cells import cell_len

from builders import document
from calls import (
    CODES,
    COMMANDS,
    ENDED,
    FILE,
    ROWS,
    forms,
    here,
    is_a_list_of_faults,
    is_a_sentence,
    is_decent,
    takes,
    there,
)
from cluster.process import free_port
from forked import Call, Ended, forking
from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.safetext import UNSAFE
from lorafinetune.cli.run import keep
from lorafinetune_stages.store.directory import DirectoryStore
from lorafinetune_stages.store.manifest import MANIFEST
from unit.test_cli_store import ended, put, used_by
from unit.world import status_of

Calls = Callable[..., Ended]

STORE: Final = "lorafinetune-store"
STORED_MODEL: Final = {"model": {"source": "s3://bucket/no-model", "connection": "store"}}
CLUSTER: Final = {
    "apiVersion": "v1",
    "kind": "Config",
    "users": [{"name": "a", "user": {"token": "t"}}],
    "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
    "current-context": "a",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a run that has ended, its store, and what nobody may touch."""
    home = tmp_path_factory.mktemp("home")
    store = DirectoryStore(home / STORE / "bucket" / "runs")
    stored = [put(store, place) for place in used_by(ended())]
    keep(with_digest(ended(), stored[-1].digest), home / ENDED)
    for name in (FILE, "closed.yaml"):
        (home / name).write_text(yaml.safe_dump(document(STORED_MODEL)))
    (home / "secrets" / "s3").mkdir(parents=True)
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        (home / "secrets" / "s3" / key).write_text("k")
    (home / "broken").write_text("apiVersion: v1\nclusters: 7\n")
    for name in ("folder.yaml", "closed"):
        (home / name).mkdir()
    for name in ("closed.yaml", "closed"):
        (home / name).chmod(0)
    spoil(home)
    return home


def with_digest(run: LoRAFineTune, digest: str) -> LoRAFineTune:
    """The run with a status that tells the digest of the merged model."""
    made = status_of(run).artifacts
    assert made
    assert made.merged
    artifacts = made.model_copy(update={"merged": made.merged.model_copy(update={"digest": digest})})
    status = status_of(run).model_copy(update={"artifacts": artifacts})
    return run.model_copy(update={"status": status})


def spoil(home: Path) -> None:
    """Stores that are not whole."""
    for name, change in HALVES.items():
        shutil.copytree(home / STORE, home / name)
        for manifest in sorted((home / name).rglob(MANIFEST)):
            change(manifest)


HALVES: Final[Mapping[str, Callable[[Path], object]]] = {
    "store-without-manifests": Path.unlink,
    "store-of-cut-manifests": lambda manifest: manifest.write_bytes(manifest.read_bytes()[:40]),
    "store-of-empty-manifests": lambda manifest: manifest.write_bytes(b""),
    "store-without-files": lambda manifest: manifest.with_name("data").unlink(),
    "store-of-cut-files": lambda manifest: manifest.with_name("data").write_bytes(b"c"),
}


@pytest.fixture(scope="module")
def call(folder: Path) -> Iterator[Calls]:
    """Makes calls in the folder, as somebody who is not root."""
    with forking(HOME=str(folder), KUBECONFIG="", NO_COLOR="1", COLUMNS="", TERM="xterm") as calling:
        yield lambda *arguments, **how: calling(Call(tuple(map(str, arguments)), str(folder), **how))


def test_every_command_has_a_row() -> None:
    assert set(ROWS) == set(COMMANDS)
    assert {command for command in COMMANDS if takes(command, "context")} == {
        command for command, row in ROWS.items() if row.there is not None
    }
    assert {0, 1, 2, 64, 75, 85, 130} == CODES


def those(*parameters: str) -> list[str]:
    return [command for command in COMMANDS if takes(command, *parameters)]


FILES: Final = {
    "a file that is not there": "nothing.yaml",
    "a path on which there is no file": "no/such/place",
    "a path that is no name": "./nothing",
    "a file that nobody may read": "closed.yaml",
    "a folder in place of a file": "folder.yaml",
}


def files(command: str) -> tuple[str, ...]:
    """The call of a command with files."""
    return here(command) if ROWS[command].here else there(command)


def to(command: str, place: Path) -> tuple[str, ...]:
    """Where the output of a command goes, if it makes a directory."""
    return ("--to", str(place)) if command == "fetch" else ()


@pytest.mark.parametrize("command", those("file", "a", "run"))
@pytest.mark.parametrize("sentence", FILES)
def test_a_file_can_be_bad(sentence: str, command: str, call: Calls) -> None:
    bad = [FILES[sentence] if word in (FILE, ENDED) else word for word in files(command)]
    for form in forms(command):
        told = call(*bad, *form)
        assert told.code == 64
        is_fine = is_a_list_of_faults if form and command == "validate" else is_a_sentence
        assert is_fine(told), told


HOSTILE: Final = ("ev\x1b[31mil.yaml", "ev\u202eil.yaml")
"""Names of which a terminal obeys one, and turns the text after the other."""


@pytest.mark.parametrize("command", [each for each in those("file", "a", "run", "name") if each != "init"])
@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_name_can_be_hostile(name: str, command: str, call: Calls, folder: Path, tmp_path: Path) -> None:
    called = [name if word in (FILE, ENDED, "tune") else word for word in files(command)]
    missing = call(*called)
    shutil.copy(folder / (ENDED if ENDED in files(command) else FILE), folder / name)
    there = call(*called, *to(command, tmp_path / name))
    (folder / name).unlink()
    assert missing.err
    for told in (missing, there):
        assert not UNSAFE.search(told.out + told.err), told


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_name_in_a_store_can_be_hostile(name: str, call: Calls, tmp_path: Path) -> None:
    place = tmp_path / "bucket" / "runs" / "datasets" / name
    place.mkdir(parents=True)
    (place / "data").write_bytes(b"old")
    os.utime(place / "data", (0, 0))
    told = call(*here("gc"), "--store", tmp_path)
    assert "il.yaml" in told.out + told.err
    assert not UNSAFE.search(told.out + told.err), told


MISTYPED: Final = {
    "a name with a file's suffix": ("nothing.yml", ("run", "a"), "nothing.yml: no such file or directory"),
    "a path of two folders": ("no/such/place", ("run", "a"), "no/such/place: no such file or directory"),
    "a path that may be a run in a namespace": (
        "no/place",
        ("run", "a"),
        "NoCluster: there is no file no/place, and there is no kubeconfig",
    ),
    "a path where a name is asked for": ("no/place", ("name",), "ConfigInvalid: no/place is no name"),
    "a file where a name is asked for": (ENDED, ("name",), f"ConfigInvalid: {ENDED} is no name"),
}


@pytest.mark.parametrize("sentence", MISTYPED)
def test_a_path_is_not_taken_for_the_name_of_a_run(sentence: str, call: Calls) -> None:
    path, parameters, expected = MISTYPED[sentence]
    for command in (name for name in those(*parameters) if ROWS[name].there):
        told = call(*(path if word in ("tune", "other") else word for word in there(command)))
        assert told.code == 64
        assert is_a_sentence(told), told
        assert told.err.startswith(expected), told


PLACES: Final = {
    "init": ("--to", "closed/a.yaml"),
    "fetch": ("--what", "adapter", "--to", "closed/there"),
    "report": ("--to", "closed/a.html"),
    "run": ("--runs", "closed/runs"),
}


def test_what_writes_has_a_place_where_it_may_not() -> None:
    assert set(PLACES) == {*those("to"), "run"}


@pytest.mark.parametrize("command", PLACES)
def test_a_place_can_be_closed(command: str, call: Calls) -> None:
    told = call(*here(command), *PLACES[command])
    assert told.code == 64
    assert is_a_sentence(told), told


def test_a_usage_can_be_wrong(call: Calls) -> None:
    for command in COMMANDS:
        told = call(command, "--no-such-option")
        assert (told.code, told.out, "No such option" in told.err) == (2, "", True), command


def server(port: int) -> Mapping[str, object]:
    return CLUSTER | {"clusters": [{"name": "a", "cluster": {"server": f"http://127.0.0.1:{port}"}}]}


CLUSTERS: Final[Mapping[str, tuple[tuple[str, ...], int]]] = {
    "no kubeconfig": ((), 64),
    "a kubeconfig that is not there": (("--kubeconfig", "nothing"), 64),
    "a kubeconfig that nobody may read": (("--kubeconfig", "closed.yaml"), 64),
    "a folder in place of a kubeconfig": (("--kubeconfig", "folder.yaml"), 64),
    "a broken kubeconfig": (("--kubeconfig", "broken"), 64),
    "a wrong context": (("--kubeconfig", "away", "--context", "prod"), 64),
    "a server that is not there": (("--kubeconfig", "away"), 75),
}


@pytest.mark.parametrize("command", those("context"))
@pytest.mark.parametrize("sentence", CLUSTERS)
def test_a_cluster_can_be_out_of_reach(sentence: str, command: str, call: Calls, folder: Path) -> None:
    options, code = CLUSTERS[sentence]
    (folder / "away").write_text(yaml.safe_dump(dict(server(free_port()))))
    for form in forms(command):
        told = call(*there(command), *options, *form)
        assert told.code == code
        assert is_a_sentence(told), told


End = tuple[int, str]
"""The exit code, and how what is said begins; nothing where all is well."""
DONE: Final[End] = (0, "")
NO_MODEL: Final[End] = (64, "download failed: ModelNotFound: ")
CORRUPT: Final[End] = (64, "ArtifactCorrupt: ")
DENIED: Final[End] = (64, "StorageDenied: ")
NO_BUCKET: Final[End] = (64, "ConfigInvalid: s3://bucket/runs: the bucket bucket does not exist")
LEFT_OUT: Final = "the lineage of tune is left out: "
NOT_THERE: Final = "store-that-is-not-there"


def ends(fetched: End, diff: End, report: End) -> dict[str, End]:
    """How each command ends with such a store. A run finds its model in none; what is young is no garbage."""
    same = {"fetch": fetched, "chat": fetched, "diff": diff, "report": report}
    return same | {"run": NO_MODEL, "gc": DONE}


STORES: Final[Mapping[str, Mapping[str, End]]] = {
    "store-without-manifests": ends(CORRUPT, (0, f"{LEFT_OUT}its training is not"), DONE),
    "store-of-cut-manifests": ends(CORRUPT, (0, f"{LEFT_OUT}ArtifactCorrupt: "), CORRUPT),
    "store-of-empty-manifests": ends(CORRUPT, (0, f"{LEFT_OUT}ArtifactCorrupt: "), CORRUPT),
    "store-without-files": ends(CORRUPT, DONE, DONE),
    "store-of-cut-files": ends(CORRUPT, DONE, DONE),
    "closed": dict.fromkeys(those("store"), DENIED),
    NOT_THERE: ends(NO_BUCKET, (0, f"{LEFT_OUT}{NO_BUCKET[1]}"), NO_BUCKET) | {"gc": NO_BUCKET},
}


def test_every_half_of_a_store_has_ends() -> None:
    assert set(STORES) == {*HALVES, "closed", NOT_THERE}
    assert [set(ways) for ways in STORES.values()] == [set(those("store"))] * len(STORES)


@pytest.mark.parametrize("command", those("store"))
@pytest.mark.parametrize("store", STORES)
def test_a_store_can_be_half_written(store: str, command: str, call: Calls, tmp_path: Path) -> None:
    code, begins = STORES[store][command]
    given = tmp_path / store if store == NOT_THERE else store
    for form in forms(command):
        told = call(*here(command), "--store", given, *form)
        assert (told.code, is_decent(told, *form)) == (code, True), told
        if (code, begins) == NO_MODEL:
            shown = told.err if form else told.out
            assert f"\n{begins}" in shown, told
            assert "\nhint: " in shown, told
        else:
            assert told.err.startswith(begins), told
            assert is_a_sentence(told) if code else told.out, told
            assert begins or not told.err, told


NARROW: Final = (20, 40)
CURSOR_IS_SHOWN: Final = "\x1b[?25h"


@pytest.mark.parametrize("columns", NARROW)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_terminal_can_be_narrow(command: str, columns: int, call: Calls, tmp_path: Path) -> None:
    assert call(command, "--help", columns=columns).code == 0
    if command == "chat":  # takes a model
        return
    wide = call(*files(command), *to(command, tmp_path / "model"), columns=200)
    shutil.rmtree(tmp_path / "model", ignore_errors=True)
    narrow = call(*files(command), *to(command, tmp_path / "model"), columns=columns)
    assert narrow.code == wide.code
    assert is_decent(narrow)
    if command == "run":
        assert max(map(cell_len, drawn(narrow.out))) <= columns
    else:
        assert said(narrow.out) == said(wide.out)


def said(shown: str) -> list[str]:
    """The words of a terminal; where there was a bar, those below it."""
    return shown.rpartition(CURSOR_IS_SHOWN)[2].split()


def drawn(shown: str) -> list[str]:
    """The lines with a stage that a terminal shows in place."""
    return [line for line in shown.splitlines() if line.startswith(("·", "▶", "…"))]


READERS_LEAVE: Final = {"run": 130}
"""How what has an end of its own to tell ends; all others have done what they shall."""


@pytest.mark.parametrize("command", [name for name, row in ROWS.items() if row.here is not None])
def test_a_reader_can_leave(command: str, call: Calls, tmp_path: Path) -> None:
    if command == "chat":
        pytest.skip("prints once a model has answered: tests/stages/test_talk.py")
    for number, form in enumerate(forms(command)):
        told = call(*here(command), *to(command, tmp_path / f"model{number}"), *form, is_read=False)
        assert told.code == READERS_LEAVE.get(command, 0)
        assert is_decent(told)


HELP: Final = [(), ("--help",), *((command, "--help") for command in COMMANDS), ("--version",)]


@pytest.mark.parametrize("arguments", HELP, ids=" ".join)
def test_a_reader_of_help_can_leave(arguments: tuple[str, ...], call: Calls) -> None:
    told = call(*arguments, is_read=False)
    assert (told.code, told.err) == (0, "")


def test_a_reader_of_a_completion_can_leave(folder: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    asked = f"{Path(sys.executable).with_name('lorafinetune')} --show-completion; exit $?"
    ended = subprocess.run(["/bin/bash", "-c", asked], cwd=folder, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.parametrize("wrong", [("nothing",), ("run", "--nothing"), ("run",)], ids=" ".join)
def test_wrong_usage_that_nobody_reads_of_is_wrong_still(wrong: tuple[str, ...], call: Calls) -> None:
    assert call(*wrong, is_watched=False).code == 2


LAST_WORDS: Final[Mapping[str, Callable[[str], object]]] = {
    "json": lambda out: json.loads(out)["status"]["failure"]["reason"],
    "yaml": lambda out: yaml.safe_load(out)["status"]["failure"]["reason"],
    "name": lambda out: out,
}


@pytest.mark.parametrize("form", LAST_WORDS)
def test_a_program_reads_how_a_run_has_failed_and_a_person_why(form: str, call: Calls) -> None:
    told = call(*here("run"), "-o", form)
    assert (told.code, told.err) == (64, call(*here("run")).out)
    assert NO_MODEL[1] in told.err
    expected = "lorafinetune.lorafinetune.dev/tune\n" if form == "name" else "ModelNotFound"
    assert LAST_WORDS[form](told.out) == expected


@pytest.mark.parametrize("form", LAST_WORDS)
def test_who_watches_beside_a_program_can_leave(form: str, call: Calls) -> None:
    told = call(*here("run"), "-o", form, is_watched=False)
    assert (told.code, told.out) == (READERS_LEAVE["run"], "")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_person_can_interrupt(command: str, call: Calls, tmp_path: Path) -> None:
    how: dict[str, object] = {"interrupt_at": str(tmp_path / "waits")}
    arguments: tuple[str, ...] = there(command)
    with waiting(tmp_path) as port:
        (tmp_path / "cluster").write_text(yaml.safe_dump(dict(server(port))))
        if takes(command, "file", "run", "a"):
            arguments = tuple(str(tmp_path / FILE) if w in (FILE, ENDED) else w for w in files(command))
        elif takes(command, "context"):
            arguments = (*arguments, "--kubeconfig", str(tmp_path / "cluster"))
        elif command == "init":
            arguments, how = (command,), {"interrupt_at": "prompt", "columns": 80}
        else:
            arguments, how = (*files(command), *forms(command)[-1]), {"interrupt_at": "output"}
        told = call(*arguments, **how)
    assert told.code == 130, told
    assert is_decent(told)


@contextmanager
def waiting(folder: Path) -> Iterator[int]:
    """A file and a server, at the port, that somebody waits for in vain; then `waits` is there."""
    os.mkfifo(folder / FILE)
    over = threading.Event()

    def hold_file() -> None:
        with (folder / FILE).open("w"):
            (folder / "waits").touch()
            over.wait()

    def hold_connection() -> None:
        with suppress(OSError), listening.accept()[0]:  # an OSError: nobody has called, and it is over
            (folder / "waits").touch()
            over.wait()

    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        threads = [threading.Thread(target=each) for each in (hold_file, hold_connection)]
        for thread in threads:
            thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            over.set()
            listening.shutdown(socket.SHUT_RDWR)
            os.close(os.open(folder / FILE, os.O_RDONLY | os.O_NONBLOCK))  # lets go who waits for a reader
            for thread in threads:
                thread.join()
