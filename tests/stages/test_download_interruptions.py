"""Hubs that break off, fail for a while, limit the rate, or are not there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hubs.repository import COMMIT
from hubs.server import Answer, Fault, Request, cut_after, failing, sending
from lorafinetune.api.reasons import Reason
from stages.download_builders import hub
from stages.download_site import (
    MODEL_FILES,
    TAKEN,
    WEIGHTS,
    Site,
    connected,
)

BACKOFF = [1.0, 2.0, 4.0, 8.0]


@pytest.fixture(params=["hf", "modelscope"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with connected(request.param, tmp_path) as site:
        yield site


def test_a_cut_connection_goes_on_where_it_was_cut(site: Site) -> None:
    site.server.fail(WEIGHTS, cut_after(1000), cut_after(50_000))

    site.has_files(TAKEN)

    asked = [request.headers.get("Range") for request in site.server.asked(WEIGHTS)]
    assert asked == [None, "bytes=1000-", "bytes=51000-"]
    assert site.bench.pauses == [1, 2]


def test_goes_on_with_a_server_that_ignores_ranges(site: Site) -> None:
    def whole(_request: Request, _right: Answer) -> Answer:
        return Answer(200, MODEL_FILES[WEIGHTS])

    site.server.fail(WEIGHTS, cut_after(1000), whole)

    site.has_files(TAKEN)


def test_gives_up_after_five_cuts_without_progress(site: Site) -> None:
    site.server.fail(WEIGHTS, *[cut_after(10)] * 5)

    refusal = site.bench.refusal(site.model)

    assert refusal.reason is Reason.HUB_UNAVAILABLE
    left = len(MODEL_FILES[WEIGHTS]) - 40
    assert refusal.message == (
        f"spec.model.source: {site.model} can't be fetched: {site.host} can't be reached: peer closed "
        f"connection without sending complete message body (received 10 bytes, expected {left})"
    )
    assert site.bench.pauses == BACKOFF


@pytest.mark.parametrize(
    "fault",
    [failing(500), failing(502), failing(503), failing(504), failing(429)],
    ids=["500", "502", "503", "504", "429"],
)
@pytest.mark.parametrize("target", ["listing", WEIGHTS], ids=["of the listing", "of a file"])
def test_a_failure_that_passes_is_waited_for(site: Site, target: str, fault: Fault) -> None:
    site.server.fail(site.listing if target == "listing" else target, fault, fault)

    site.has_files(TAKEN)

    assert site.bench.pauses == [1, 2]


@pytest.mark.parametrize(
    ("headers", "waited"),
    [
        ({"Retry_After": "7"}, 7),
        ({"RateLimit": '"api";r=0;t=55'}, 56),
        ({"Retry_After": "86400"}, 120),
        ({"Retry_After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"Retry_After": "soon"}, 1),
    ],
    ids=[
        "the seconds of Retry-After",
        "the reset of the rate limit's window",
        "two minutes at most",
        "nothing for a date that has passed",
        "the usual second for what is neither",
    ],
)
def test_a_server_that_limits_the_rate_is_given_the_time_it_asks_for(
    site: Site, headers: dict[str, str], waited: float
) -> None:
    site.server.fail(WEIGHTS, failing(429, **headers))

    site.has_files(TAKEN)

    assert site.bench.pauses == [waited]


def test_a_server_that_keeps_limiting_the_rate_is_unavailable(site: Site) -> None:
    site.server.fail(site.listing, *[failing(429, Retry_After="30")] * 5)

    refusal = site.bench.refusal(site.model)

    assert refusal.reason is Reason.HUB_UNAVAILABLE
    assert refusal.message == f"spec.model.source: {site.model} can't be fetched: {site.host} answers 429"
    assert site.bench.pauses == [30] * 4


def test_a_server_that_is_not_there_is_unavailable(site: Site) -> None:
    site.bench.connection = hub("http://127.0.0.1:9")

    refusal = site.bench.refusal(site.model)

    assert refusal.reason is Reason.HUB_UNAVAILABLE
    assert refusal.message == (
        f"spec.model.source: {site.model} can't be fetched: 127.0.0.1:9 can't be reached: "
        "[Errno 111] Connection refused"
    )
    assert site.bench.pauses == BACKOFF


NO_LISTINGS = {
    "HTML": b"<html>",
    "a list": b"[]",
    "nothing": b"null",
    "a number": b'{"Data": 7}',
    "lists without end": b"[" * 100_000,
    "no commit": b'{"id": "owner/model", "sha": "../..", "siblings": [], "Data": {"Files": [{"Path": 7}]}}',
    "no size": b'{"id": "owner/model", "sha": "%s", "siblings": [{"rfilename": "config.json"}], '
    b'"Data": {"Files": [{"Path": "config.json", "Size": "many"}]}}' % COMMIT.encode(),
}


@pytest.mark.parametrize("body", NO_LISTINGS.values(), ids=NO_LISTINGS)
def test_an_answer_that_is_no_listing_is_no_traceback(site: Site, body: bytes) -> None:
    site.server.fail(site.listing, sending(body))

    refusal = site.bench.refusal(site.model)

    assert refusal.reason is Reason.HUB_UNAVAILABLE
    assert refusal.message == (
        f"spec.model.source: {site.model} can't be fetched: "
        f"{site.host} answers with something else than a repository"
    )
