"""An S3 server that turns on whoever reads and writes there."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import pytest

from faults.attacks.attempt import Attempt
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.hubs import MAX_FILES, s3
from lorafinetune_stages.hubs.origin import Origin
from lorafinetune_stages.store import s3_control
from lorafinetune_stages.store.s3 import S3Store
from lorafinetune_stages.store.s3_bulk import PART_BYTES
from stages.s3_answers import Answer, Asked, S3Answers
from stages.store_builders import QUICK, connection, content, set_keys

KEYS: Final = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}
LISTS_MORE: Final = "lists more than it may"
THE_SERVER: Final = "the server at http://127.0.0.1"


@dataclass
class Site:
    """inner: a server of the network, by a name of its own."""

    server: S3Answers
    inner: S3Answers

    @property
    def store(self) -> S3Store:
        return S3Store("bucket", "runs", connection(self.server.endpoint), QUICK)

    def lead(self, status: int, matches: Callable[[Asked], bool]) -> None:
        """Into the network, with every request that matches."""
        inner = self.inner.endpoint.replace("127.0.0.1", "localhost")
        answer = Answer(status, headers={"Location": f"{inner}/latest/meta-data"})
        self.server.rules.append(lambda asked: answer if matches(asked) else None)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    set_keys(monkeypatch, KEYS)
    with S3Answers() as server, S3Answers(lambda _: Answer(200, b"secrets")) as inner:
        yield Site(server, inner)


def told(operation: Callable[[S3Store], object], site: Site) -> str:
    with pytest.raises(StageError) as refused:
        operation(site.store)
    return refused.value.message


def read(status: int) -> Callable[[Site], str]:
    def attempt(site: Site) -> str:
        site.lead(status, lambda asked: asked.method == "GET")
        return told(lambda store: store.read("a"), site)

    return attempt


def read_part(site: Site) -> str:
    """The first part is an honest one."""
    headers = {"ETag": '"1"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
    headers["Content-Range"] = f"bytes 0-{PART_BYTES - 1}/{2 * PART_BYTES}"
    first = Answer(206, content(PART_BYTES), headers)
    site.server.rules.append(lambda asked: first if asked.headers["range"].startswith("bytes=0-") else None)
    site.lead(302, lambda asked: True)

    def whole(store: S3Store) -> None:
        with store.open("a") as body:
            body.read()

    return told(whole, site)


def written(status: int) -> Callable[[Site], str]:
    def attempt(site: Site) -> str:
        site.lead(status, lambda asked: asked.method == "PUT")
        return told(lambda store: store.write("a", b"weights"), site)

    return attempt


def written_part(site: Site) -> str:
    site.lead(307, lambda asked: "partNumber" in asked.query)
    return told(lambda store: store.put("a", [content(PART_BYTES)] * 2), site)


def pages(size: int, key: str = "") -> Callable[[Site], str]:
    """Of so many objects, below a key, and there is always another page."""

    def page(asked: Asked) -> Answer | None:
        if "list-type" not in asked.query:
            return None
        items = "".join(
            f'<Contents><Key>{key}{row}.jsonl</Key><Size>1</Size><ETag>"1"</ETag>'
            "<LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"
            for row in range(size)
        )
        more = f"<NextContinuationToken>{len(asked.query)}</NextContinuationToken>"
        body = f"<ListBucketResult><IsTruncated>true</IsTruncated>{more}{items}</ListBucketResult>"
        return Answer(200, body.encode())

    def attempt(site: Site) -> str:
        site.server.rules.append(page)
        origin = Origin(
            "spec.datasets[0]", "datasets", "s3://bucket/p/", None, connection(site.server.endpoint)
        )
        with pytest.raises(StageError) as refused:
            s3.S3Source(origin, lambda _: True).snapshot()
        return refused.value.message

    return attempt


REDIRECTS: Final = (301, 302, 303, 307, 308)
A_SERVER: Final = "whoever runs an S3 server"
ATTEMPTS: dict[str, Attempt[Site]] = {
    **{f"the answer {status} to a read": Attempt(A_SERVER, read(status), THE_SERVER) for status in REDIRECTS},
    **{
        f"the answer {status} to a write": Attempt(A_SERVER, written(status), THE_SERVER)
        for status in REDIRECTS
    },
    "pages without end": Attempt(A_SERVER, pages(1000), f"lists more than {MAX_FILES} files"),
    "a page that is too large": Attempt(A_SERVER, pages(1001), LISTS_MORE),
    "pages without end of nothing": Attempt(A_SERVER, pages(0), LISTS_MORE),
    "pages without end of what is no file": Attempt(A_SERVER, pages(1, ".lorafinetune/"), LISTS_MORE),
    "a redirect of the second part that is read": Attempt(A_SERVER, read_part, THE_SERVER),
    "a redirect of a part that is written": Attempt(A_SERVER, written_part, THE_SERVER),
}


@pytest.mark.parametrize("sentence", ATTEMPTS)
def test_leads_nobody_astray(sentence: str, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_control, "MAX_PAGES", 200)
    attempt = ATTEMPTS[sentence]
    assert attempt.refusal in attempt.try_(site)
    assert not site.inner.asked
