"""Stands in for an S3 server that refuses everything: `python stand_in.py ADDRESS PORT STATUS CODE`.

The clock of a server is its kernel's, which is everybody's, and ours knows no sessions that expire: what S3
answers then is answered by this one. It needs nothing but Python, and runs on the node.
"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HEALTH = "/health"
ANSWER = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>refused</Message></Error>'
)


class Refusing(BaseHTTPRequestHandler):
    """status and code: of each answer but that to `HEALTH`."""

    protocol_version = "HTTP/1.1"
    status = 403
    code = ""

    def do_GET(self) -> None:
        well = self.path == HEALTH
        body = b"" if well else ANSWER.format(code=self.code).encode()
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200 if well else self.status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 - names of http.server

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def main() -> None:
    address, port, status, code = sys.argv[1:]
    Refusing.status, Refusing.code = int(status), code
    Path("/proc/self/comm").write_text(Path(__file__).stem)
    ThreadingHTTPServer((address, int(port)), Refusing).serve_forever()


if __name__ == "__main__":
    main()
