"""Which cluster and namespace is meant, and what is said where that can't be known."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from lorafinetune.cli.cluster import ApiError, Cluster, Response
from lorafinetune.cli.connection import Access, connect
from lorafinetune.cli.errors import CommandError
from lorafinetune.contract.outcome import ExitCode


def config(name: str, **user: Any) -> dict[str, Any]:
    """A kubeconfig of one cluster, user and context, all of one name, and the context's own namespace."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}.example:6443/"}}],
        "users": [{"name": name, "user": user or {"token": "t"}}],
        "contexts": [
            {"name": name, "context": {"cluster": name, "user": name, "namespace": f"{name}-space"}}
        ],
        "current-context": name,
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with two kubeconfigs, `one` and `two`, of which KUBECONFIG names none yet."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    for name in ("one", "two"):
        (tmp_path / name).write_text(yaml.safe_dump(config(name)))
    return tmp_path


CHOICES: dict[str, tuple[str, Access, tuple[str, str]]] = {
    "the current context": ("one", Access(), ("one", "one-space")),
    "another namespace": ("one", Access(namespace="mine"), ("one", "mine")),
    "a file that is named before the environment's": ("one", Access(kubeconfig="two"), ("two", "two-space")),
    "a context of several files": ("one:two", Access(context="two"), ("two", "two-space")),
    "files that are not there beside one that is": ("none:one", Access(), ("one", "one-space")),
}


@pytest.mark.parametrize("sentence", CHOICES)
def test_what_is_meant(sentence: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, access, (name, namespace) = CHOICES[sentence]
    monkeypatch.chdir(folder)
    monkeypatch.setenv("KUBECONFIG", files)
    cluster = connect(access)
    assert (cluster.server, cluster.namespace) == (f"https://{name}.example:6443", namespace)


PLUGIN = {"apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never", "command": "./no-such"}
REFUSED: dict[str, tuple[object, Access, str]] = {
    "no kubeconfig": (None, Access(), "there is no kubeconfig at ~/.kube/config. Give --kubeconfig FILE."),
    "a file that is named and not there": (None, Access(kubeconfig="x"), "there is no kubeconfig at x"),
    "an empty file": ("", Access(kubeconfig="bad"), "bad file is empty"),
    "a file that is no YAML": ("{", Access(kubeconfig="bad"), "bad can't be used: "),
    "a file of another kind": ([1], Access(kubeconfig="bad"), "bad can't be used: "),
    "a context that is not there": (config("a"), Access("b", "", "bad"), "Expected object with name b"),
    "a credential plugin that is not installed": (
        config("a", exec=PLUGIN),
        Access(kubeconfig="bad"),
        "the credential plugin fails: ",
    ),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_can_not_be_known_is_said(sentence: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, access, said = REFUSED[sentence]
    monkeypatch.chdir(folder)
    (folder / "bad").write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    with pytest.raises(CommandError) as refused:
        connect(access)
    assert refused.value.message.startswith("NoCluster: ")
    assert said in refused.value.message
    assert "\n" not in refused.value.message


def answering(status: int, text: bytes, urls: list[str]) -> Cluster:
    """A cluster that answers everything in one way."""

    class Answer:
        def __init__(self) -> None:
            self.status = status

        def stream(self, amt: int = 0) -> Iterator[bytes]:
            yield text

        def release_conn(self) -> None: ...

    def send(method: str, url: str, _: Mapping[str, str], body: bytes | None, quiet: float) -> Response:
        urls.append(url)
        return Answer()

    return Cluster("https://a", "team-a", send)


ANSWERS: dict[str, tuple[int, bytes, ExitCode, str]] = {
    "an API server without our kind": (
        404,
        b'{"reason": "NotFound", "message": "the server could not find the requested resource"}',
        ExitCode.BAD_INPUT,
        "NotFound: the server could not find the requested resource. The cluster has no LoRAFineTune: ",
    ),
    "one that is busy": (
        429,
        b'{"reason": "TooManyRequests", "message": "m"}',
        ExitCode.TEMPORARY,
        "TooManyRequests: m.",
    ),
    "a proxy's page": (
        502,
        b"<html>\x1b[2J\n</html>",
        ExitCode.TEMPORARY,
        "ServerError: <html>\ufffd[2J <",
    ),
    "a page of something else": (
        200,
        b"<html>",
        ExitCode.TEMPORARY,
        "NoAnswer: what answers is no Kubernetes",
    ),
    "a number": (200, b"7", ExitCode.TEMPORARY, "NoAnswer: what answers is no Kubernetes API server."),
}


@pytest.mark.parametrize("sentence", ANSWERS)
def test_an_answer_that_is_no_success_is_one_line(sentence: str) -> None:
    status, text, code, said = ANSWERS[sentence]
    with pytest.raises(ApiError) as refused:
        answering(status, text, []).run("tune")
    assert refused.value.code == code
    assert refused.value.message.startswith(said)
    assert "\n" not in refused.value.message


def test_a_name_leads_nowhere_else() -> None:
    urls: list[str] = []
    cluster = answering(200, b"{}", urls)
    cluster.run("../../nodes?x=1#y z")
    assert urls == [
        "https://a/apis/lorafinetune.dev/v1alpha1/namespaces/team-a/lorafinetunes/"
        "..%2F..%2Fnodes%3Fx%3D1%23y%20z"
    ]
    for name in ("", ".", ".."):
        with pytest.raises(ApiError, match="not found"):
            cluster.merge(name, {})
