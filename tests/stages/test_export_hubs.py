"""The merged model as a repository of a hub, with the hubs' own protocols over HTTP."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hubs.huggingface_writing import WritableHuggingFaceHub
from hubs.repository import Repository, safetensors, sha256
from hubs.server import Answer, Fault, Request, failing, hung_up
from lorafinetune.api.artifacts import Published
from lorafinetune.contract.arguments import ARGUMENTS_VARIABLE, MESSAGE_VARIABLE, ExportArguments
from lorafinetune.contract.outcome import ExitCode
from stages.publish_builders import (
    COMMITS,
    CREATIONS,
    FILES,
    INDEX,
    SHARDS,
    TOKEN_VARIABLE,
    TOKENS,
    Site,
    connected,
)

SINGLE = {
    **{n: b for n, b in FILES.items() if n not in (*SHARDS, INDEX)},
    "model.safetensors": safetensors(w=9),
}


@pytest.fixture(params=["hf", "modelscope"])
def site(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv(TOKEN_VARIABLE, TOKENS[request.param])
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_machine")
    with connected(request.param, tmp_path) as site:
        yield site


def test_a_missing_repository_is_made_and_filled_in_one_commit(site: Site) -> None:
    result = site.publish()

    assert site.files() == dict(FILES)
    assert site.hub.books.visibility == {"models/team/tuned": "private"}
    assert site.commits == [f"Publish the export {result.key}"]
    assert result.published == (Published(uri=site.target, revision=site.repository.commits["main"]),)


def test_a_second_run_sends_nothing_and_makes_no_commit(site: Site) -> None:
    first = site.publish()
    site.hub.forget()
    site.storage.forget()

    second = site.publish()

    assert second.published == first.published
    assert len(site.commits) == 1
    assert {request.method for request in site.hub.requests} == {"GET"}
    assert site.storage.requests == []


def test_the_visibility_that_is_asked_for_is_that_of_a_new_repository(site: Site) -> None:
    site.publish(visibility="public")
    assert site.hub.books.visibility == {"models/team/tuned": "public"}


def test_a_repository_that_is_there_is_written_to_and_stays_as_visible_as_it_is(site: Site) -> None:
    site.hub.repositories["models/team/tuned"] = Repository({"notes.txt": b"its owner's"})

    site.publish(visibility="public")

    assert site.files() == {**FILES, "notes.txt": b"its owner's"}
    assert site.hub.asked(CREATIONS[site.scheme]) == []
    assert site.hub.books.visibility == {}


def test_only_what_changed_is_sent(site: Site) -> None:
    site.publish()
    site.storage.forget()
    changed = {**FILES, SHARDS[0]: safetensors(other=10_000), "config.json": b"{}"}

    site.publish(changed)

    assert site.files() == changed
    assert site.sent() == [sha256(changed[SHARDS[0]])]
    assert len(site.commits) == 2


@pytest.mark.parametrize(("before", "after"), [(FILES, SINGLE), (SINGLE, FILES)], ids=["to one", "to many"])
def test_no_weights_of_a_model_before_are_left_beside_those_of_the_new_one(
    site: Site, before: dict[str, bytes], after: dict[str, bytes]
) -> None:
    site.publish(before)
    site.publish(after)

    assert site.files() == dict(after)
    assert len(site.commits) == 2


LOST: dict[str, tuple[str, list[Fault]]] = {
    "an answer to the commit is lost": ("commit", [hung_up]),
    "the hub fails after it has committed": ("commit", [failing(503)]),
    "an answer to the creation is lost": ("creation", [hung_up]),
}


@pytest.mark.parametrize("sentence", LOST)
def test_what_was_done_before_an_answer_was_lost_is_not_done_again(site: Site, sentence: str) -> None:
    where, faults = LOST[sentence]
    site.hub.fail({"commit": COMMITS, "creation": CREATIONS}[where][site.scheme], *faults)

    site.publish()

    assert site.files() == dict(FILES)
    assert len(site.commits) == 1
    assert site.pauses == [1.0]


REFUSED: dict[str, tuple[str, list[Fault], list[float]]] = {
    "the hub is out of order at the commit": ("commit", [failing(500), failing(502)], [1.0, 2.0]),
    "another commit came between": ("commit", [failing(412)], [1.0]),
    "the rate is limited": ("commit", [failing(429, Retry_After="7")], [7.0]),
    "the rate is limited for an hour": ("creation", [failing(429, Retry_After="3600")], [120.0]),
    "the host of the files is out of order": ("file", [failing(503)], [1.0]),
    "the host of the files hangs up": ("file", [hung_up, hung_up], [1.0, 2.0]),
    "the signature of a file's place has expired": ("file", [failing(403)], [1.0]),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_it_is_tried_again_where(site: Site, sentence: str) -> None:
    where, faults, pauses = REFUSED[sentence]
    if where == "file":
        site.storage.refuse(sha256(FILES[SHARDS[1]]), *faults)
    else:
        site.hub.refuse({"commit": COMMITS, "creation": CREATIONS}[where][site.scheme], *faults)

    site.publish()

    assert site.files() == dict(FILES)
    assert len(site.commits) == 1
    assert site.pauses == pauses


def test_what_a_killed_run_has_sent_is_not_sent_again(site: Site) -> None:
    site.hub.refuse(COMMITS[site.scheme], *[failing(500)] * 5)
    site.refusal()
    assert site.commits == []
    site.storage.forget()

    site.publish()

    assert site.files() == dict(FILES)
    assert site.sent() == []


class Leaving:
    """A stage in a process of its own, which is asked to leave when it sends a file."""

    def __init__(self, site: Site, arguments: ExportArguments, how: signal.Signals) -> None:
        self._how = how
        self._message = site.root / "message"
        site.storage.refuse(sha256(FILES[SHARDS[1]]), self._leave)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lorafinetune_stages", "export"],
            env={
                **os.environ,
                ARGUMENTS_VARIABLE: arguments.model_dump_json(by_alias=True, exclude_none=True),
                MESSAGE_VARIABLE: str(self._message),
            },
            stderr=subprocess.DEVNULL,
        )

    def _leave(self, _request: Request, _right: Answer) -> Answer:
        self.process.send_signal(self._how)
        return Answer(503, headers={"Retry-After": "100"})


@pytest.mark.parametrize(("how", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, ExitCode.STOPPED)])
def test_a_run_that_leaves_half_way_is_finished_by_the_next(
    site: Site, how: signal.Signals, code: int
) -> None:
    arguments = site.arguments()
    site.put(arguments)

    assert Leaving(site, arguments, how).process.wait(20) == code
    assert site.commits == []
    site.run(arguments)

    assert site.files() == dict(FILES)
    assert len(site.commits) == 1
    assert site.pauses == []


def test_progress_counts_the_bytes_that_are_missing(site: Site) -> None:
    site.storage.refuse(sha256(FILES[SHARDS[0]]), hung_up)
    site.publish()

    progress = site.progress()
    total = sum(map(len, FILES.values()))
    assert (progress.activity, progress.done, progress.total) == (
        f"publishing to {site.target}",
        total,
        total,
    )
    assert progress.rate


def test_the_token_goes_to_the_hub_alone(site: Site) -> None:
    site.publish()

    assert {request.token for request in site.hub.requests} == {TOKENS[site.scheme]}
    assert site.storage.requests
    for request in site.storage.requests:
        assert not {"Authorization", "Cookie"} & set(request.headers)
        assert TOKENS[site.scheme] not in str(request)


def test_neither_tokens_nor_signatures_are_logged(
    site: Site, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    site.storage.refuse(sha256(FILES[SHARDS[0]]), hung_up, failing(503))
    site.hub.refuse(COMMITS[site.scheme], failing(500))
    with caplog.at_level("DEBUG"):
        site.publish()

    said = caplog.text + "".join(capfd.readouterr())
    assert site.target in said
    assert TOKENS[site.scheme] not in said
    assert "Signature" not in said


def test_a_machine_that_is_offline_for_the_hub_publishes_and_stays_offline(tmp_path: Path) -> None:
    """In a process of its own: the hub's client reads the setting when it is imported."""
    program = """
import sys
from pathlib import Path
from stages.publish_builders import connected
with connected("hf", Path(sys.argv[1])) as site:
    site.publish()
    assert len(site.commits) == 1
    import huggingface_hub
    from huggingface_hub import errors
    try:
        huggingface_hub.HfApi(site.hub.url).model_info("team/tuned")
    except errors.OfflineModeIsEnabled:
        print("offline")
"""
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env={**os.environ, TOKEN_VARIABLE: "hf_good", "PYTHONPATH": "tests"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.stdout, ended.returncode) == ("offline\n", 0), ended.stderr


class TestHuggingFace:
    """What only this hub does."""

    @pytest.fixture
    def site(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
        monkeypatch.setenv(TOKEN_VARIABLE, TOKENS["hf"])
        with connected("hf", tmp_path) as site:
            yield site

    def test_large_files_are_taken_in_parts(self, site: Site) -> None:
        assert isinstance(site.hub, WritableHuggingFaceHub)
        site.hub.part_bytes = 50_000
        site.storage.refuse(f"{sha256(FILES[SHARDS[0]])}/2", failing(500))

        site.publish()

        assert site.files() == dict(FILES)
        assert site.progress().done == sum(map(len, FILES.values()))


class TestModelScope:
    """What only this hub does."""

    @pytest.fixture
    def site(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
        monkeypatch.setenv(TOKEN_VARIABLE, TOKENS["modelscope"])
        with connected("modelscope", tmp_path) as site:
            yield site

    def test_large_files_may_be_taken_by_the_hub_itself(self, site: Site) -> None:
        site.hub.elsewhere = False  # type: ignore[union-attr]  # ModelScope's has it
        site.publish()
        assert site.files() == dict(FILES)

    def test_the_licence_of_the_card_is_that_of_the_repository(self, site: Site) -> None:
        site.publish()
        assert site.hub.books.licences == {"models/team/tuned": "mit"}

    def test_a_licence_that_nobody_knows_is_not_made_up(self, site: Site) -> None:
        site.publish({**FILES, "README.md": b"# no metadata"})
        assert site.hub.books.licences == {"models/team/tuned": "other"}

    def test_the_repository_may_have_no_commit_yet(self, site: Site) -> None:
        site.hub.repositories["models/team/tuned"] = Repository({}, {})
        site.publish()
        assert site.files() == dict(FILES)

    def test_files_that_the_hub_reads_are_inside_the_commit_and_large_ones_are_not(self, site: Site) -> None:
        site.publish()
        (request,) = site.hub.asked("/commit/master")
        kinds = {action["path"]: action["type"] for action in json.loads(request.body)["actions"]}
        large = {*SHARDS, "tokenizer.json"}
        assert kinds == {path: "lfs" if path in large else "normal" for path in FILES}
