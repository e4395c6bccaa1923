"""The servers are the real ones: the promises that other tests rest on."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from cluster.apiserver import ApiServer
from cluster.s3server import S3Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "promises"


@pytest.fixture(scope="module")
def client(s3_server: S3Server) -> Iterator["S3Client"]:
    s3_server.create_bucket(BUCKET)
    client = s3_server.client()
    yield client
    client.close()


def status(error: ClientError) -> int:
    return error.response["ResponseMetadata"]["HTTPStatusCode"]


def test_api_server_has_the_pinned_version(apiserver: ApiServer) -> None:
    version = json.loads(apiserver.request("GET", "/version"))
    assert (version["gitVersion"], version["major"], version["minor"]) == ("v1.34.4", "1", "34")


def test_api_server_stores_what_it_is_given(apiserver: ApiServer) -> None:
    apiserver.request("POST", "/api/v1/namespaces", {"metadata": {"name": "stores"}})
    path = "/api/v1/namespaces/stores/configmaps"
    apiserver.request("POST", path, {"metadata": {"name": "one"}, "data": {"key": "value"}})
    assert json.loads(apiserver.request("GET", f"{path}/one"))["data"] == {"key": "value"}


def test_s3_returns_what_was_put(client: "S3Client") -> None:
    client.put_object(Bucket=BUCKET, Key="a/b", Body=b"content")
    with client.get_object(Bucket=BUCKET, Key="a/b")["Body"] as body:
        assert body.read() == b"content"


def test_s3_refuses_a_wrong_secret(s3_server: S3Server) -> None:
    intruder = s3_server.client(secret_key="wrong")
    with pytest.raises(ClientError) as refused:
        intruder.list_buckets()
    intruder.close()
    assert status(refused.value) == 403


def test_s3_user_may_do_only_what_a_policy_allows(client: "S3Client", s3_server: S3Server) -> None:
    s3_server.create_user("reader", "readers-secret", "user")
    reader = s3_server.client("reader", "readers-secret")
    with pytest.raises(ClientError) as refused:
        reader.list_objects_v2(Bucket=BUCKET)
    assert status(refused.value) == 403
    s3_server.let_read("reader", BUCKET)
    reader.list_objects_v2(Bucket=BUCKET)
    reader.close()


def test_s3_lets_one_conditional_put_win(client: "S3Client") -> None:
    client.put_object(Bucket=BUCKET, Key="claim", Body=b"first", IfNoneMatch="*")
    with pytest.raises(ClientError) as refused:
        client.put_object(Bucket=BUCKET, Key="claim", Body=b"second", IfNoneMatch="*")
    assert status(refused.value) == 412


def test_s3_keeps_its_data_while_it_is_away(client: "S3Client", s3_server: S3Server) -> None:
    client.put_object(Bucket=BUCKET, Key="kept", Body=b"content")
    s3_server.stop()
    try:
        with pytest.raises(EndpointConnectionError):
            client.head_object(Bucket=BUCKET, Key="kept")
    finally:
        s3_server.start()
    client.head_object(Bucket=BUCKET, Key="kept")
