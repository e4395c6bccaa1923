"""Images that a real kubelet can't pull: it is told at once, and the run goes on by itself afterwards.

And one that is not what it is taken for.
"""

import secrets
from collections.abc import Iterator

import pytest

from cluster import product
from e2e.installation import Installation, until
from e2e.tenant import Tenant
from lorafinetune.api.status import StageName

pytestmark = pytest.mark.e2e

TOLD_WITHIN = 10.0
"""Seconds after the kubelet, as is promised."""


@pytest.fixture
def absent(installation: Installation) -> Iterator[dict[str, str]]:
    """Images that are not there, but that the operator was told of: what each is called."""
    tag = f"absent-{secrets.token_hex(4)}"
    known = {name: installation.cluster.offer(product.image(name)) for name in ("download", "train")}
    installation.install({f"images.{name}.tag": tag for name in known})
    yield {name: f"{reference.rpartition(':')[0]}:{tag}" for name, reference in known.items()}
    installation.install()


def test_an_image_that_is_pushed_late_and_one_whose_name_was_wrong(
    tenant: Tenant, absent: dict[str, str]
) -> None:
    tenant.apply()
    waits_for_its_image(tenant, "download", absent["download"])
    tenant.installation.cluster.offer_as(product.image("download"), absent["download"])
    tenant.goes_on(within=60)
    waits_for_its_image(tenant, "prepare", absent["train"])
    tenant.installation.install()
    tenant.running_pod("prepare", within=60)
    until(lambda: "failure" not in tenant.status(), 30)


def test_a_program_that_ends_without_a_word_is_told_by_the_end_of_its_log(
    tenant: Tenant, absent: dict[str, str]
) -> None:
    """As the operator's own image does in the place of a stage's."""
    tenant.installation.cluster.offer_as(product.image("operator"), absent["download"])
    tenant.apply()
    message = tenant.wait_for_reason("Internal")["message"]
    _, _, log = message.partition("exit code 2; its log ends:\n")
    assert "LORAFINETUNE_TRAIN_IMAGE: is required: the image of a stage" in log.splitlines()


def waits_for_its_image(tenant: Tenant, stage: StageName, image: str) -> None:
    """The resource tells of it as soon as it is promised after the kubelet has."""

    def kubelet_says() -> bool:
        statuses = [s for pod in tenant.pods(stage) for s in pod["status"].get("containerStatuses", [])]
        return any("ImagePull" in s["state"].get("waiting", {}).get("reason", "") for s in statuses)

    until(kubelet_says, 60)
    failure = tenant.wait_for_reason("ImagePull", within=TOLD_WITHIN)
    assert failure["stage"] == stage
    assert failure["message"].startswith(f"the image {image} can't be pulled")
    assert "images" in failure["hint"]
