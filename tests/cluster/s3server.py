"""An S3 server that keeps its promises: wrong keys are refused, a conditional put has one winner.

Tests of claims and manifests rest on these, and the usual mocks have neither.
"""

import json
import secrets
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from cluster.build import binary
from cluster.process import CommandError, Process, Server, fetch, free_port, run

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

HEALTH = "/health"
USER_EXISTS = "XAdminUserExists"


class S3Endpoint:
    """An S3 service at an address, with the keys of its administrator."""

    region = "us-east-1"

    def __init__(self, endpoint: str, access_key: str, secret_key: str) -> None:
        self.endpoint = endpoint
        self.access_key = access_key
        self.secret_key = secret_key

    def client(self, access_key: str | None = None, secret_key: str | None = None) -> "S3Client":
        """A client with the administrator's keys, or with others, that never retries."""
        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            retries={"total_max_attempts": 1},
        )
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=access_key or self.access_key,
            aws_secret_access_key=secret_key or self.secret_key,
            config=config,
        )

    def create_bucket(self, name: str) -> None:
        """The bucket is there afterwards, whoever else has asked for it."""
        client = self.client()
        try:
            with suppress(client.exceptions.BucketAlreadyOwnedByYou):
                client.create_bucket(Bucket=name)
        finally:
            client.close()

    def create_user(self, access_key: str, secret_key: str, role: str = "user") -> None:
        """Add a user who may do nothing until a bucket's policy or ownership says otherwise.

        Asked once more if it fails: it was seen to do so after the user was there.
        """
        user = (f"--access={access_key}", f"--secret={secret_key}", f"--role={role}")
        for last in (False, True):
            try:
                self._administrate("create-user", *user)
                return
            except CommandError as problem:
                if USER_EXISTS in str(problem):
                    return
                if last:
                    raise

    def delete_user(self, access_key: str) -> None:
        """From now on nobody has this key."""
        self._administrate("delete-user", f"--access={access_key}")

    def let_read(self, access_key: str, bucket: str) -> None:
        """The user may read and list the bucket, and no more."""
        self.let(access_key, bucket, "s3:ListBucket", "s3:GetObject")

    def let(self, access_key: str, bucket: str, *actions: str) -> None:
        """The user may do that with the bucket, and nobody but the administrator anything else."""
        resources = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
        who = {"AWS": [access_key]}
        grant = {"Effect": "Allow", "Principal": who, "Action": [*actions], "Resource": resources}
        client = self.client()
        try:
            policy = json.dumps({"Version": "2012-10-17", "Statement": [grant]})
            client.put_bucket_policy(Bucket=bucket, Policy=policy)
        finally:
            client.close()

    def _administrate(self, what: str, *options: str) -> None:
        admin = [str(binary("versitygw")), "admin", f"--endpoint-url={self.endpoint}"]
        admin += [f"--access={self.access_key}", f"--secret={self.secret_key}"]
        run(*admin, what, *options, name=what)


class S3Server(S3Endpoint, Server):
    """Keeps data, users, address and keys over `stop()` and `start()`."""

    def __init__(self, directory: Path) -> None:
        self._address = f"127.0.0.1:{free_port()}"
        super().__init__(f"http://{self._address}", "root", secrets.token_hex(16))
        self.data_dir = directory / "data"
        self._users = directory / "users"
        self._process = Process(self._command(), directory / "versitygw.log", self._keys())

    def start(self) -> None:
        self.data_dir.mkdir(exist_ok=True)
        self._users.mkdir(exist_ok=True)
        self._process.start(lambda: fetch(self.endpoint + HEALTH))

    def stop(self) -> None:
        """End it at once: what is being sent is cut off, as when a store fails."""
        self._process.stop(grace=0)

    def _command(self) -> list[str]:
        return [
            str(binary("versitygw")),
            f"--port={self._address}",
            f"--region={self.region}",
            f"--health={HEALTH}",
            f"--iam-dir={self._users}",
            "--iam-cache-disable",
            "--keep-alive",
            "--quiet",
            "posix",
            str(self.data_dir),
        ]

    def _keys(self) -> dict[str, str]:
        return {"ROOT_ACCESS_KEY": self.access_key, "ROOT_SECRET_KEY": self.secret_key}
