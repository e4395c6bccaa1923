"""A node that serves what its containers write, for an API server that asks it as it asks a kubelet."""

import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cluster.apiserver import ApiServer
from cluster.certificates import Authority
from cluster.client import Client

NODE = "writer"


@contextmanager
def node(server: ApiServer, folder: Path, written: Sequence[bytes], asked: list[str]) -> Iterator[str]:
    """Makes the node, and yields its name. written: pieces of every container's log, sent one by one.
    asked: gets what the API server asks for."""

    class Kubelet(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in (*written, b""):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.flush()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Kubelet)
    listening.socket = _secured(listening, folder)
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    client = Client(server.kubeconfig)
    path = f"/api/v1/nodes/{NODE}"
    client.request("POST", "/api/v1/nodes", {"metadata": {"name": NODE}})
    where = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": listening.server_port}},
    }
    client.request("PATCH", f"{path}/status", {"status": where}, "application/merge-patch+json")
    yield NODE
    client.delete(path)
    listening.shutdown()
    thread.join()
    listening.server_close()


def _secured(listening: ThreadingHTTPServer, folder: Path) -> ssl.SSLSocket:
    folder.mkdir()
    Authority(folder).issue("kubelet", hosts=["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "kubelet.crt", folder / "kubelet.key")
    return context.wrap_socket(listening.socket, server_side=True)
