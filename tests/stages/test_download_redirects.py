"""Where a hub may send the download to, what is taken along, and what comes back."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from hubs.repository import sha256
from hubs.server import Answer, Request, cut_after, failing, redirected, sending
from lorafinetune.api.reasons import Reason
from stages.download_site import (
    MODEL_FILES,
    TAKEN,
    TOKENS,
    WEIGHTS,
    Site,
    connected,
)


@pytest.fixture(params=["hf", "modelscope"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with connected(request.param, tmp_path) as site:
        yield site


def test_large_files_come_from_another_host_without_the_token(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONNECTION_HUB_TOKEN", TOKENS[site.scheme])
    site.server.cdn = site.cdn.url
    site.cdn.fail(sha256(MODEL_FILES[WEIGHTS]), cut_after(2000))

    site.has_files(TAKEN)

    assert {request.token for request in site.server.requests} == {TOKENS[site.scheme]}
    assert [request.headers.get("Range") for request in site.cdn.requests] == [None, "bytes=2000-"]
    for request in site.cdn.requests:
        assert not {"Authorization", "Cookie"} & set(request.headers)
        assert TOKENS[site.scheme] not in str(request)


def test_a_redirect_to_another_port_of_the_host_does_not_take_the_token_along(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONNECTION_HUB_TOKEN", TOKENS[site.scheme])
    site.server.cdn = site.cdn.url.replace("localhost", "127.0.0.1")

    site.has_files(TAKEN)

    assert site.cdn.requests
    assert all(TOKENS[site.scheme] not in str(request) for request in site.cdn.requests)


def test_a_redirect_within_the_hub_takes_the_token_along(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTION_HUB_TOKEN", TOKENS[site.scheme])

    def moved(request: Request, _right: Answer) -> Answer:
        return Answer(307, headers={"Location": f"{request.path}?{urlencode(request.query)}"})

    site.server.fail(site.listing, moved)
    site.server.fail(WEIGHTS, moved)

    site.has_files(TAKEN)

    assert len(site.server.asked(site.listing)) == len(site.server.asked(WEIGHTS)) == 2
    assert {request.token for request in site.server.requests} == {TOKENS[site.scheme]}


def test_a_signature_that_has_expired_is_asked_for_again(site: Site) -> None:
    site.server.cdn = site.cdn.url
    site.cdn.fail(sha256(MODEL_FILES[WEIGHTS]), failing(403))

    site.has_files(TAKEN)

    assert len(site.server.asked(WEIGHTS)) == 2


@pytest.mark.parametrize(
    ("where", "what"),
    [
        ("http://169.254.169.254/latest/meta-data/", "169.254.169.254, a link-local address"),
        ("http://10.0.0.1/", "10.0.0.1, a private address"),
        ("http://[::ffff:10.0.0.1]/", "::ffff:10.0.0.1, a private address"),
        ("http://0.0.0.0/", "0.0.0.0, a private address"),
        ("ftp://example.org/model", "ftp://"),
        ("file:///etc/passwd", "file://"),
    ],
    ids=str,
)
@pytest.mark.parametrize("target", ["listing", WEIGHTS], ids=["for the listing", "for a file"])
def test_a_redirect_into_the_network_is_refused(site: Site, target: str, where: str, what: str) -> None:
    site.server.fail(site.listing if target == "listing" else target, redirected(where))

    refusal = site.bench.refusal(site.model)

    assert refusal.reason is Reason.CONFIG_INVALID
    assert refusal.message == (
        f"spec.model.source: {site.model} can't be fetched: {site.host} redirects to {what}, "
        "which is not followed"
    )
    assert site.bench.pauses == []


def test_a_circle_of_redirects_ends(site: Site) -> None:
    def again(request: Request, _right: Answer) -> Answer:
        site.server.fail(WEIGHTS, again)
        return Answer(302, headers={"Location": f"{site.server.url}/{request.target}"})

    site.server.fail(WEIGHTS, again)

    refusal = site.bench.refusal(site.model)

    assert refusal.reason is Reason.HUB_UNAVAILABLE
    assert refusal.message.endswith("redirects in a circle")


def test_content_that_is_not_what_was_announced_is_not_committed(site: Site) -> None:
    damaged = bytearray(MODEL_FILES[WEIGHTS])
    damaged[-1] ^= 1
    site.server.fail(WEIGHTS, sending(bytes(damaged)))

    refusal = site.bench.refusal(site.model)

    assert refusal.reason is Reason.ARTIFACT_CORRUPT
    assert refusal.message == (
        f"spec.model.source: {site.model} sends {WEIGHTS} with the sha256 {sha256(bytes(damaged))}, "
        f"and announces {sha256(MODEL_FILES[WEIGHTS])}"
    )
    assert not [
        entry for entry in site.bench.store.list("models") if entry.key.endswith((WEIGHTS, "manifest.json"))
    ]
    site.has_files(TAKEN)


@pytest.mark.parametrize(
    ("body", "sent"),
    [(MODEL_FILES[WEIGHTS] + b"more", len(MODEL_FILES[WEIGHTS]) + 4), (b"short", 5)],
    ids=["more than was announced", "less than was announced"],
)
def test_another_size_than_was_announced_is_corrupt(site: Site, body: bytes, sent: int) -> None:
    site.server.fail(WEIGHTS, sending(body))

    refusal = site.bench.refusal(site.model)

    assert refusal.reason is Reason.ARTIFACT_CORRUPT
    size = len(MODEL_FILES[WEIGHTS])
    assert refusal.message == (
        f"spec.model.source: {site.model} has {size} bytes in {WEIGHTS}, and sends {sent}"
    )


@pytest.mark.parametrize(
    ("content_range", "what"),
    [
        ("bytes 500-{end}/{size}", "sends {name} from byte 500 on, not from 100"),
        ("bytes 100-200/7", "has {size} bytes in {name}, and sends 7"),
        ("nonsense", "has {size} bytes in {name}, and sends something else"),
    ],
    ids=["another part", "a part of another file", "a part of nobody knows what"],
)
def test_a_range_that_was_not_asked_for_is_not_stitched_in(site: Site, content_range: str, what: str) -> None:
    names = {"name": WEIGHTS, "size": len(MODEL_FILES[WEIGHTS]), "end": len(MODEL_FILES[WEIGHTS]) - 1}
    wrong = Answer(206, b"x", {"Content-Range": content_range.format(**names)})
    site.server.fail(WEIGHTS, cut_after(100), lambda _request, _right: wrong)

    refusal = site.bench.refusal(site.model)

    assert refusal.reason is Reason.ARTIFACT_CORRUPT
    assert refusal.message == f"spec.model.source: {site.model} {what.format(**names)}"
