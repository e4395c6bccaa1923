"""What the hubs refuse, and how a person is told."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from hubs.huggingface import HuggingFaceHub
from hubs.modelscope import ModelScopeHub
from hubs.repository import Hub, Repository, model
from hubs.server import failing
from lorafinetune.api.reasons import Reason
from stages.download_builders import Bench, hub

REPOSITORIES = {
    "models/owner/model": Repository(model()),
    "models/owner/private": Repository(model(), token="hf_owner"),
    "models/owner/gated": Repository(model(), token="hf_accepted", gated=True),
    "datasets/owner/data": Repository({"rows.json": b"[{}]"}),
    "datasets/owner/gated": Repository({"rows.json": b"[{}]"}, token="hf_accepted", gated=True),
}
NO_TOKEN = "Name a Secret with a token in the source's connection: the repository may be private."
BAD_TOKEN = "Check the Secret that the connection names."
CHECK = "Check `spec.model.{}`, and the endpoint of its connection."


@pytest.fixture
def huggingface() -> Iterator[HuggingFaceHub]:
    with HuggingFaceHub(REPOSITORIES) as server:
        yield server


@pytest.fixture
def modelscope() -> Iterator[ModelScopeHub]:
    with ModelScopeHub(REPOSITORIES) as server:
        yield server


@pytest.fixture
def hubs(huggingface: HuggingFaceHub, modelscope: ModelScopeHub) -> Mapping[str, Hub]:
    """Both, by scheme."""
    return {"hf": huggingface, "modelscope": modelscope}


def bench(tmp_path: Path, server: Hub) -> Bench:
    return Bench(tmp_path, hub(server.url))


def told(server: Hub, text: str) -> str:
    return text.format(host=server.url.removeprefix("http://"), url=server.url)


@pytest.mark.parametrize(
    ("source", "revision", "token", "reason", "message", "hint"),
    [
        pytest.param(
            "hf://owner/nothing",
            None,
            None,
            Reason.MODEL_NOT_FOUND,
            "does not exist on {host}, or is private and needs a token",
            CHECK.format("source"),
            id="a repository that does not exist",
        ),
        pytest.param(
            "hf://owner/private",
            None,
            None,
            Reason.MODEL_NOT_FOUND,
            "does not exist on {host}, or is private and needs a token",
            CHECK.format("source"),
            id="a private one without a token: the hub does not tell the two apart",
        ),
        pytest.param(
            "hf://owner/private",
            None,
            "hf_good",
            Reason.MODEL_NOT_FOUND,
            "does not exist on {host}",
            CHECK.format("source"),
            id="a private one with another's token",
        ),
        pytest.param(
            "hf://owner/model",
            None,
            "hf_expired",
            Reason.CREDENTIALS_INVALID,
            "can't be fetched: {host} does not accept the token",
            BAD_TOKEN,
            id="a token that is not valid",
        ),
        pytest.param(
            "hf://owner/model",
            "v9",
            None,
            Reason.MODEL_NOT_FOUND,
            "has no revision 'v9' on {host}",
            CHECK.format("revision"),
            id="a revision that does not exist",
        ),
        pytest.param(
            "hf://owner/gated",
            None,
            None,
            Reason.MODEL_GATED,
            "is gated: {host} asks for accepted terms, or for a token with more rights",
            "Accept the terms at {url}/owner/gated, and name a Secret with a token in the connection.",
            id="a gated one without a token",
        ),
        pytest.param(
            "hf://owner/gated",
            None,
            "hf_good",
            Reason.MODEL_GATED,
            "is gated: {host} asks for accepted terms, or for a token with more rights",
            "Accept the terms at {url}/owner/gated, with the token's account.",
            id="a gated one with the token of somebody who has not accepted",
        ),
        pytest.param(
            "hf://owner/--",
            None,
            None,
            Reason.MODEL_NOT_FOUND,
            "does not exist on {host}, or is private and needs a token",
            CHECK.format("source"),
            id="a name that no repository can have",
        ),
    ],
)
def test_huggingface_refuses(
    huggingface: HuggingFaceHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    revision: str | None,
    token: str | None,
    reason: Reason,
    message: str,
    hint: str,
) -> None:
    if token:
        monkeypatch.setenv("CONNECTION_HUB_TOKEN", token)

    refusal = bench(tmp_path, huggingface).refusal(source, revision=revision)

    assert refusal.reason is reason
    assert refusal.message == told(huggingface, f"spec.model.source: {source} {message}")
    assert refusal.hint == told(huggingface, hint)


@pytest.mark.parametrize(
    ("source", "revision", "token", "reason", "message", "hint"),
    [
        pytest.param(
            "modelscope://owner/nothing",
            None,
            None,
            Reason.MODEL_NOT_FOUND,
            "does not exist on {host}, or is private and needs a token",
            CHECK.format("source"),
            id="a repository that does not exist",
        ),
        pytest.param(
            "modelscope://owner/model",
            "v9",
            None,
            Reason.MODEL_NOT_FOUND,
            "has no revision 'v9' on {host}",
            CHECK.format("revision") + " There are master, v1.0.",
            id="a revision that does not exist",
        ),
        pytest.param(
            "modelscope://owner/model",
            None,
            "ms-expired",
            Reason.CREDENTIALS_INVALID,
            "can't be fetched: {host} does not accept the token",
            BAD_TOKEN,
            id="a token that is not valid",
        ),
        pytest.param(
            "modelscope://owner/gated",
            None,
            "ms-good",
            Reason.MODEL_GATED,
            "is gated: {host} asks for accepted terms, or for a token with more rights",
            "Accept the terms at {url}/models/owner/gated, with the token's account.",
            id="a gated one",
        ),
    ],
)
def test_modelscope_refuses(
    modelscope: ModelScopeHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    revision: str | None,
    token: str | None,
    reason: Reason,
    message: str,
    hint: str,
) -> None:
    if token:
        monkeypatch.setenv("CONNECTION_HUB_TOKEN", token)

    refusal = bench(tmp_path, modelscope).refusal(source, revision=revision)

    assert refusal.reason is reason
    assert refusal.message == told(modelscope, f"spec.model.source: {source} {message}")
    assert refusal.hint == told(modelscope, hint)


def test_a_dataset_is_named_by_its_place_in_the_list(huggingface: HuggingFaceHub, tmp_path: Path) -> None:
    datasets = ["hf://owner/data/rows.json", "hf://owner/data", "hf://owner/nothing"]

    refusal = bench(tmp_path, huggingface).refusal("hf://owner/model", *datasets)

    assert refusal.reason is Reason.DATASET_NOT_FOUND
    assert refusal.message == told(
        huggingface,
        "spec.datasets[2].source: hf://owner/nothing does not exist on {host}, "
        "or is private and needs a token",
    )
    assert not list(bench(tmp_path, huggingface).store.list("models")), (
        "nothing is copied before all is resolved"
    )


@pytest.mark.parametrize("scheme", ["hf", "modelscope"])
def test_a_file_that_a_repository_does_not_have(hubs: Mapping[str, Hub], tmp_path: Path, scheme: str) -> None:
    server = hubs[scheme]

    refusal = bench(tmp_path, server).refusal(f"{scheme}://owner/model", f"{scheme}://owner/data/other.json")

    assert refusal.reason is Reason.DATASET_NOT_FOUND
    assert refusal.message == (
        f"spec.datasets[0].source: {scheme}://owner/data/other.json does not exist: "
        "owner/data has no such file"
    )


@pytest.mark.parametrize("scheme", ["hf", "modelscope"])
def test_a_model_whose_listing_is_open_and_whose_files_are_gated(
    hubs: Mapping[str, Hub], tmp_path: Path, scheme: str
) -> None:
    server = hubs[scheme]
    server.fail("config.json", failing(403, X_Error_Code="GatedRepo"))

    refusal = bench(tmp_path, server).refusal(f"{scheme}://owner/model")

    assert refusal.reason is Reason.MODEL_GATED


@pytest.mark.parametrize("scheme", ["hf", "modelscope"])
def test_a_file_that_vanishes_between_listing_and_copy(
    hubs: Mapping[str, Hub], tmp_path: Path, scheme: str
) -> None:
    server = hubs[scheme]
    server.fail("tokenizer.json", failing(404, X_Error_Code="EntryNotFound"))

    refusal = bench(tmp_path, server).refusal(f"{scheme}://owner/model")

    assert refusal.reason is Reason.MODEL_NOT_FOUND
    assert refusal.message == told(
        server,
        f"spec.model.source: {scheme}://owner/model is listed on {{host}} with a file that it does not have",
    )


@pytest.mark.parametrize("scheme", ["hf", "modelscope"])
def test_a_status_that_means_nothing_known(hubs: Mapping[str, Hub], tmp_path: Path, scheme: str) -> None:
    server = hubs[scheme]
    server.fail("config.json", failing(418))

    refusal = bench(tmp_path, server).refusal(f"{scheme}://owner/model")

    assert refusal.reason is Reason.HUB_UNAVAILABLE
    assert refusal.message == told(
        server, f"spec.model.source: {scheme}://owner/model can't be fetched: {{host}} answers 418"
    )


@pytest.mark.parametrize(
    ("token", "what"),
    [
        (None, "needs the token of the connection 'hub': CONNECTION_HUB_TOKEN is not set"),
        ("hf_\nsecond line", "can't be fetched: CONNECTION_HUB_TOKEN holds a character that no token has"),
        ("hf_geheimniß", "can't be fetched: CONNECTION_HUB_TOKEN holds a character that no token has"),
    ],
    ids=["is not there", "has two lines", "has a letter beyond ASCII"],
)
@pytest.mark.parametrize("scheme", ["hf", "modelscope"])
def test_a_secret_whose_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, token: str | None, what: str
) -> None:
    if token:
        monkeypatch.setenv("CONNECTION_HUB_TOKEN", token)

    refusal = Bench(tmp_path, hub("http://127.0.0.1:9", secret=True)).refusal(f"{scheme}://owner/model")

    assert refusal.reason is Reason.CREDENTIALS_INVALID
    assert refusal.message == f"spec.model.source: {scheme}://owner/model {what}"


def test_modelscope_gets_the_token_in_both_ways_that_its_endpoints_know(
    modelscope: ModelScopeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONNECTION_HUB_TOKEN", "ms-good")

    bench(tmp_path, modelscope).run("modelscope://owner/model")

    for request in modelscope.requests:
        assert request.headers["Authorization"] == "Bearer ms-good"
        assert request.headers["Cookie"] == "m_session_id=ms-good"


def test_the_tokens_of_the_machine_are_not_used(
    huggingface: HuggingFaceHub, modelscope: ModelScopeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MODELSCOPE_API_TOKEN"):
        monkeypatch.setenv(name, "hf_of_the_machine")
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password netrc-secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))

    bench(tmp_path, huggingface).run("hf://owner/model")
    bench(tmp_path, modelscope).run("modelscope://owner/model")

    for request in [*huggingface.requests, *modelscope.requests]:
        assert not {"Authorization", "Cookie"} & set(request.headers)


@pytest.mark.parametrize("source", ["hf://owner", "modelscope://owner/..", "hf:///model"])
def test_a_source_that_names_no_repository(tmp_path: Path, source: str) -> None:
    refusal = Bench(tmp_path).refusal("file:///dev", source)

    assert refusal.reason is Reason.CONFIG_INVALID
    assert refusal.message == f"spec.datasets[0].source: {source} does not name a repository as OWNER/NAME"


def test_a_source_of_an_unknown_kind(tmp_path: Path) -> None:
    refusal = Bench(tmp_path).refusal("file:///dev", "ftp://example.org/rows.json")

    assert refusal.reason is Reason.CONFIG_INVALID
    assert refusal.message == (
        "spec.datasets[0].source: ftp://example.org/rows.json is none of hf://, modelscope://, s3://, "
        "https:// and file://"
    )
