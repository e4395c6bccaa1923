"""Container images without a registry and without a daemon, each built once for what is in it.

buildah builds and remembers every step, so a second build of the same content ends in seconds with
the same image. An image's tag is its content, so whoever names it can get no other. A cluster of
our own takes from an image the layers that it lacks; any other one pulls images from the registry
that `LORAFINETUNE_REGISTRY` names (`host:port/prefix`), where they are pushed first.
"""

import functools
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.build import binary, cache, one_at_a_time
from cluster.layers import Layer, stood_in_for
from cluster.process import run, say

LOCAL = "localhost/lorafinetune"
BASE_SUITE = "bookworm"
BASE_PACKAGES = ("ca-certificates", "python3", "python3-venv")
BASE_DOCKERFILE = """FROM scratch
ADD root.tar /
RUN ln -s python3 /usr/bin/python
"""
PROGRAM_DOCKERFILE = """FROM scratch
COPY {name} /{called}
USER 65534:65534
ENTRYPOINT ["/{called}"]
"""
STORAGE = """[storage]
driver = "overlay"
graphroot = "{folder}/storage"
runroot = "{folder}/run"
"""
CONTAINERS = """[network]
network_config_dir = "{folder}/network"
"""
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
MOUNTED_CACHE = "buildah-cache/root/.cache/uv"
LEFT_OUT = ["--exclude=./dev/*", "--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*"]
KEPT = 3
PACKED = ["--format=oci", "--compression-format=zstd", "--compression-level=1"]
CLEAN_UP = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]

Importer = Callable[[str, Path], None]


def build(
    name: str,
    context: Path,
    dockerfile: Path | None = None,
    arguments: Mapping[str, str] | None = None,
    kept: int = KEPT,
) -> str:
    """Build it and return its reference, `localhost/lorafinetune/NAME:CONTENT`.

    `dockerfile` is the context's own unless given. A step that goes to the network sees the
    certificate authorities of this machine. Of the images of this name only the newest are `kept`.
    """
    command = [
        "build",
        "--layers",
        "--force-rm",
        "--quiet",
        f"--file={dockerfile or context / 'Dockerfile'}",
    ]
    command += [f"--build-arg={key}={value}" for key, value in (arguments or {}).items()]
    command += trusted()
    with one_at_a_time("images"):
        identity = _buildah(*command, str(context)).split()[-1]
        reference = f"{LOCAL}/{name}:{identity[:16]}"
        _buildah("tag", identity, reference)
        _forget_old(name, reference, kept)
    return reference


@functools.cache
def program(name: str, called: str = "") -> str:
    """An image with one static program in it: one that `cluster.build` knows, by whose name it runs.

    called: another name, where what runs it expects that.
    """
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(binary(name), f"{folder}/{name}")
        os.utime(f"{folder}/{name}", (0, 0))
        Path(folder, "Dockerfile").write_text(PROGRAM_DOCKERFILE.format(name=name, called=called or name))
        return build(name, Path(folder))


@functools.cache
def base() -> str:
    """Debian with Python and nothing else: a stand-in for `python:3.11-slim` that needs no registry."""
    recipe = repr((BASE_SUITE, BASE_PACKAGES, BASE_DOCKERFILE))
    reference = f"{LOCAL}/base:{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"
    with _workshop() as folder:
        if reference not in known():
            say(f"making a base image of Debian {BASE_SUITE}, once (about 2 min on 2 cores) …")
            _make_base(reference, folder)
    return reference


def export(reference: str, held: Collection[str], take: Importer) -> None:
    """Hand `take` the image as a folder in the layout that OCI defines, which is gone afterwards.

    Layers that end a chain in `held` are left out: who takes the image has them.
    """
    with _workshop() as folder:
        with stood_in_for(folder, layers(reference), held):
            _buildah("push", *PACKED, reference, f"oci:{folder}:{reference.rpartition(':')[2]}")
        take(reference, folder)


def trusted() -> list[str]:
    """What lets a build trust whom this machine trusts."""
    return [f"--volume={AUTHORITIES}:{AUTHORITIES}:ro"] if Path(AUTHORITIES).is_file() else []


@functools.cache
def push(reference: str, there: str) -> None:
    """Put the image into a registry, once, under the name that it is to have: `HOST/PREFIX/NAME:TAG`."""
    verify = not there.startswith(("localhost:", "127.0.0.1:"))
    _buildah("push", f"--tls-verify={str(verify).lower()}", *PACKED, reference, f"docker://{there}")


def about(reference: str) -> dict[str, Any]:
    """What buildah tells of it: how it is run is in `OCIv1`, as OCI defines it."""
    found: dict[str, Any] = json.loads(_buildah("inspect", "--type=image", reference))
    return found


def layers(reference: str) -> list[Layer]:
    """Digest and size in bytes of each, uncompressed, from the lowest."""
    found: list[Layer] = json.loads(about(reference)["Manifest"])["layers"]
    return found


def known() -> list[str]:
    """The references of what was built, the newest first."""
    found = json.loads(_buildah("images", "--json"))
    found.sort(key=lambda image: image["createdatraw"], reverse=True)
    return [name for image in found for name in image["names"] or () if name.startswith(LOCAL)]


@contextmanager
def _workshop() -> Iterator[Path]:
    """An empty folder for one at a time. What somebody left who was killed in it is removed."""
    with one_at_a_time("images"):
        folder = cache() / "images" / "work"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        yield folder
        shutil.rmtree(folder)


def _make_base(reference: str, folder: Path) -> None:
    include = f"--include={','.join(BASE_PACKAGES)}"
    root = str(folder / "root")
    run(*CLEAN_UP, "debootstrap", "--variant=minbase", include, BASE_SUITE, root, within=900)
    archive = ["--create", "--numeric-owner", f"--file={folder / 'root.tar'}", f"--directory={root}"]
    run("tar", *archive, *LEFT_OUT, ".")
    shutil.rmtree(root)
    (folder / "Dockerfile").write_text(BASE_DOCKERFILE)
    _buildah("build", f"--tag={reference}", str(folder))


def _forget_old(name: str, reference: str, kept: int) -> None:
    """Keep the newest few: layers that they share are there once."""
    others = [it for it in known() if it.startswith(f"{LOCAL}/{name}:") and it != reference]
    for other in others[kept - 1 :]:
        _buildah("rmi", other)


def _buildah(*arguments: str) -> str:
    return with_images("buildah", *arguments)


def with_images(*command: str) -> str:
    """Run a command in which buildah finds these images, and share its uv cache with this machine's.

    Whatever it mounts goes with it, even if it is killed.
    """
    folder = cache() / "buildah"
    temporary = folder / "tmp"
    _share_downloads(temporary / MOUNTED_CACHE)
    settings = folder / "storage.conf"
    settings.write_text(STORAGE.format(folder=folder))
    containers = folder / "containers.conf"
    containers.write_text(CONTAINERS.format(folder=folder))
    environment = {
        "BUILDAH_ISOLATION": "chroot",
        "CONTAINERS_CONF": str(containers),
        "CONTAINERS_STORAGE_CONF": str(settings),
        "TMPDIR": str(temporary),
    }
    return run(*CLEAN_UP, *command, within=3600, environment=environment)


def _share_downloads(mounted: Path) -> None:
    """Let what a Dockerfile mounts as uv's cache be this machine's own: gigabytes, had once."""
    mounted.parent.mkdir(parents=True, exist_ok=True)
    if not mounted.is_symlink():
        own = Path(os.environ.get("UV_CACHE_DIR") or Path.home() / ".cache" / "uv")
        own.mkdir(parents=True, exist_ok=True)
        mounted.symlink_to(own)
