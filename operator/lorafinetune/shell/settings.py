"""What the installation says, in environment variables: read once, and refused as a whole if wrong."""

import ipaddress
import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from lorafinetune.api.sources import HOST
from lorafinetune.api.status import StageName
from lorafinetune.api.types import LABEL_PATTERN
from lorafinetune.contract.https import HttpsSources
from lorafinetune.contract.loglines import LOG_FORMAT, Form

DOWNLOAD_IMAGE: Final = "LORAFINETUNE_DOWNLOAD_IMAGE"
TRAIN_IMAGE: Final = "LORAFINETUNE_TRAIN_IMAGE"
NAMESPACES: Final = "LORAFINETUNE_NAMESPACES"
HTTPS_HOSTS: Final = "LORAFINETUNE_HTTPS_HOSTS"
PRIVATE_CIDRS: Final = "LORAFINETUNE_PRIVATE_CIDRS"
HTTPS_CERTIFICATES: Final = "LORAFINETUNE_HTTPS_CERTIFICATES"
STATUS_ADDRESS: Final = "LORAFINETUNE_STATUS_ADDRESS"
PROGRESS_ADDRESS: Final = "LORAFINETUNE_PROGRESS_ADDRESS"
PROGRESS_URL: Final = "LORAFINETUNE_PROGRESS_URL"
TLS_DIRECTORY: Final = "LORAFINETUNE_TLS_DIRECTORY"

DEFAULTS: Final = {STATUS_ADDRESS: "0.0.0.0:8080", PROGRESS_ADDRESS: "0.0.0.0:8443", LOG_FORMAT: "text"}
IMAGE_OF: Final[dict[StageName, str]] = {
    "download": DOWNLOAD_IMAGE,
    "prepare": TRAIN_IMAGE,
    "train": TRAIN_IMAGE,
    "export": TRAIN_IMAGE,
}
"""Which variable names a stage's image."""


class SettingsError(ValueError):
    """Variables that can't be used: one line each."""


@dataclass(frozen=True)
class Address:
    """Where to listen."""

    host: str
    port: int


@dataclass(frozen=True)
class ProgressSettings:
    """How stages reach the receiver, and where its certificate is."""

    url: str
    address: Address
    tls_directory: Path


@dataclass(frozen=True)
class ShellSettings:
    """What the installation decides. namespaces: none means the whole cluster. https: where datasets may be
    fetched from."""

    images: Mapping[StageName, str]
    namespaces: tuple[str, ...]
    https: HttpsSources
    status_address: Address
    progress: ProgressSettings | None
    log_format: Form


def read(environment: Mapping[str, str]) -> ShellSettings:
    """The settings. Raises SettingsError with every variable that is wrong."""
    values = DEFAULTS | {name: value.strip() for name, value in environment.items() if value.strip()}
    if problems := tuple(_problems(values)):
        raise SettingsError("\n".join(problems))
    return ShellSettings(
        images={stage: values[variable] for stage, variable in IMAGE_OF.items()},
        namespaces=_listed(values, NAMESPACES),
        https=HttpsSources(
            hosts=_listed(values, HTTPS_HOSTS),
            private_cidrs=_listed(values, PRIVATE_CIDRS),
            certificates=values.get(HTTPS_CERTIFICATES, ""),
        ),
        status_address=_address(values[STATUS_ADDRESS]),
        progress=_progress(values),
        log_format="json" if values[LOG_FORMAT] == "json" else "text",
    )


def _problems(environment: Mapping[str, str]) -> Iterator[str]:
    for variable in (DOWNLOAD_IMAGE, TRAIN_IMAGE):
        if variable not in environment:
            yield f"{variable}: is required: the image of a stage"
    for name in _listed(environment, NAMESPACES):
        if not re.fullmatch(LABEL_PATTERN, name):
            yield f"{NAMESPACES}: {name!r} is no name of a namespace"
    for variable in (STATUS_ADDRESS, PROGRESS_ADDRESS):
        try:
            _address(environment[variable])
        except ValueError:
            yield f"{variable}: {environment[variable]!r} is no address like 0.0.0.0:8080"
    if environment[LOG_FORMAT] not in ("text", "json"):
        yield f"{LOG_FORMAT}: {environment[LOG_FORMAT]!r} is neither text nor json"
    yield from _https_problems(environment)
    yield from _progress_problems(environment)


def _https_problems(environment: Mapping[str, str]) -> Iterator[str]:
    for host in _listed(environment, HTTPS_HOSTS):
        if not re.fullmatch(HOST, host):
            yield f"{HTTPS_HOSTS}: {host!r} is no host like files.example.com or files.example.com:8443"
    for cidr in _listed(environment, PRIVATE_CIDRS):
        try:
            ipaddress.ip_network(cidr)
        except ValueError:
            yield f"{PRIVATE_CIDRS}: {cidr!r} is no range of addresses like 10.0.0.0/8"
    if certificates := environment.get(HTTPS_CERTIFICATES):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=certificates)
        except (ssl.SSLError, ValueError):
            yield f"{HTTPS_CERTIFICATES}: is no list of certificates as PEM"


def _progress_problems(environment: Mapping[str, str]) -> Iterator[str]:
    if url := environment.get(PROGRESS_URL):
        if not url.startswith("https://"):
            yield f"{PROGRESS_URL}: {url!r} does not begin with https://"
        if TLS_DIRECTORY not in environment:
            yield f"{TLS_DIRECTORY}: is required where {PROGRESS_URL} is set"


def _listed(environment: Mapping[str, str], variable: str) -> tuple[str, ...]:
    """What a variable has between its commas, each once."""
    items = (item.strip() for item in environment.get(variable, "").split(","))
    return tuple(dict.fromkeys(item for item in items if item))


def _address(text: str) -> Address:
    parts = urlsplit(f"//{text}")
    if parts.hostname is None or parts.port is None:
        raise ValueError(text)
    return Address(parts.hostname, parts.port)


def _progress(environment: Mapping[str, str]) -> ProgressSettings | None:
    url = environment.get(PROGRESS_URL)
    if url is None:
        return None
    return ProgressSettings(url, _address(environment[PROGRESS_ADDRESS]), Path(environment[TLS_DIRECTORY]))
