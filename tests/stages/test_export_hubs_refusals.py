"""What publishing to a hub is refused for, and which of it is known before a GPU is asked for."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hubs.huggingface_writing import WritableHuggingFaceHub
from hubs.modelscope import failure
from hubs.repository import Repository, sha256
from hubs.server import Answer, Fault, Request, failing, sending
from hubs.writing import Account
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages import download
from lorafinetune_stages.export import stage
from lorafinetune_stages.hubs.targets import check_targets
from lorafinetune_stages.reuse import find_whole
from lorafinetune_stages.store.manifest import Manifest
from stages.download_builders import Bench
from stages.publish_builders import (
    COMMITS,
    CREATIONS,
    FILES,
    SHARDS,
    TOKEN_VARIABLE,
    TOKENS,
    Site,
    connected,
)


@pytest.fixture(params=["hf", "modelscope"])
def site(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv(TOKEN_VARIABLE, TOKENS[request.param])
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    with connected(request.param, tmp_path) as site:
        yield site


def checked(site: Site, **target: Any) -> StageError | None:
    """What the check says that runs before a GPU is asked for."""
    arguments = site.arguments(**target)
    try:
        check_targets(arguments, arguments.export.publish, site.pauses.append)
    except StageError as problem:
        return problem
    return None


def becomes(site: Site, **account: Any) -> None:
    """The token belongs to somebody else, or may do something else."""
    site.hub.books.accounts[TOKENS[site.scheme]] = Account(**account)


def echo(status: int) -> Fault:
    """A refusal that says whatever it was sent, in every way in which hubs explain themselves."""

    def fault(request: Request, _right: Answer) -> Answer:
        said = f"no {request.headers}"
        body = json.dumps({"error": said, "Message": said, "message": said}).encode()
        return Answer(status, body, {"X-Error-Message": f"{request.token}", "X-Error-Code": "Odd"})

    return fault


def test_a_target_without_a_token_is_refused_whatever_the_machine_has(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE)
    arguments = site.arguments(secret=False)
    site.put(arguments)
    for attempt in (
        lambda: site.run(arguments),
        lambda: check_targets(arguments, arguments.export.publish, time.sleep),
    ):
        with pytest.raises(StageError) as refused:
            attempt()
        assert refused.value.reason is Reason.CREDENTIALS_INVALID
        assert refused.value.message == (
            f"spec.export.publish[0].to: {site.target} can't be published to without a token"
        )
        assert refused.value.hint == (
            "Name a connection with a `secretRef` in `spec.export.publish[0].connection`."
        )
    assert site.hub.requests == []


def test_a_token_that_the_hub_does_not_know(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "stolen")
    for problem in (checked(site), site.refusal()):
        assert problem
        assert problem.reason is Reason.CREDENTIALS_INVALID
        assert problem.message == (
            f"spec.export.publish[0].to: {site.target} can't be published to: "
            f"{site.host} does not accept the token"
        )


def test_a_token_that_may_not_write_there(site: Site) -> None:
    site.hub.repositories["models/team/tuned"] = Repository({})
    becomes(site, name="somebody")
    problem = site.refusal()
    assert problem.reason is Reason.STORAGE_DENIED
    assert problem.message == (
        f"spec.export.publish[0].to: {site.target} can't be published to: "
        f"the token may not write there, says {site.host}"
    )
    assert "team" in problem.hint
    assert site.commits == []


def test_an_owner_in_whose_name_the_token_creates_nothing(site: Site) -> None:
    becomes(site, name="somebody")
    site.hub.refuse(CREATIONS[site.scheme], failing(404))
    problem = site.refusal()
    assert problem.reason is Reason.CONFIG_INVALID
    assert problem.message == (
        f"spec.export.publish[0].to: {site.target} can't be created: on {site.host} there is no team in "
        "whose name the token may create it"
    )


def test_an_organisation_in_which_the_token_may_write(site: Site) -> None:
    becomes(site, name="somebody", organisations={"team": "write"})
    assert checked(site) is None
    site.publish()
    assert site.files() == dict(FILES)


MEANINGS: dict[str, tuple[str, int, Reason, str]] = {
    "a name that something else has": (
        "creation",
        409,
        Reason.CONFIG_INVALID,
        "can't be published to: the name is taken on {host}, and not by a model",
    ),
    "a name that the hub does not allow": (
        "creation",
        400,
        Reason.CONFIG_INVALID,
        "can't be published to: {host} refuses the repository's name, or a file",
    ),
    "an account that may not create": (
        "creation",
        403,
        Reason.STORAGE_DENIED,
        "can't be published to: the token may not write there, says {host}",
    ),
    "a commit that is too large": (
        "commit",
        413,
        Reason.STORAGE_FULL,
        "can't be published to: the storage of team on {host} is full",
    ),
    "an account that has to pay": (
        "commit",
        402,
        Reason.STORAGE_FULL,
        "can't be published to: the storage of team on {host} is full",
    ),
    "something that nobody has heard of": (
        "commit",
        418,
        Reason.HUB_UNAVAILABLE,
        "can't be published to: {host} answers 418",
    ),
}


@pytest.mark.parametrize("sentence", MEANINGS)
def test_refusals_have_a_meaning_and_never_the_servers_words(site: Site, sentence: str) -> None:
    where, status, reason, message = MEANINGS[sentence]
    site.hub.refuse({"creation": CREATIONS, "commit": COMMITS}[where][site.scheme], *[echo(status)] * 5)
    problem = site.refusal()
    assert problem.reason is reason
    assert problem.message == (f"spec.export.publish[0].to: {site.target} {message.format(host=site.host)}")
    assert problem.hint
    assert TOKENS[site.scheme] not in problem.message + problem.hint


def test_a_full_store_of_large_files(site: Site) -> None:
    site.storage.refuse(sha256(FILES[SHARDS[0]]), failing(507))
    assert site.refusal().reason is Reason.STORAGE_FULL


FULL = {
    "hf": Answer(403, b'{"error": "Private repository storage limit reached"}'),
    "modelscope": Answer(403, b'{"code": "QuotaLimitExceed", "message": "no more"}'),
}


def test_a_quota_in_the_hubs_own_words(site: Site) -> None:
    site.hub.refuse(COMMITS[site.scheme], lambda _request, _right: FULL[site.scheme])
    assert site.refusal().reason is Reason.STORAGE_FULL


@pytest.mark.parametrize("where", [CREATIONS, COMMITS], ids=["creation", "commit"])
def test_a_hub_that_stays_out_of_order(site: Site, where: Mapping[str, str]) -> None:
    site.hub.refuse(where[site.scheme], *[failing(503)] * 5)
    problem = site.refusal()
    assert problem.reason is Reason.HUB_UNAVAILABLE
    assert problem.message == (
        f"spec.export.publish[0].to: {site.target} can't be published to: {site.host} answers 503"
    )
    assert site.pauses == [1.0, 2.0, 4.0, 8.0]


def test_a_hub_that_does_not_show_what_was_committed(site: Site) -> None:
    made = {"commitUrl": f"{site.hub.url}/team/tuned/commit/0", "commitOid": "0" * 40}
    site.hub.refuse(COMMITS[site.scheme], *[sending(json.dumps(made).encode())] * 5)
    problem = site.refusal()
    assert problem.reason is Reason.HUB_UNAVAILABLE
    assert problem.message.endswith(f"{site.host} does not show what was committed")


BATCHES = {"hf": "/info/lfs/objects/batch", "modelscope": "/info/lfs/objects/batch"}


def led_to(url: str) -> Callable[[Request, Answer], Answer]:
    """The hub names another place for every large file."""

    def fault(request: Request, right: Answer) -> Answer:
        oid = json.loads(request.body)["objects"][0]["oid"]
        one = {"oid": oid, "size": 1, "actions": {"upload": {"href": url}}}
        whole = {"objects": [one]}
        return replace(right, body=json.dumps({"Data": whole, **whole}).encode())

    return fault


@pytest.mark.parametrize("url", ["http://169.254.169.254/latest", "file:///etc/passwd", "http://10.0.0.1/"])
def test_a_place_for_files_inside_our_network_gets_none(site: Site, url: str) -> None:
    site.hub.fail(BATCHES[site.scheme], *[led_to(url)] * 3)
    problem = site.refusal()
    assert problem.reason is Reason.CONFIG_INVALID
    assert "which is not followed" in problem.message
    assert site.commits == []


@pytest.mark.parametrize("answer", [b"[]", b"<html>", b'{"objects": 1}', b'{"objects": [{}]}'], ids=str)
def test_an_answer_that_is_something_else(site: Site, answer: bytes) -> None:
    site.hub.refuse(BATCHES[site.scheme], *[sending(answer)] * 3)
    assert site.refusal().reason is Reason.HUB_UNAVAILABLE


ODD = [b'{"Code": [], "code": {}}', b"[[", b'{"Code": 409}', b'["Code"]', b"\xff", b"[" * 60_000]


@pytest.mark.parametrize("body", ODD, ids=lambda body: repr(body[:20]))
def test_a_refusal_that_explains_itself_oddly(site: Site, body: bytes) -> None:
    site.hub.refuse(CREATIONS[site.scheme], lambda _request, _right: Answer(403, body))
    assert site.refusal().reason is Reason.STORAGE_DENIED


@pytest.mark.parametrize("account", [b"[]", b"{}", b'{"name": "team", "auth": []}', b"<html>"], ids=str)
def test_an_account_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, account: bytes) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "hf_good")
    with connected("hf", tmp_path) as site:
        site.hub.refuse("/api/whoami-v2", sending(account))
        problem = checked(site)
    assert problem
    assert problem.reason is Reason.HUB_UNAVAILABLE


def test_an_account_whose_token_is_of_a_newer_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "hf_good")
    with connected("hf", tmp_path) as site:
        site.hub.refuse("/api/whoami-v2", sending(b'{"name": "team", "auth": {"type": "oauth"}}'))
        assert checked(site) is None


def test_a_commit_that_meets_another_on_modelscope(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "ms-good")
    with connected("modelscope", tmp_path) as site:
        site.hub.refuse("/commit/master", lambda _request, _right: failure(400, "busy", 10_030_000_001))
        site.publish()
        assert (site.files(), site.pauses) == (dict(FILES), [1.0])


def test_two_runs_that_make_the_repository_at_once(site: Site) -> None:
    def other_first(request: Request, _right: Answer) -> Answer:
        site.hub.answer(request)
        return site.hub.answer(request)

    site.hub.refuse(CREATIONS[site.scheme], other_first)
    site.publish()
    assert site.files() == dict(FILES)


@pytest.mark.parametrize(
    ("is_found_first", "says"),
    [
        pytest.param(False, f"the file {SHARDS[0]} does not match manifest.json", id="before it is found"),
        pytest.param(
            True, f"the merged model's file {SHARDS[0]} does not match manifest.json", id="after it was found"
        ),
    ],
)
def test_a_file_that_the_store_damaged_is_not_published(
    site: Site, monkeypatch: pytest.MonkeyPatch, is_found_first: bool, says: str
) -> None:
    arguments = site.arguments()
    where = site.put(arguments)
    body = bytearray(FILES[SHARDS[0]])
    body[-1] ^= 1

    def find(*given: Any) -> Manifest | None:
        found = find_whole(*given) if is_found_first else None
        site.store.put(f"{where}/{SHARDS[0]}", [bytes(body)])
        return found or find_whole(*given)

    monkeypatch.setattr(stage, "find_whole", find)
    with pytest.raises(StageError) as refused:
        site.run(arguments)
    assert refused.value.reason is Reason.ARTIFACT_CORRUPT
    assert says in refused.value.message
    assert site.commits == []
    assert sha256(FILES[SHARDS[0]]) not in site.storage.blobs


@pytest.mark.parametrize("to", ["hf://team/a--b", "hf://team/model.git", "modelscope://team/.."])
def test_names_that_no_repository_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str) -> None:
    scheme = to.partition("://")[0]
    monkeypatch.setenv(TOKEN_VARIABLE, TOKENS[scheme])
    with connected(scheme, tmp_path) as site:
        problem = checked(site, to=to)
        assert problem
        assert problem.reason is Reason.CONFIG_INVALID
        assert site.hub.requests == []


class TestBeforeTheTraining:
    """What is known before a GPU is asked for, and that nothing is changed to know it."""

    def test_a_target_that_can_be_made_is_not_made(self, site: Site) -> None:
        assert checked(site) is None
        assert "models/team/tuned" not in site.hub.repositories
        assert {request.method for request in site.hub.requests} == {"GET"}

    def test_a_target_that_is_there_can_be_written_to(self, site: Site) -> None:
        site.hub.repositories["models/team/tuned"] = Repository({})
        assert checked(site) is None

    @pytest.mark.parametrize(
        ("account", "there", "reason"),
        [
            ({"name": "somebody"}, True, Reason.STORAGE_DENIED),
            ({"name": "somebody"}, False, Reason.CONFIG_INVALID),
            ({"role": "read"}, False, Reason.STORAGE_DENIED),
            ({"name": "somebody", "organisations": {"team": "read"}}, False, Reason.STORAGE_DENIED),
        ],
        ids=["a stranger's repository", "a stranger's name", "a token that reads", "a member who reads"],
    )
    def test_hugging_face_tells_what_a_token_may_do(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, account: Any, there: bool, reason: Reason
    ) -> None:
        monkeypatch.setenv(TOKEN_VARIABLE, "hf_good")
        with connected("hf", tmp_path) as site:
            assert isinstance(site.hub, WritableHuggingFaceHub)
            becomes(site, **account)
            if there:
                site.hub.repositories["models/team/tuned"] = Repository({})
            problem = checked(site)
        assert problem
        assert problem.reason is reason

    def test_a_bucket_that_is_not_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LORAFINETUNE_STORE_DIRECTORY", str(tmp_path / "buckets"))
        with connected("hf", tmp_path) as site:
            problem = checked(site, to="s3://models/tuned")
        assert problem
        assert problem.reason is Reason.CONFIG_INVALID

    def test_the_first_stage_asks_before_it_fetches_anything(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(TOKEN_VARIABLE, "stolen")
        bench = Bench(site.root, site.connection())
        publish = site.arguments().export.publish
        arguments = bench.arguments(f"file://{site.root}/nothing").model_copy(update={"publish": publish})
        with pytest.raises(StageError) as refused:
            download.run(arguments, bench.context(), bench.pauses.append)
        assert refused.value.reason is Reason.CREDENTIALS_INVALID


def test_a_name_that_the_licence_does_not_allow_gets_nothing(site: Site) -> None:
    """Prepare has said so before, where the target was there then."""
    refused = site.refusal({**FILES, "LICENSE": b"The glm-4-9b License"})
    assert refused.reason is Reason.CONFIG_INVALID
    assert refused.message.startswith(f"export.publish[0].to: {site.target}: the base model's licence asks ")
    assert "models/team/tuned" not in site.hub.repositories
    assert site.sent() == []
