"""How a client reaches an API server: address, authority and token, as every Kubernetes tool reads it."""

import base64

import yaml


def kubeconfig(server: str, authority: bytes, token: str) -> str:
    """`authority` is the PEM of the certificate that the server's own is checked against."""
    cluster = {"server": server, "certificate-authority-data": base64.b64encode(authority).decode()}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }
    return yaml.safe_dump(document)
