"""A Service for a program of the node, so that pods reach it as they would any other."""

from collections.abc import Iterator

from cluster import network
from cluster.client import Document


def manifests(namespace: str, program: str, port: int) -> Iterator[Document]:
    """In a namespace of its own, with the program as its one endpoint."""
    metadata = {"name": program, "namespace": namespace}
    named = {"name": program, "port": port, "protocol": "TCP"}
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    yield {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [named]}}
    yield {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata | {"labels": {"kubernetes.io/service-name": program}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [network.NODE], "conditions": {"ready": True}}],
        "ports": [named],
    }
