"""How requests are named, logged in and observed; and what health makes of what is known."""

from pathlib import Path
from typing import Any

import pytest

from lorafinetune.shell.connection import TOKEN_IS_READ_EVERY, TokenFile
from lorafinetune.shell.liveness import STALE_AFTER, WatchLiveness
from lorafinetune.shell.paths import Call, call, path
from lorafinetune.shell.states import state_of
from lorafinetune.shell.status import Health
from unit.test_shell_queue import Clock

RESOURCES = "/apis/lorafinetune.dev/v1alpha1/namespaces/team-a/lorafinetunes"

CALLS: dict[str, tuple[str, str, bool, Call]] = {
    "a list": ("GET", "/apis/batch/v1/jobs", False, Call("list", "jobs")),
    "a watch in a namespace": ("GET", "/api/v1/namespaces/a/pods", True, Call("watch", "pods", "a")),
    "one object": ("GET", f"{RESOURCES}/tune", False, Call("get", "lorafinetunes", "team-a")),
    "a creation": ("POST", "/apis/batch/v1/namespaces/a/jobs", False, Call("create", "jobs", "a")),
    "a status": ("PUT", f"{RESOURCES}/tune/status", False, Call("update", "lorafinetunes/status", "team-a")),
    "a patch": ("PATCH", "/apis/batch/v1/namespaces/a/jobs/x", False, Call("patch", "jobs", "a")),
    "a deletion": ("DELETE", "/apis/batch/v1/namespaces/a/jobs/x", False, Call("delete", "jobs", "a")),
    "a review": (
        "POST",
        "/apis/authentication.k8s.io/v1/tokenreviews",
        False,
        Call("create", "tokenreviews"),
    ),
    "what is no object": ("GET", "/openid/v1/jwks", False, Call("get", "other")),
}


@pytest.mark.parametrize("sentence", CALLS)
def test_a_request_is_named_as_rbac_names_it(sentence: str) -> None:
    method, where, watches, named = CALLS[sentence]
    assert call(method, where, watches) == named


def test_paths_lead_to_what_they_are_made_of() -> None:
    assert path("lorafinetunes", "team-a", "tune", "status") == f"{RESOURCES}/tune/status"
    assert path("pods", None) == "/api/v1/pods"


def test_a_renewed_token_is_used_after_half_a_minute(tmp_path: Path) -> None:
    clock, file = Clock(), tmp_path / "token"
    file.write_text("old\n")
    token = TokenFile(file, clock)
    assert token() == {"Authorization": "Bearer old"}
    file.write_text("new\n")
    assert token() == {"Authorization": "Bearer old"}
    clock.now += TOKEN_IS_READ_EVERY
    assert token() == {"Authorization": "Bearer new"}


def test_it_is_ready_while_every_watch_is_opened_anew_again_and_again() -> None:
    clock = Clock()
    liveness = WatchLiveness(["team-a"], clock)
    health = Health(liveness)
    assert health.delays() == ["the first lists are not complete"]
    health.complete = True
    for plural in ("lorafinetunes", "jobs", "pods", "events"):
        liveness.record(Call("watch", plural, "team-a"), 200)
    clock.now += STALE_AFTER
    assert health.delays() == []
    clock.now += 1
    liveness.record(Call("watch", "jobs", "team-a"), 200)
    liveness.record(Call("watch", "pods", "team-a"), 410)
    liveness.record(Call("list", "events", "team-a"), 200)
    stale = [f"the watch of {plural} in team-a is stale" for plural in ("lorafinetunes", "pods", "events")]
    assert health.delays() == stale
    assert health.troubles() == []
    clock.now += 1000
    assert "the watch of lorafinetunes in team-a is dead" in health.troubles()


def condition(kind: str, status: str = "True", reason: str = "R") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason}


STATES: dict[str, tuple[dict[str, Any], tuple[str, str]]] = {
    "nobody has looked": ({}, ("Pending", "")),
    "it runs": ({"conditions": [condition("Ready", "False", "Train")]}, ("Running", "Train")),
    "a queue holds its training": (
        {"conditions": [condition("Ready", "False", "Queued"), condition("Queued", reason="Queued")]},
        ("Queued", "Queued"),
    ),
    "it waits for a person": (
        {"conditions": [condition("Ready", "False", "QuotaExceeded")], "failure": {}},
        ("Waiting", "QuotaExceeded"),
    ),
    "it is done": (
        {"conditions": [condition("Ready", "True", "Complete"), condition("Complete")]},
        ("Complete", "Complete"),
    ),
    "it has failed": (
        {"conditions": [condition("Ready", "False", "ModelGated"), condition("Failed")], "failure": {}},
        ("Failed", "ModelGated"),
    ),
}


@pytest.mark.parametrize("sentence", STATES)
def test_a_run_is_counted_by_its_state_when(sentence: str) -> None:
    status, state = STATES[sentence]
    assert state_of(status) == state
