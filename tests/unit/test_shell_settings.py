"""Environment variables → the operator's settings, or everything that is wrong with them."""

from pathlib import Path

import pytest

from cluster.certificates import Authority
from lorafinetune.contract.https import HttpsSources
from lorafinetune.shell.settings import Address, ProgressSettings, SettingsError, read

IMAGES = {"LORAFINETUNE_DOWNLOAD_IMAGE": "d:1", "LORAFINETUNE_TRAIN_IMAGE": "t:1"}
PROGRESS = {"LORAFINETUNE_PROGRESS_URL": "https://op.svc:8443/progress", "LORAFINETUNE_TLS_DIRECTORY": "/tls"}

WRONG: dict[str, tuple[dict[str, str], str]] = {
    "an image is missing": ({"LORAFINETUNE_TRAIN_IMAGE": " "}, "LORAFINETUNE_TRAIN_IMAGE: is required"),
    "a namespace can't be one": ({"LORAFINETUNE_NAMESPACES": "team-a,Team B"}, "'Team B' is no name"),
    "a host has a scheme": (
        {"LORAFINETUNE_HTTPS_HOSTS": "a.example,https://b.example"},
        "LORAFINETUNE_HTTPS_HOSTS: 'https://b.example' is no host",
    ),
    "a host is a pattern": ({"LORAFINETUNE_HTTPS_HOSTS": "*.example"}, "'*.example' is no host"),
    "a range has no end": ({"LORAFINETUNE_PRIVATE_CIDRS": "10.0.0.0/40"}, "'10.0.0.0/40' is no range"),
    "a range begins inside of itself": (
        {"LORAFINETUNE_PRIVATE_CIDRS": "10.0.0.1/8"},
        "'10.0.0.1/8' is no range",
    ),
    "an authority is none": (
        {"LORAFINETUNE_HTTPS_CERTIFICATES": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"},
        "LORAFINETUNE_HTTPS_CERTIFICATES: is no list of certificates as PEM",
    ),
    "an authority is a name": (
        {"LORAFINETUNE_HTTPS_CERTIFICATES": "ca.pem"},
        "LORAFINETUNE_HTTPS_CERTIFICATES: is no list of certificates as PEM",
    ),
    "an address has no port": ({"LORAFINETUNE_STATUS_ADDRESS": "127.0.0.1"}, "LORAFINETUNE_STATUS_ADDRESS"),
    "a port is none": ({"LORAFINETUNE_PROGRESS_ADDRESS": "0.0.0.0:http"}, "LORAFINETUNE_PROGRESS_ADDRESS"),
    "the log has another form": ({"LORAFINETUNE_LOG_FORMAT": "xml"}, "'xml' is neither text nor json"),
    "progress would come in the clear": (
        PROGRESS | {"LORAFINETUNE_PROGRESS_URL": "http://op/progress"},
        "does not begin with https://",
    ),
    "the certificate's folder is missing": (
        {"LORAFINETUNE_PROGRESS_URL": "https://op/progress"},
        "LORAFINETUNE_TLS_DIRECTORY: is required",
    ),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_what_is_wrong_is_named(sentence: str) -> None:
    changes, said = WRONG[sentence]
    with pytest.raises(SettingsError) as refused:
        read(IMAGES | changes)
    assert said in str(refused.value)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(SettingsError) as refused:
        read({"LORAFINETUNE_LOG_FORMAT": "xml"})
    assert len(str(refused.value).splitlines()) == 3


def test_little_needs_to_be_said() -> None:
    given = read(IMAGES)
    assert given.images == {"download": "d:1", "prepare": "t:1", "train": "t:1", "export": "t:1"}
    assert given.namespaces == ()
    assert given.status_address == Address("0.0.0.0", 8080)  # noqa: S104 - a pod's own
    assert given.https == HttpsSources()
    assert given.progress is None
    assert given.log_format == "text"


def test_namespaces_are_separated_by_commas() -> None:
    assert read(IMAGES | {"LORAFINETUNE_NAMESPACES": "team-a, team-b,team-a,"}).namespaces == (
        "team-a",
        "team-b",
    )


def test_hosts_of_datasets_are_separated_by_commas() -> None:
    given = read(
        IMAGES
        | {
            "LORAFINETUNE_HTTPS_HOSTS": "a.example, b.example:8443",
            "LORAFINETUNE_PRIVATE_CIDRS": "10.0.0.0/8, fd00::/8",
        }
    )
    assert given.https == HttpsSources(
        hosts=("a.example", "b.example:8443"), private_cidrs=("10.0.0.0/8", "fd00::/8")
    )


def test_hosts_of_datasets_may_prove_themselves_by_another_authority(tmp_path: Path) -> None:
    Authority(tmp_path)
    given = read(IMAGES | {"LORAFINETUNE_HTTPS_CERTIFICATES": (tmp_path / "ca.crt").read_text()})
    assert given.https.certificates == (tmp_path / "ca.crt").read_text().strip()


def test_progress_has_an_address_of_its_own() -> None:
    given = read(IMAGES | PROGRESS | {"LORAFINETUNE_PROGRESS_ADDRESS": "[::]:9443"})
    address = Address("::", 9443)
    assert given.progress == ProgressSettings("https://op.svc:8443/progress", address, Path("/tls"))
