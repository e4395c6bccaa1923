"""What an administrator lets nobody ask for."""

import json
from collections.abc import Mapping

import pytest

from builders import document, merged
from chart.helm import NAMESPACE, OPERATOR, Object
from chart.site import Site
from chart.variants import LIMITS

pytestmark = pytest.mark.apiserver

TEAM = "team-a"
STORE = {"name": "store", "endpoint": "http://s3.storage.svc:7070", "secretRef": {"name": "s3"}}
WITHIN_LIMITS: Object = {
    "connections": [STORE],
    "model": {"connection": None},
    "storage": {"uri": f"s3://finetunes/{TEAM}/one"},
    "resources": {"train": {"gpu": {"count": 0}}},
    "activeDeadlineSeconds": 86400,
}
MOST: Object = {
    "priorityClasses": [f"class-{number}.{'x' * 60}" for number in range(31)] + ["low"],
    "hosts": [f"host-{number}.{'x' * 60}.example" for number in range(31)] + ["storage.svc"],
    "writePrefixes": [f"s3://bucket-{number}/{'x' * 200}" for number in range(31)] + ["s3://finetunes"],
}
"""As much as the chart takes."""
LARGEST: Object = {
    "connections": [STORE, *({"name": f"c{n}", "endpoint": "http://s3.storage.svc"} for n in range(7))],
    "model": {"source": f"s3://models/{'m' * 400}", "connection": "c6"},
    "scheduling": {"priorityClassName": "low"},
    "datasets": [{"source": f"s3://data/{'d' * 900}/{n}", "connection": "c6"} for n in range(32)],
    "export": {
        "merged": {},
        "publish": [{"to": f"s3://finetunes/{'p' * 400}/{n}", "connection": "c6"} for n in range(8)],
        "trackers": [{"name": "mlflow", "experiment": "runs", "connection": "c6"}, {"name": "tensorboard"}],
    },
}


def elsewhere(field: str, uri: str, url: str) -> str:
    return (
        f"{field}: {uri} is at {url}, and this cluster lets LoRAFineTunes reach huggingface.co, storage.svc "
        "alone: name a place there, by its connection"
    )


def misplaced(field: str, uri: str) -> str:
    return (
        f"{field}: {uri} is not where LoRAFineTunes of this namespace may write: choose a place below "
        f"s3://finetunes/{TEAM} or hf://our-team"
    )


def endpoint(url: str) -> Object:
    return {"connections": [STORE | {"endpoint": url}]}


def published(to: str) -> Object:
    return {"export": {"merged": {}, "publish": [{"to": to}]}}


def tracked(url: str) -> Object:
    tracker = {"name": "mlflow", "experiment": "runs", "connection": "tracker"}
    return {"connections": [STORE, {"name": "tracker", "endpoint": url}], "export": {"trackers": [tracker]}}


DATA = "s3://data/rows.json"
LONG = (
    "spec.activeDeadlineSeconds: this cluster wants a limit of at most 86400 seconds: set it to that or less"
)
MANY = "spec.resources.train.gpu.count: at most 0 in this cluster, over all nodes: set it to that or less"
URGENT = (
    "spec.scheduling.priorityClassName: system-node-critical is not for LoRAFineTunes of this cluster: "
    "name low or batch.team, or remove it"
)
COUNTED = (
    "spec.resources: this cluster limits GPUs, which are asked for in spec.resources.train.gpu alone: "
    "remove resources with a / in their name from requests and limits"
)
TABLE: Mapping[str, tuple[Object, str]] = {
    "what is within the limits is accepted": ({}, ""),
    "a host stands for those below it": (endpoint("https://storage.svc/s3"), ""),
    "in letters of any size": (endpoint("https://S3.Storage.SVC:443"), ""),
    "but not for one that ends like it": (
        endpoint("http://evilstorage.svc"),
        elsewhere("spec.storage.uri", f"s3://finetunes/{TEAM}/one", "http://evilstorage.svc"),
    ),
    "nor for one that begins like it": (
        endpoint("http://storage.svc.evil.example"),
        elsewhere("spec.storage.uri", f"s3://finetunes/{TEAM}/one", "http://storage.svc.evil.example"),
    ),
    "nor for one that has it in its path": (
        endpoint("http://evil.example/x.storage.svc"),
        elsewhere("spec.storage.uri", f"s3://finetunes/{TEAM}/one", "http://evil.example/x.storage.svc"),
    ),
    "nor for one that parsers read in two ways": (
        endpoint("http://a[evil.example].storage.svc"),
        elsewhere("spec.storage.uri", f"s3://finetunes/{TEAM}/one", "http://a[evil.example].storage.svc"),
    ),
    "a hub without an endpoint is the public one": (
        {"model": {"source": "modelscope://owner/model"}},
        elsewhere("spec.model.source", "modelscope://owner/model", "https://modelscope.cn"),
    ),
    "a hub with an endpoint is where that is": (
        {
            "connections": [STORE, {"name": "mirror", "endpoint": "https://evil.example"}],
            "model": {"connection": "mirror"},
        },
        elsewhere("spec.model.source", "hf://owner/model", "https://evil.example"),
    ),
    "a store without an endpoint is AWS": (
        {"datasets": [{"source": DATA}]},
        elsewhere("spec.datasets", DATA, "https://amazonaws.com"),
    ),
    "a file of a web server is where its URL says": (
        {"datasets": [{"source": "https://data.storage.svc/rows.jsonl"}]},
        "",
    ),
    "which must be allowed, too": (
        {"datasets": [{"source": "https://evil.example/rows.jsonl"}]},
        elsewhere("spec.datasets", *["https://evil.example/rows.jsonl"] * 2),
    ),
    "every dataset counts": (
        {"datasets": [*({"source": DATA, "connection": "store"} for _ in range(31)), {"source": DATA}]},
        elsewhere("spec.datasets", DATA, "https://amazonaws.com"),
    ),
    "a place to publish to must be allowed as a host": (
        published("modelscope://our-team/model"),
        elsewhere("spec.export.publish", "modelscope://our-team/model", "https://modelscope.cn"),
    ),
    "and as a place": (
        published("hf://another/model"),
        misplaced("spec.export.publish", "hf://another/model"),
    ),
    "a tracker must be allowed as a host": (
        tracked("https://evil.example"),
        elsewhere("spec.export.trackers", "mlflow", "https://evil.example"),
    ),
    "Weights & Biases without an endpoint is the public one": (
        {
            "connections": [STORE, {"name": "wandb", "secretRef": {"name": "wandb"}}],
            "export": {"trackers": [{"name": "wandb", "project": "runs", "connection": "wandb"}]},
        },
        elsewhere("spec.export.trackers", "wandb", "https://api.wandb.ai"),
    ),
    "one that is, need not be a place": (tracked("http://mlflow.storage.svc:5000"), ""),
    "one in the store is where the store is": ({"export": {"trackers": [{"name": "tensorboard"}]}}, ""),
    "one that is both is accepted": (published("hf://our-team/model"), ""),
    "the prefix itself is a place": ({"storage": {"uri": f"s3://finetunes/{TEAM}"}}, ""),
    "another namespace's prefix is not": (
        {"storage": {"uri": "s3://finetunes/team-b"}},
        misplaced("spec.storage.uri", "s3://finetunes/team-b"),
    ),
    "nor one that begins like it": (
        {"storage": {"uri": f"s3://finetunes/{TEAM}b"}},
        misplaced("spec.storage.uri", f"s3://finetunes/{TEAM}b"),
    ),
    "more GPUs are too many": ({"resources": {"train": {"gpu": {"count": 1}}}}, MANY),
    "also by another name": ({"resources": {"export": {"limits": {"nvidia.com/gpu": 1}}}}, COUNTED),
    "other resources are not limited": ({"resources": {"train": {"requests": {"cpu": "64"}}}}, ""),
    "a PriorityClass of the list may be named": ({"scheduling": {"priorityClassName": "batch.team"}}, ""),
    "and no other": ({"scheduling": {"priorityClassName": "system-node-critical"}}, URGENT),
    "more time is too long": ({"activeDeadlineSeconds": 86401}, LONG),
    "and so is all the time in the world": ({"activeDeadlineSeconds": None}, LONG),
}
"""Change of what is within the limits, and why it is refused."""


def tune(change: Object, name: str = "tune") -> Object:
    made = document(merged(WITHIN_LIMITS, change), name=name, namespace=TEAM)
    del made["metadata"]["uid"]
    return made


@pytest.fixture(scope="module")
def limited(site: Site) -> Site:
    """A cluster that got its limits after there was a resource which exceeds them."""
    site.new_namespace(NAMESPACE)
    site.new_namespace(TEAM)
    site.install("lorafinetune", OPERATOR, NAMESPACE)
    site.kubectl("wait", "--for=condition=Established", "crd/lorafinetunes.lorafinetune.dev")
    too_long = tune({"activeDeadlineSeconds": None}, "old")
    site.kubectl("apply", "--server-side", "--filename=-", stdin=json.dumps(too_long))
    site.install("lorafinetune", OPERATOR, NAMESPACE, {"admission": {"limits": LIMITS}})
    site.await_refusal("create", given=tune({"activeDeadlineSeconds": None}))
    return site


@pytest.mark.parametrize("sentence", TABLE)
def test_limits(limited: Site, sentence: str) -> None:
    change, message = TABLE[sentence]
    said = limited.refusal("create", "--dry-run=server", given=tune(change))
    assert message in said
    assert bool(message) == bool(said)


def test_what_was_there_before_the_limits_goes_on_until_it_is_changed(limited: Site) -> None:
    old = tune({"activeDeadlineSeconds": None}, "old")
    again = ("apply", "--server-side", "--dry-run=server")
    assert limited.refusal(*again, given=old) == ""
    assert limited.refusal(*again, given=tune({"activeDeadlineSeconds": None, "suspend": True}, "old")) == ""
    assert LONG in limited.refusal(
        *again, given=tune({"activeDeadlineSeconds": None, "maxRetries": 5}, "old")
    )


def test_the_largest_resource_is_not_too_much_to_judge(limited: Site) -> None:
    limited.install("lorafinetune", OPERATOR, NAMESPACE, {"admission": {"limits": MOST}})
    limited.await_refusal("create", given=tune(endpoint("http://huggingface.co")))
    largest = tune(LARGEST | {"activeDeadlineSeconds": None})
    assert limited.refusal("create", "--dry-run=server", given=largest) == ""
