"""What a cluster needs of Debian or Ubuntu: commands, and the packages that bring what is missing."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from cluster.process import ServerError, run, say

CNI_PLUGINS = "/usr/lib/cni"
FOR_IMAGES = {
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
}
PACKAGES = FOR_IMAGES | {
    "containerd": "containerd",
    "ip": "iproute2",
    "iptables": "iptables",
    "runc": "runc",
    f"{CNI_PLUGINS}/ptp": "containernetworking-plugins",
}
NOT_FOR_A_CLUSTER = (
    "a cluster of its own needs root, for namespaces and control groups:"
    " run it as root, or set KUBECONFIG to a cluster that you have"
)
NOT_FOR_IMAGES = "the images that go to the cluster are built by root, whoever runs it: run it as root"
ADMIN_PATH = "/usr/local/sbin:/usr/sbin:/sbin"
WAIT = "-oDPkg::Lock::Timeout=300"
INSTALL = ["apt-get", "install", WAIT, "-y", "-q", "--no-remove", "--no-install-recommends"]
QUIET = {"DEBIAN_FRONTEND": "noninteractive"}
NO_SERVICE = 'test ! -d /run/systemd || mount -t tmpfs none /run/systemd; exec "$@"'


def become_administrator(otherwise: str = NOT_FOR_A_CLUSTER) -> None:
    """See that we are root, and find the commands that only root has on its path."""
    if os.geteuid() != 0:
        raise ServerError(otherwise)
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:{ADMIN_PATH}"


def ensure(packages: Mapping[str, str] = PACKAGES) -> None:
    """Install what is missing, and remove nothing for it."""
    missing = [package for needed, package in packages.items() if not _present(needed)]
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise ServerError(f"{', '.join(missing)} must be installed; there is no apt-get to do it")
    say(f"installing {', '.join(missing)} …")
    run("apt-get", "update", "-q", within=300)
    run(*_starting_no_service(), *INSTALL, *missing, within=600, environment=QUIET)


def _starting_no_service() -> list[str]:
    """Packages start the services that they bring where they see systemd: here they see none."""
    return ["unshare", "--mount", "sh", "-c", NO_SERVICE, "install"]


def _present(needed: str) -> bool:
    return Path(needed).is_file() or shutil.which(needed) is not None
