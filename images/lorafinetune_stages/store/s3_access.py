"""How one bucket is reached, and in whose name: the same for boto3 and for obstore.

boto3 knows every way in which a process can have an identity. obstore asks boto3, so the two never
disagree, and neither reads a variable that the other ignores.
"""

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import (
    CredentialRetrievalError,
    InvalidConfigError,
    NoAuthTokenError,
    PartialCredentialsError,
    ProfileNotFound,
    TokenRetrievalError,
)
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.store import S3Store as BulkStore

from lorafinetune.api.reasons import Reason
from lorafinetune.api.sources import Connection
from lorafinetune.contract.arguments import CREDENTIAL_KEYS, credential_variable
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.addresses import LINK_LOCAL, address_kinds

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from obstore.store import BackoffConfig, ClientConfig, RetryConfig

DEFAULT_REGION: Final = "us-east-1"
AWS_HOSTS: Final = (".amazonaws.com", ".amazonaws.com.cn")
CREDENTIALS_TTL: Final = timedelta(minutes=10)
"""How long obstore may keep credentials: boto3 renews those that have less than this left."""
NOWHERE: Final = "http://127.0.0.1:0"
"""A proxy that nobody can be."""
ANONYMOUS: Final = "nobody: no credentials were found"
NO_IDENTITY: Final = (
    CredentialRetrievalError,
    InvalidConfigError,
    NoAuthTokenError,
    PartialCredentialsError,
    ProfileNotFound,
    TokenRetrievalError,
)
"""boto3 knows where an identity should come from, and gets none."""


@dataclass(frozen=True)
class Bounds:
    """How long a server is waited for that does not answer, or answers with an error of its own.

    attempts: of each request, with growing and random pauses between them.
    request_seconds: of one request of at most one part.
    """

    attempts: int = 5
    connect_seconds: float = 10
    request_seconds: float = 120


DEFAULT_BOUNDS: Final = Bounds()


@dataclass(frozen=True)
class BucketAccess:
    """One bucket. custom: its server is not AWS's. identity: in whose name, as messages put it."""

    bucket: str
    endpoint: str
    custom: bool
    identity: str
    credentials: Credentials | None
    control: "S3Client"
    bulk: BulkStore


def access(bucket: str, connection: Connection | None, bounds: Bounds) -> BucketAccess:
    """Raises StageError(CredentialsInvalid) where the connection's Secret lacks a key, or where the process
    should have an identity and gets none; StageError(ConfigInvalid) for a server where none may be."""
    if connection and connection.endpoint:
        _check_place(bucket, connection)
    try:
        session = _session(connection)
        credentials = session.get_credentials()
    except NO_IDENTITY as problem:
        fault = f"s3://{bucket}: this process gets no identity ({type(problem).__name__})"
        raise StageError(Reason.CREDENTIALS_INVALID, fault) from None
    control = _control(session, credentials, connection, bounds)
    provider = Boto3CredentialProvider(session, ttl=CREDENTIALS_TTL) if credentials else None
    return BucketAccess(
        bucket=bucket,
        endpoint=control.meta.endpoint_url,
        custom=not control.meta.endpoint_url.endswith(AWS_HOSTS),
        identity=_identity(credentials, connection),
        credentials=credentials,
        control=control,
        bulk=_bulk(bucket, provider, control, connection, bounds),
    )


def _check_place(bucket: str, connection: Connection) -> None:
    """A name that means another address a moment later is beyond this."""
    endpoint = connection.endpoint or ""
    url = _with_bucket(endpoint, bucket) if connection.addressing == "virtual" else endpoint
    if LINK_LOCAL in address_kinds(urlsplit(url).hostname or ""):
        raise StageError(
            Reason.CONFIG_INVALID,
            f"s3://{bucket}: the endpoint {endpoint} of the connection {connection.name} is a link-local "
            "address, which is not followed",
            "Set the connection's endpoint to an S3 server.",
        )


def _session(connection: Connection | None) -> boto3.Session:
    if connection is None:
        return boto3.Session()
    if connection.secret_ref is None:
        return boto3.Session(region_name=connection.region)
    keys = {key: _credential(connection, key, required) for key, required in CREDENTIAL_KEYS.items()}
    return boto3.Session(
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=keys["AWS_SESSION_TOKEN"],
        region_name=connection.region,
    )


def _credential(connection: Connection, key: str, required: bool) -> str | None:
    variable = credential_variable(connection.name, key)
    value = os.environ.get(variable)
    where = f"the key {key} of {_secret(connection)}"
    if not value and required:
        raise StageError(
            Reason.CREDENTIALS_INVALID, f"{where} is missing: the variable {variable} is not set"
        )
    if value and (not value.isascii() or not value.isprintable() or " " in value):
        fault = "has white space, or a character that no key has"
        raise StageError(
            Reason.CREDENTIALS_INVALID, f"{where} {fault}", "Write the value without a line break at its end."
        )
    return value or None


def _identity(credentials: Credentials | None, connection: Connection | None) -> str:
    if connection and connection.secret_ref:
        return f"the keys in {_secret(connection)}"
    return f"this process's own identity ({credentials.method})" if credentials else ANONYMOUS


def _secret(connection: Connection) -> str:
    name = connection.secret_ref.name if connection.secret_ref else ""
    return f"the Secret {name} of the connection {connection.name}"


def _control(
    session: boto3.Session, credentials: Credentials | None, connection: Connection | None, bounds: Bounds
) -> "S3Client":
    config = Config(
        signature_version="s3v4" if credentials else UNSIGNED,
        s3={"addressing_style": _addressing(connection)},
        connect_timeout=bounds.connect_seconds,
        read_timeout=bounds.request_seconds,
        retries={"mode": "standard", "total_max_attempts": bounds.attempts},
        request_checksum_calculation="when_required",  # some servers refuse the others
        response_checksum_validation="when_required",
    )
    region = session.region_name or DEFAULT_REGION
    endpoint = connection.endpoint if connection else None
    return session.client("s3", endpoint_url=endpoint, region_name=region, config=config)


def _bulk(
    bucket: str,
    provider: Boto3CredentialProvider | None,
    control: "S3Client",
    connection: Connection | None,
    bounds: Bounds,
) -> BulkStore:
    virtual = _addressing(connection) == "virtual"
    endpoint = control.meta.endpoint_url
    url = _with_bucket(endpoint, bucket) if virtual else endpoint
    options: ClientConfig = {
        "allow_http": endpoint.startswith("http://"),
        "connect_timeout": timedelta(seconds=bounds.connect_seconds),
        "timeout": timedelta(seconds=bounds.request_seconds),
    }
    return BulkStore(
        bucket,
        endpoint=url,
        virtual_hosted_style_request=virtual,
        region=control.meta.region_name,
        skip_signature=provider is None,
        credential_provider=provider,
        unsigned_payload=True,
        client_options=options | _confined(url) if connection and connection.endpoint else options,
        retry_config=_retries(bounds),
    )


def _retries(bounds: Bounds) -> "RetryConfig":
    backoff: BackoffConfig = {
        "init_backoff": timedelta(seconds=0.5),
        "max_backoff": timedelta(seconds=15),
        "base": 2,
    }
    return {"max_retries": bounds.attempts - 1, "backoff": backoff}


def _confined(url: str) -> "ClientConfig":
    """Has obstore, which follows every redirect, connect to the server alone, or to one below its name: what
    leads elsewhere would go by a proxy that is not there. A real proxy has rules of its own."""
    server, known = urlsplit(url), getproxies()
    host, proxy = server.hostname or "", known.get(server.scheme) or known.get("all")
    if proxy and not proxy_bypass(host):
        return {"proxy_url": proxy}
    return {"proxy_url": NOWHERE, "proxy_excludes": host}


def _addressing(connection: Connection | None) -> Literal["path", "virtual"]:
    return connection.addressing if connection else "path"


def _with_bucket(endpoint: str, bucket: str) -> str:
    url = urlsplit(endpoint)
    return url._replace(netloc=f"{bucket}.{url.netloc}").geturl()
