"""A dataset from a web server: what is taken, what is refused, and where nobody is led to."""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hubs.files import FileServer, Names, certified
from hubs.repository import model, sha256
from hubs.server import Answer, Fault, Request, cut_after, failing, hung_up, redirected, sending
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.arguments import place
from lorafinetune.contract.https import ANYWHERE, HTTPS_VARIABLE, HttpsSources
from lorafinetune_stages.hubs import http
from stages.download_builders import Bench, write

NAME = "rows.jsonl"
ROWS = b'{"prompt": "hi", "completion": "hello"}\n' * 5000
LOOPBACK = ("127.0.0.0/8",)


@dataclass
class Site:
    """A web server that is known as files.test and mirror.test, and a bench that may fetch from both."""

    server: FileServer
    names: Names
    bench: Bench
    monkeypatch: pytest.MonkeyPatch

    @property
    def source(self) -> str:
        return self.at("files.test")

    def at(self, host: str, path: str = f"/{NAME}") -> str:
        return f"https://{host}:{self.server.port}{path}"

    def host(self, name: str = "files.test") -> str:
        return f"{name}:{self.server.port}"

    def allow(self, https: HttpsSources) -> None:
        self.monkeypatch.setenv(HTTPS_VARIABLE, https.model_dump_json(by_alias=True))

    def fetch(self, source: str = "") -> dict[str, bytes]:
        """What is in the store of a source that is good."""
        return self.bench.files(place("datasets", self.key(source)))

    def key(self, source: str = "") -> str:
        (key,) = self.bench.run(self.model, source or self.source).datasets
        return key

    def refusal(self, source: str = "") -> tuple[Reason, str]:
        """Why a source is refused. Its name at the beginning of the message is left out."""
        source = source or self.source
        refused = self.bench.refusal(self.model, source)
        beginning = f"spec.datasets[0].source: {source} "
        assert refused.message.startswith(beginning)
        left = [entry.key for entry in self.bench.store.list("datasets")]
        assert not [key for key in left if key.endswith("manifest.json")]
        return refused.reason, refused.message.removeprefix(beginning)

    @property
    def model(self) -> str:
        return f"file://{self.bench.directory / 'model'}"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    folder = tmp_path_factory.mktemp("certificates")
    return certified(folder, "files.test", "mirror.test", "127.0.0.1"), folder / "ca.crt"


@pytest.fixture
def site(
    certificate: tuple[ssl.SSLContext, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    context, authority = certificate
    names = Names(files_test=["127.0.0.1"], mirror_test=["127.0.0.1"])
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    monkeypatch.setattr("socket.getaddrinfo", names)
    write(tmp_path / "model", model())
    http.tls.cache_clear()
    with FileServer({f"/{NAME}": ROWS, "/a/单轮.json": ROWS}, context) as server:
        site = Site(server, names, Bench(tmp_path), monkeypatch)
        site.allow(HttpsSources(hosts=(site.host(), site.host("mirror.test")), private_cidrs=LOOPBACK))
        yield site
    http.tls.cache_clear()


def test_a_file_is_taken_as_it_is(site: Site) -> None:
    assert site.fetch() == {NAME: ROWS}
    assert {request.token for request in site.server.requests} == {None}


@pytest.mark.parametrize("path", ["/a/单轮.json", "/a/%E5%8D%95%E8%BD%AE.json"], ids=["plain", "encoded"])
def test_its_name_is_the_last_part_of_the_address(site: Site, path: str) -> None:
    assert site.fetch(site.at("files.test", path)) == {"单轮.json": ROWS}


def test_a_name_that_leads_out_is_refused(site: Site) -> None:
    site.server.files["/../../x.json"] = ROWS
    reason, message = site.refusal(site.at("files.test", "/..%2F..%2Fx.json"))
    assert reason is Reason.DATASET_INVALID
    assert message == "lists the file '../../x.json', which is refused: it has the part '..'"


def test_what_is_there_is_not_fetched_again(site: Site) -> None:
    first = site.key()
    site.server.forget()
    assert site.key() == first
    assert len(site.server.requests) == 1, "asked whether it changed"


VERSIONS: dict[str, tuple[dict[str, str], dict[str, str], bytes, bool]] = {
    "another ETag is another dataset": ({"ETag": '"1"'}, {"ETag": '"2"'}, ROWS, True),
    "the ETag alone counts": (
        {"ETag": '"1"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"},
        {"ETag": '"1"', "Last-Modified": "Fri, 02 Jan 2026 00:00:00 GMT"},
        ROWS,
        False,
    ),
    "without an ETag, another time of the last change is another dataset": (
        {"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"},
        {"Last-Modified": "Fri, 02 Jan 2026 00:00:00 GMT"},
        ROWS,
        True,
    ),
    "another size is another dataset": ({"ETag": '"1"'}, {"ETag": '"1"'}, ROWS[:-1], True),
    "with neither, other content of the same size is another dataset": (
        {},
        {},
        ROWS.replace(b"hi", b"ho"),
        True,
    ),
    "with neither, the same content is the same dataset": ({}, {}, ROWS, False),
}


@pytest.mark.parametrize("sentence", VERSIONS)
def test_of_versions(site: Site, sentence: str) -> None:
    before, after, body, is_another = VERSIONS[sentence]
    site.server.facts = before
    first = site.key()
    site.server.facts, site.server.files[f"/{NAME}"] = after, body
    assert (site.key() != first) is is_another
    assert site.fetch() == {NAME: body}


def changed_after(count: int) -> tuple[Fault, Fault]:
    """The file is written to while it is sent: the rest is of another version."""
    newer = {"ETag": '"newer"'}
    return cut_after(count), lambda _request, right: replace(right, headers={**right.headers, **newer})


RESUMED: dict[str, tuple[Fault, ...]] = {
    "a connection that is cut": (cut_after(100_000),),
    "a connection that is cut three times": (cut_after(50_000), cut_after(60_000), cut_after(0)),
    "a server that hangs up": (hung_up,),
    "a server that ignores ranges": (
        cut_after(100_000),
        lambda _request, right: Answer(200, ROWS, {k: v for k, v in right.headers.items() if k == "ETag"}),
    ),
    "a server that is busy in the middle": (cut_after(100_000), failing(503), failing(429, Retry_After="3")),
}


def listed(_request: Request, right: Answer) -> Answer:
    """The first answer, from which only the headers are read."""
    return right


@pytest.mark.parametrize("sentence", RESUMED)
def test_the_download_goes_on_after(site: Site, sentence: str) -> None:
    site.server.fail(NAME, listed, *RESUMED[sentence])
    assert site.fetch() == {NAME: ROWS}
    assert site.bench.pauses


def test_what_has_come_is_not_asked_for_again(site: Site) -> None:
    site.server.fail(NAME, listed, cut_after(100_000))
    site.fetch()
    first, second, third = site.server.requests
    assert [one.headers.get("Range") for one in (first, second)] == [None, None]
    assert third.headers["Range"] == "bytes=100000-"


WAITS: dict[str, tuple[Fault, list[float]]] = {
    "a server that limits the rate": (failing(429, Retry_After="7"), [7]),
    "a server that limits the rate for very long": (failing(429, Retry_After="86400"), [120]),
    "a server that is broken": (failing(500), [1]),
    "a gateway without its server": (failing(502), [1]),
    "a server that is overloaded": (failing(503), [1]),
    "a gateway that waits in vain": (failing(504), [1]),
}


@pytest.mark.parametrize("sentence", WAITS)
def test_it_is_waited_for(site: Site, sentence: str) -> None:
    fault, pauses = WAITS[sentence]
    site.server.fail(NAME, fault)
    assert site.fetch() == {NAME: ROWS}
    assert site.bench.pauses == pauses


NO_CREDENTIALS = "and it is fetched without credentials"
HTML = {"Content-Type": "text/html; charset=utf-8"}
CHUNKED = Answer(200, b"2\r\n{}\r\n0\r\n\r\n", {"Transfer-Encoding": "chunked"})
REFUSED: dict[str, tuple[tuple[Fault, ...], Reason, str]] = {
    "a file that asks for a login": (
        (failing(401),),
        Reason.CREDENTIALS_INVALID,
        f"can't be fetched: {{host}} answers 401, {NO_CREDENTIALS}",
    ),
    "a file that is not for everybody": (
        (failing(403),),
        Reason.CREDENTIALS_INVALID,
        f"can't be fetched: {{host}} answers 403, {NO_CREDENTIALS}",
    ),
    "a file that is not there": (
        (failing(404),),
        Reason.DATASET_NOT_FOUND,
        "does not exist: {host} answers 404",
    ),
    "a file that is gone": (
        (failing(410),),
        Reason.DATASET_NOT_FOUND,
        "does not exist: {host} answers 410",
    ),
    "an answer that nobody expects": (
        (failing(418),),
        Reason.HUB_UNAVAILABLE,
        "can't be fetched: {host} answers 418",
    ),
    "a server that stays broken": (
        (failing(503),) * 5,
        Reason.HUB_UNAVAILABLE,
        "can't be fetched: {host} answers 503",
    ),
    "a page about the file": (
        (lambda _request, right: replace(right, headers=HTML),),
        Reason.DATASET_INVALID,
        "is a web page, and no file of rows",
    ),
    "a file that is compressed on its way": (
        (lambda _request, right: replace(right, headers={"Content-Encoding": "gzip"}),),
        Reason.DATASET_INVALID,
        "is sent compressed, though nobody asks for it",
    ),
    "a file of unknown length": (
        (lambda _request, _right: CHUNKED,),
        Reason.DATASET_INVALID,
        "is sent without its length, so that nobody could tell whether all of it came",
    ),
    "a file larger than any disk": (
        (lambda _request, _right: Answer(200, b"", {"Content-Length": "1" + "0" * 15}),),
        Reason.DATASET_INVALID,
        "is sent without its length, so that nobody could tell whether all of it came",
    ),
    "an empty file": (
        (sending(b""),),
        Reason.DATASET_INVALID,
        f"has no rows: the file {NAME} is empty",
    ),
    "a file that becomes another one between two parts": (
        (listed, *changed_after(100_000)),
        Reason.ARTIFACT_CORRUPT,
        "was written to while it was copied",
    ),
    "a file that becomes another one before its first part": (
        (listed, changed_after(0)[1]),
        Reason.ARTIFACT_CORRUPT,
        "was written to while it was copied",
    ),
    "a file that ends early each time": (
        (listed, *(cut_after(0),) * 5),
        Reason.HUB_UNAVAILABLE,
        "can't be fetched: {host} can't be reached: ",
    ),
    "a circle of redirects": (
        (lambda request, _right: Answer(302, headers={"Location": request.path}),) * 6,
        Reason.HUB_UNAVAILABLE,
        "can't be fetched: {host} redirects in a circle",
    ),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_it_refuses(site: Site, sentence: str) -> None:
    faults, reason, message = REFUSED[sentence]
    site.server.fail(NAME, *faults)
    found, said = site.refusal()
    assert found is reason
    assert said.startswith(message.format(host=site.host()))


def test_a_large_file_is_not_read_to_be_listed_and_goes_on_in_its_middle(site: Site) -> None:
    body = ROWS * 200
    site.server.files[f"/{NAME}"] = body
    site.server.fail(NAME, listed, cut_after(len(body) // 2))
    assert site.fetch() == {NAME: body}
    assert [one.headers.get("Range") for one in site.server.requests[2:3]] == [f"bytes={len(body) // 2}-"]


def test_content_that_differs_the_second_time_is_not_committed(site: Site) -> None:
    site.server.facts = {}
    other = ROWS.replace(b"hello", b"holla")
    site.server.fail(NAME, listed, listed, sending(other))
    assert site.refusal() == (
        Reason.ARTIFACT_CORRUPT,
        f"sends {NAME} with the sha256 {sha256(other)}, and announces {sha256(ROWS)}",
    )


def test_a_redirect_to_a_listed_host_is_followed(site: Site) -> None:
    site.server.fail(
        NAME, redirected(site.at("mirror.test", "/a/%E5%8D%95%E8%BD%AE.json")), redirected(f"/{NAME}")
    )
    assert site.fetch() == {NAME: ROWS}
    assert [one.headers["Host"].partition(":")[0] for one in site.server.requests] == [
        "files.test",
        "mirror.test",
        "files.test",
        "files.test",
    ]


LED_AWAY: dict[str, tuple[str, str]] = {
    "a host that is not listed": (
        "https://elsewhere.test/rows.jsonl",
        "elsewhere.test, which is none of the hosts that this installation allows datasets from",
    ),
    "another port of a listed host": (
        "https://files.test:444/rows.jsonl?signature=secret",
        "files.test:444, which is none of the hosts that this installation allows datasets from",
    ),
    "a listed host, by a user": (
        "https://files.test@elsewhere.test/rows.jsonl",
        "elsewhere.test, which is none of the hosts that this installation allows datasets from",
    ),
    "a listed host without TLS": (
        "http://{host}/rows.jsonl",
        "http://, which is not followed",
    ),
    "the metadata server of a cloud": (
        "http://169.254.169.254/latest/meta-data/",
        "http://, which is not followed",
    ),
    "the metadata server of a cloud, over TLS": (
        "https://169.254.169.254/latest/meta-data/",
        "169.254.169.254, which is none of the hosts that this installation allows datasets from",
    ),
    "a file of the pod": ("file:///etc/passwd", "file://, which is not followed"),
}


@pytest.mark.parametrize("step", ["when it is listed", "when it is fetched"])
@pytest.mark.parametrize("sentence", LED_AWAY)
def test_it_does_not_follow_to(site: Site, sentence: str, step: str) -> None:
    where, what = LED_AWAY[sentence]
    before = [listed] if step == "when it is fetched" else []
    site.server.fail(NAME, *before, redirected(where.format(host=site.host())))
    assert site.refusal() == (
        Reason.CONFIG_INVALID,
        f"can't be fetched: {site.host()} redirects to {what}",
    )
    assert site.bench.pauses == []


INNER: dict[str, tuple[list[str], str]] = {
    "a private address": (["10.0.0.1"], "10.0.0.1, a private address"),
    "a private address beside a public one": (["8.8.8.8", "192.168.0.1"], "192.168.0.1, a private address"),
    "the metadata server of a cloud": (["169.254.169.254"], "169.254.169.254, a link-local address"),
    "the pod itself, as IPv6 has it": (["::1"], "::1, a loopback address"),
    "a private address in the clothes of IPv6": (["::ffff:10.0.0.1"], "::ffff:10.0.0.1, a private address"),
    "a private address behind a translator": (["64:ff9b::a00:1"], "64:ff9b::a00:1, a private address"),
}


@pytest.mark.parametrize("sentence", INNER)
def test_a_listed_host_may_not_be_at(site: Site, sentence: str) -> None:
    addresses, what = INNER[sentence]
    site.names.answers["files.test"] = [addresses]
    assert site.refusal() == (Reason.CONFIG_INVALID, f"can't be fetched: files.test is at {what}")
    assert site.server.requests == []


def test_a_private_host_needs_its_range_to_be_listed(site: Site) -> None:
    site.allow(HttpsSources(hosts=(site.host(),)))
    assert site.refusal() == (
        Reason.CONFIG_INVALID,
        "can't be fetched: files.test is at 127.0.0.1, a loopback address",
    )


def test_a_name_is_looked_up_once_for_each_connection_and_may_not_change_to_another_network(
    site: Site,
) -> None:
    site.names.then("files.test", "169.254.169.254")
    assert site.refusal() == (
        Reason.CONFIG_INVALID,
        "can't be fetched: files.test is at 169.254.169.254, a link-local address",
    )
    assert len(site.server.requests) == 1
    assert site.names.asked == ["files.test", "files.test"]


def test_the_other_addresses_are_tried_too(site: Site) -> None:
    site.names.answers["files.test"] = [["127.0.0.77", "127.0.0.1"]]
    assert site.fetch() == {NAME: ROWS}


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("unknown.test", "its name is unknown here"),
        ("stranger.test", "[SSL: CERTIFICATE_VERIFY_FAILED]"),
    ],
    ids=["a name that nobody knows", "a server that can't prove its name"],
)
def test_it_gives_up(site: Site, name: str, what: str) -> None:
    site.names.answers |= {"stranger.test": [["127.0.0.1"]], "unknown.test": [[]]}
    site.allow(HttpsSources(hosts=(site.host(name),), private_cidrs=LOOPBACK))
    reason, message = site.refusal(site.at(name))
    assert reason is Reason.HUB_UNAVAILABLE
    assert message.startswith(f"can't be fetched: {site.host(name)} can't be reached: {what}")
    assert site.bench.pauses == [1, 2, 4, 8]


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "not listed"])
def test_a_host_proves_itself_by_an_authority_that_is(
    site: Site, certificate: tuple[ssl.SSLContext, Path], listed: bool
) -> None:
    site.monkeypatch.delenv("SSL_CERT_FILE")
    http.tls.cache_clear()
    known = certificate[1].read_text() if listed else ""
    site.allow(HttpsSources(hosts=(site.host(),), private_cidrs=LOOPBACK, certificates=known))
    if listed:
        assert site.fetch() == {NAME: ROWS}
    else:
        assert "[SSL: CERTIFICATE_VERIFY_FAILED]" in site.refusal()[1]


def test_without_a_list_no_host_is_allowed(site: Site) -> None:
    site.monkeypatch.delenv(HTTPS_VARIABLE)
    refused = site.bench.refusal(site.model, site.source)
    assert refused.reason is Reason.CONFIG_INVALID
    assert refused.message == (
        f"spec.datasets[0].source: {site.source} can't be fetched: {site.host()} is none of the hosts that "
        "this installation allows datasets from"
    )
    assert "`sources.httpsHosts`" in refused.hint
    assert site.server.requests == []


def test_on_a_laptop_every_host_is_allowed_but_a_redirect_leads_into_no_network(site: Site) -> None:
    site.allow(ANYWHERE)
    assert site.fetch() == {NAME: ROWS}
    site.server.fail(NAME, redirected("https://10.0.0.1/rows.jsonl"))
    refused = site.bench.refusal(site.model, site.source)
    assert refused.message.endswith("redirects to 10.0.0.1, a private address, which is not followed")
