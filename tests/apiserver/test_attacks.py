"""What the API server itself says of resources that would have more than their author."""

import pytest

from apiserver.kube import tried
from builders import document
from cluster.apiserver import ApiServer
from faults.attacks.resource import REFUSED


@pytest.mark.parametrize("sentence", REFUSED)
def test_the_api_server_refuses(sentence: str, served: ApiServer) -> None:
    attempt = REFUSED[sentence]
    answer = tried(served, document(attempt.changes, namespace="default"))
    assert not answer.accepted
    assert attempt.refused in answer.message


def test_no_label_and_no_annotation_is_too_large_for_it(served: ApiServer) -> None:
    """What Kubernetes itself bounds."""
    large = document(namespace="default", annotations={"a": "x" * 2**18})
    assert "may not be more than 262144 bytes" in tried(served, large).message
    long = document(namespace="default", labels={"a": "x" * 64})
    assert "must be no more than 63" in tried(served, long).message
