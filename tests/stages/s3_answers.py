"""An S3 server in memory that answers as told: for what the real one never does.

It keeps small objects, and can ignore or refuse conditional writes, lose an answer, and give any error.
"""

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


@dataclass(frozen=True)
class Asked:
    """A request. path: decoded, with a leading slash. headers: by names in lower case."""

    method: str
    host: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """lost: the connection is closed without it. cut: bytes of the body after which it is closed."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    lost: bool = False
    cut: int | None = None


Rule = Callable[[Asked], Answer | None]


def error(status: int, code: str, more: str = "") -> Answer:
    return Answer(status, f"<Error><Code>{escape(code)}</Code><Message>no</Message>{more}</Error>".encode())


class S3Answers:
    """Serves from memory what no rule answers. rules: asked in order, before memory."""

    def __init__(self, *rules: Rule, conditional: bool = True) -> None:
        self.rules = list(rules)
        self.conditional = conditional
        self.objects: dict[str, tuple[bytes, str]] = {}
        self.asked: list[Asked] = []
        self._lock = threading.Lock()
        self._listener = _Listener(self)
        self.endpoint = f"http://127.0.0.1:{self._listener.server_port}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown()
        self._listener.server_close()
        self._thread.join()

    def answer(self, asked: Asked) -> Answer:
        with self._lock:
            self.asked.append(asked)
            for rule in self.rules:
                if told := rule(asked):
                    return told
            return self.from_memory(asked)

    def from_memory(self, asked: Asked) -> Answer:
        if "list-type" in asked.query:
            return self._listing(asked)
        if {"uploads", "uploadId"} & set(asked.query):
            return self._multipart(asked)
        if asked.method == "PUT":
            return self._put(asked)
        if asked.path not in self.objects:
            return error(404, "NoSuchKey")
        body, writer = self.objects[asked.path]
        headers = {
            "ETag": '"1"',
            "x-amz-meta-writer": writer,
            "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
        }
        if "range" not in asked.headers:
            return Answer(200, body, headers)
        return Answer(206, body, {**headers, "Content-Range": f"bytes 0-{len(body) - 1}/{len(body)}"})

    def _put(self, asked: Asked) -> Answer:
        if self.conditional and "if-none-match" in asked.headers and asked.path in self.objects:
            return error(412, "PreconditionFailed")
        self.objects[asked.path] = (asked.body, asked.headers.get("x-amz-meta-writer", ""))
        return Answer(200, headers={"ETag": '"1"'})

    def _multipart(self, asked: Asked) -> Answer:
        """Takes the parts of an upload, and keeps none."""
        upload = "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>"
        listing = "<ListMultipartUploadsResult/>"
        return Answer(200, (listing if asked.method == "GET" else upload).encode(), {"ETag": '"1"'})

    def _listing(self, asked: Asked) -> Answer:
        bucket = asked.path.strip("/")
        sizes = {path.removeprefix(f"/{bucket}/"): len(body) for path, (body, _) in self.objects.items()}
        items = "".join(
            f'<Contents><Key>{escape(key)}</Key><Size>{sizes[key]}</Size><ETag>"1"</ETag>'
            f"<LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"
            for key in sorted(sizes)
            if key.startswith(asked.query.get("prefix", ""))
        )
        return Answer(200, f"<ListBucketResult><Name>{bucket}</Name>{items}</ListBucketResult>".encode())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Listener"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def _answer(self) -> None:
        url, size = urlsplit(self.path), int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(size)
        if len(body) < size:  # the client has hung up
            self.close_connection = True
            return
        answer = self.server.s3.answer(
            Asked(
                method=self.command,
                host=self.headers["Host"],
                path=unquote(url.path),
                query={
                    name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()
                },
                headers={name.lower(): value for name, value in self.headers.items()},
                body=body,
            )
        )
        self.close_connection = answer.lost or answer.cut is not None
        if not answer.lost:
            self._send(answer)

    def log_message(self, *_: Any) -> None:
        """Nothing: the requests are remembered."""

    def _send(self, answer: Answer) -> None:
        with suppress(ConnectionError):  # a client that no longer waits
            self._write(answer)

    def _write(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[: answer.cut])


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, s3: S3Answers) -> None:
        self.s3 = s3
        super().__init__(("127.0.0.1", 0), _Handler)
