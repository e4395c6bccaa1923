"""Which datasets may be fetched from an `https://` address. The installation lists the hosts. The operator
refuses a resource that names another host, and the download refuses every request to one, since a listed host
may redirect to one that is not listed."""

from collections.abc import Mapping
from typing import Final

from lorafinetune.api.types import Model

HTTPS: Final = "https://"
NOT_ALLOWED: Final = "is none of the hosts that this installation allows datasets from"
HTTPS_VARIABLE: Final = "LORAFINETUNE_HTTPS"
"""Holds an HttpsSources as JSON. Absent: no host is allowed."""


class HttpsSources(Model):
    """The hosts that are allowed: none, unless the installation lists some."""

    hosts: tuple[str, ...] = ()
    """`HOST`, or `HOST:PORT` where the port is not 443."""
    private_cidrs: tuple[str, ...] = ()
    """Ranges of addresses outside of the public internet in which such a host may be."""
    certificates: str = ""
    """Authorities, as PEM, by which such a host may prove itself beside the public ones."""
    unrestricted: bool = False
    """Every host: on the machine of whoever wrote the resource."""

    def allows(self, host: str) -> bool:
        return self.unrestricted or host in map(host_of, self.hosts)


NOWHERE: Final = HttpsSources()
ANYWHERE: Final = HttpsSources(unrestricted=True)


def host_of(source: str) -> str:
    """The host of an `https://` address, with its port where that is not 443."""
    return source.removeprefix(HTTPS).partition("/")[0].removesuffix(":443")


def how_to_allow(host: str) -> str:
    """What to do about a host that is not listed."""
    return (
        f"Have `{host}` added to `sources.httpsHosts` in the values of the operator's chart, and then change "
        "the annotation `lorafinetune.dev/refresh`; or copy the file to S3 or to a hub."
    )


def told(environment: Mapping[str, str]) -> HttpsSources:
    """What the operator told the stage."""
    return HttpsSources.model_validate_json(environment.get(HTTPS_VARIABLE, "{}"))
