"""How images are made and reach a node: once, and no more of them than it lacks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import images, product
from cluster.layers import chains
from cluster.process import run
from cluster.testbed import Cluster
from documents import replaced, said
from e2e.jobs import new_namespace, outcome, python_job

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("cluster")]

BY_HAND = {"MAKEFLAGS": "", "GNUMAKEFLAGS": "--silent --no-print-directory"}
"""As if no other make ran the tests, which would have this one tell where it is."""
GREET = "open('/dev/termination-log', 'w').write('hello')"


@pytest.fixture
def made() -> Iterator[str]:
    """The name that `make images` gives to the operator's image, which goes after the test."""
    version = run("make", f"--directory={product.ROOT}", "version", environment=BY_HAND).strip()
    name = f"{images.LOCAL}/operator:{version}"
    yield name
    images.with_images("buildah", "rmi", name)


@pytest.fixture
def successor() -> Iterator[str]:
    """The operator's image, but of another revision."""
    arguments = {"BASE": images.base(), **product.ABOUT, "REVISION": "1" * 40}
    name = images.build("successor", product.ROOT, product.dockerfile("operator"), arguments)
    yield name
    images.with_images("buildah", "rmi", name)


def make_images() -> None:
    """As the page tells people to do it, but for one image, and so that it can be compared."""
    options = " ".join([images.base(), "--timestamp=0", "--no-cache", *images.trusted()])
    changed = {"operator download": "operator", "registry.example.com/base/python:3.11": options}
    command = replaced(said("docs/how-to/build-images.md", "Build the images", 1), changed)
    within = ("env", f"--chdir={product.ROOT}", "BUILDER=buildah", *(f"{k}={v}" for k, v in BY_HAND.items()))
    images.with_images(*within, "bash", "-euc", command)


def test_make_images_makes_of_the_same_sources_the_same_image(made: str) -> None:
    make_images()
    first = images.about(made)
    make_images()
    assert images.about(made) == first
    labels = first["OCIv1"]["config"]["Labels"]
    revision = run("git", "-C", str(product.ROOT), "rev-parse", "HEAD").strip()
    assert labels["org.opencontainers.image.revision"] == revision
    assert labels["org.opencontainers.image.version"] == made.rpartition(":")[2]


def test_a_node_is_handed_only_the_layers_that_it_lacks(successor: str) -> None:
    held = set(chains(images.layers(product.image("operator"))))
    handed: list[int] = []

    def weigh(_: str, layout: Path) -> None:
        handed.extend(blob.stat().st_size for blob in (layout / "blobs" / "sha256").iterdir())

    images.export(successor, held, weigh)
    assert sum(handed) < 2_000_000


def test_an_image_runs_on_a_node_that_was_handed_only_what_it_lacked(
    cluster: Cluster, successor: str
) -> None:
    cluster.offer(product.image("operator"))
    namespace = new_namespace(cluster)
    job = python_job(cluster, namespace, GREET, container={"image": cluster.offer(successor)})
    assert outcome(cluster, job) == "hello"
    cluster.client.delete(f"/api/v1/namespaces/{namespace}")
