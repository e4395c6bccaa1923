"""Control of S3, through boto3: what is there, conditional writes, deletion."""

import logging
import random
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Literal

from botocore.exceptions import BotoCoreError, ClientError

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.store import Entry
from lorafinetune_stages.store.naming import RESERVED, check_key, is_reserved
from lorafinetune_stages.store.s3_access import BucketAccess
from lorafinetune_stages.store.s3_errors import explain, refusal_of

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef, MultipartUploadTypeDef, ObjectTypeDef

log = logging.getLogger(__name__)

PROBE: Final = f"{RESERVED}/conditional-writes"
WRITER: Final = "writer"
STALE_UPLOAD: Final = timedelta(days=1)
NOT_FOUND: Final = 404
CONFLICT_ATTEMPTS: Final = 6
PAGE_SIZE: Final = 1000
"""S3 gives no more at a time."""
MAX_PAGES: Final = 10_000
"""Of a listing: ten million objects."""
Answer = Literal["written", "exists", "conflict", "unsupported"]
ANSWERS: Final[Mapping[int | None, Answer]] = {412: "exists", 501: "unsupported"}
CONFLICTS: Final[Mapping[str, Answer]] = {
    "ConditionalRequestConflict": "conflict",
    "OperationAborted": "conflict",
}


class Control:
    """The objects below one prefix of a bucket. root: like `models/`, or empty."""

    def __init__(self, access: BucketAccess, root: str, uri: str) -> None:
        self._access = access
        self._client = access.control
        self._root = root
        self._uri = uri

    def find(self, key: str) -> Entry | None:
        try:
            head = self._client.head_object(Bucket=self._access.bucket, Key=self._root + key)
        except (ClientError, BotoCoreError) as problem:
            refusal = refusal_of(problem)
            if refusal.status is not None:
                self._page(key, MaxKeys=1)  # an answer to HEAD has no body, and so no code
            if refusal.status == NOT_FOUND:
                return None
            raise explain(refusal, f"{self._uri}/{key}", self._access) from None
        version, modified = head["ETag"].strip('"'), int(head["LastModified"].timestamp())
        return Entry(key, head["ContentLength"], version, modified)

    def list(self, prefix: str) -> Iterator[Entry]:
        """The object `prefix`, then those below it: two listings, so that siblings cost nothing."""
        if prefix:
            first = self._page(prefix, MaxKeys=1).get("Contents", [])
            yield from self._entries(item for item in first if item["Key"] == self._root + prefix)
        below = f"{prefix}/" if prefix else ""
        more: dict[str, str] = {}
        for _ in range(MAX_PAGES):
            page = self._page(below, **more)
            yield from self._entries(page.get("Contents", []))
            if "NextContinuationToken" not in page:
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}
        raise self._endless()

    def create(self, key: str, data: bytes) -> bool:
        if not self.conditional_writes:
            return self._check_then_write(key, data)
        writer = uuid.uuid4().hex
        return self._claim(key, data, writer) == "written" or self._is_from(writer, key)

    def _claim(self, key: str, data: bytes, writer: str) -> Answer:
        """Writes what is not there yet, and asks again while others are about to."""
        for attempt in range(CONFLICT_ATTEMPTS):
            if (answer := self._put_if_absent(key, data, writer)) != "conflict":
                return answer
            time.sleep(random.uniform(0, 0.05 * 2**attempt))  # noqa: S311  # no secret
        raise StageError(
            Reason.STORAGE_UNAVAILABLE,
            f"{self._uri}/{key}: the server at {self._access.endpoint} keeps answering that others write it",
        )

    def delete(self, key: str) -> None:
        with self._errors(key):
            self._client.delete_object(Bucket=self._access.bucket, Key=self._root + key)

    def abort_stale_uploads(self) -> None:
        """Frees what uploads of killed writers hold. It takes a right of its own: without, they stay."""
        pages = self._client.get_paginator("list_multipart_uploads").paginate(
            Bucket=self._access.bucket, Prefix=self._root
        )
        try:
            for page in islice(pages, MAX_PAGES):
                for upload in page.get("Uploads", []):
                    self._abort_if_stale(upload)
        except (ClientError, BotoCoreError) as problem:
            refusal = refusal_of(problem)
            if refusal.status is None:
                raise explain(refusal, self._uri, self._access) from None
            log.info("%s: uploads of killed writers, if any, are left: %s", self._uri, refusal)

    def _abort_if_stale(self, upload: "MultipartUploadTypeDef") -> None:
        if datetime.now(UTC) - upload["Initiated"] > STALE_UPLOAD:
            self._client.abort_multipart_upload(
                Bucket=self._access.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
            )

    @cached_property
    def conditional_writes(self) -> bool:
        """Whether the server keeps the promise of `If-None-Match`. One that does not is named loudly."""
        if not self._access.custom or any(self._claim(PROBE, b"", "") == "exists" for _ in range(2)):
            return True
        log.warning(
            "%s: the server at %s has no conditional writes: of two runs that finish the same output at the "
            "same time, both may believe that they were first",
            self._uri,
            self._access.endpoint,
        )
        return False

    def _put_if_absent(self, key: str, data: bytes, writer: str) -> Answer:
        try:
            self._client.put_object(
                Bucket=self._access.bucket,
                Key=self._root + key,
                Body=data,
                IfNoneMatch="*",
                Metadata={WRITER: writer},
            )
        except (ClientError, BotoCoreError) as problem:
            refusal = refusal_of(problem)
            if answer := ANSWERS.get(refusal.status) or CONFLICTS.get(refusal.code):
                return answer
            raise explain(refusal, f"{self._uri}/{key}", self._access) from None
        return "written"

    def _is_from(self, writer: str, key: str) -> bool:
        """Whether a write that was refused because the object exists had been answered too late: it was
        sent again, and the first had done its work."""
        with self._errors(key):
            head = self._client.head_object(Bucket=self._access.bucket, Key=self._root + key)
        return head["Metadata"].get(WRITER) == writer

    def _check_then_write(self, key: str, data: bytes) -> bool:
        if self.find(key):
            return False
        with self._errors(key):
            self._client.put_object(Bucket=self._access.bucket, Key=self._root + key, Body=data)
        return True

    def _page(self, prefix: str, **more: Any) -> "ListObjectsV2OutputTypeDef":
        with self._errors(prefix):
            page = self._client.list_objects_v2(
                Bucket=self._access.bucket, Prefix=self._root + prefix, **more
            )
        if len(page.get("Contents", [])) > PAGE_SIZE:
            raise self._endless()
        return page

    def _endless(self) -> StageError:
        what = f"the server at {self._access.endpoint} lists more than it may"
        return StageError(Reason.STORAGE_UNAVAILABLE, f"{self._uri}: {what}")

    def _entries(self, items: "Iterable[ObjectTypeDef]") -> Iterator[Entry]:
        for item in items:
            key = item["Key"].removeprefix(self._root)
            if not key.endswith("/") and not is_reserved(key):  # a key like `raw/` marks a directory
                version, modified = item["ETag"].strip('"'), int(item["LastModified"].timestamp())
                yield Entry(check_key(key, self._uri), item["Size"], version, modified)

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except (ClientError, BotoCoreError) as problem:
            raise explain(refusal_of(problem), f"{self._uri}/{key}", self._access) from None
