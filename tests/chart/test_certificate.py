"""The certificate that helm makes, as a client sees it."""

import base64
import socket
import ssl
import threading
from pathlib import Path

import pytest

from chart.helm import NAMESPACE, OPERATOR, at, render


def test_a_client_that_trusts_the_authority_trusts_the_certificate(tmp_path: Path) -> None:
    objects = render(OPERATOR)
    for name, content in at(objects, "Secret/lorafinetune-tls: data").items():
        (tmp_path / name).write_bytes(base64.b64decode(content))
    trusting = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
    trusting.verify_flags |= ssl.VERIFY_X509_STRICT
    assert shaken_hands(tmp_path, trusting, f"lorafinetune.{NAMESPACE}.svc")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shaken_hands(tmp_path, trusting, "lorafinetune.elsewhere.svc")


def shaken_hands(folder: Path, client: ssl.SSLContext, name: str) -> str | None:
    """The version of TLS that a client and a server with the certificate in a folder agree on."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    here, there = socket.socketpair()
    with here, there:
        serving = threading.Thread(target=_serve, args=(server, there))
        serving.start()
        try:
            with client.wrap_socket(here, server_hostname=name) as connection:
                return connection.version()
        finally:
            serving.join()


def _serve(context: ssl.SSLContext, connection: socket.socket) -> None:
    try:
        with context.wrap_socket(connection, server_side=True) as serving:
            serving.unwrap()
    except (ssl.SSLError, OSError):
        return
