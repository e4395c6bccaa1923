"""The lifecycle rules that the page on operations gives for a bucket.

The S3 server of the tests has no such rules: botocore says whether they are well-formed, and the server that
it was asked for them.
"""

import json
from typing import Any, Final, get_args

import pytest
from botocore.validate import ParamValidator

from cluster.s3server import S3Server
from documents import ROOT, Typist, said
from lorafinetune.cli.garbage import outputs
from lorafinetune.contract.arguments import Kind
from stages.store_builders import s3_store

pytestmark = pytest.mark.s3

RULES: Final[list[dict[str, Any]]] = json.loads((ROOT / "samples" / "s3-lifecycle.json").read_text())["Rules"]
EXPIRED: Final = {"evaluations"}
FILE: Final = "finetunes/exports/k/model.safetensors"


def test_only_what_may_go_is_expired_by_its_age() -> None:
    by_age = [rule["Filter"]["Prefix"] for rule in RULES if "Days" in rule.get("Expiration", {})]
    assert by_age == [f"finetunes/{kind}/" for kind in get_args(Kind) if kind in EXPIRED]


def test_botocore_takes_them_for_well_formed(s3_server: S3Server) -> None:
    client = s3_server.client()
    shape = client.meta.service_model.operation_model("PutBucketLifecycleConfiguration").input_shape
    client.close()
    assert shape
    asked = {"Bucket": "team-a", "LifecycleConfiguration": {"Rules": RULES}}
    assert ParamValidator().validate(asked, shape).generate_report() == ""
    broken = {"Bucket": "team-a", "LifecycleConfiguration": {"Rules": [{"Status": 1, "Age": 2}]}}
    assert ParamValidator().validate(broken, shape).has_errors()


def test_the_page_s_command_asks_the_server_for_them(s3_server: S3Server) -> None:
    s3_server.create_bucket("team-a")
    person = Typist(ROOT)
    person.environment |= {
        "AWS_ENDPOINT_URL": s3_server.endpoint,
        "AWS_ACCESS_KEY_ID": s3_server.access_key,
        "AWS_SECRET_ACCESS_KEY": s3_server.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.raises(AssertionError, match=r"\(NotImplemented\) when calling the PutBucketLifecycle"):
        person.type(said("docs/operations.md", "Lifecycle rules of a bucket"))


def test_parts_that_were_left_are_in_no_listing_and_gc_does_not_see_them(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_server.create_bucket("left")
    client = s3_server.client()
    upload = client.create_multipart_upload(Bucket="left", Key=FILE)["UploadId"]
    client.upload_part(Bucket="left", Key=FILE, UploadId=upload, PartNumber=1, Body=b"part")
    assert "Contents" not in client.list_objects_v2(Bucket="left")
    store = s3_store(s3_server, monkeypatch, "left", "finetunes")
    assert list(outputs(store.list(""))) == []
    assert [each["UploadId"] for each in client.list_multipart_uploads(Bucket="left")["Uploads"]] == [upload]
    client.abort_multipart_upload(Bucket="left", Key=FILE, UploadId=upload)
    assert "Uploads" not in client.list_multipart_uploads(Bucket="left")
    client.close()
