"""Resources that somebody applies who may only edit LoRAFineTunes, and would have more. The table is tried at
both doors: our own decoder, and the API server."""

from collections.abc import Mapping
from typing import Any, Final

from builders import SPEC

A: Final = "a user of the namespace"
CONNECTION: Final = SPEC["connections"][0]
DATA: Final = SPEC["datasets"][0]

Change = Mapping[str, Any]
Case = tuple[Change, str]
"""What is changed of a good spec, and the field that is refused."""


def connection(**changes: Any) -> Change:
    return {"connections": [CONNECTION | changes]}


def data(**changes: Any) -> Change:
    return {"datasets": [DATA | changes]}


def extra(name: str, value: Any = "true") -> Change:
    return {"training": {"extraArgs": {name: value}}}


REFUSED: dict[str, Case] = {
    # of another namespace
    "a Secret of another namespace": (
        connection(secretRef={"name": "s3", "namespace": "team-b"}),
        "spec.connections[0].secretRef.namespace",
    ),
    "a Secret of another namespace, by a path": (
        connection(secretRef={"name": "../team-b/s3"}),
        "spec.connections[0].secretRef.name",
    ),
    "a Secret of another namespace, by a line end": (
        connection(secretRef={"name": "s3\nnamespace: team-b"}),
        "spec.connections[0].secretRef.name",
    ),
    "a ServiceAccount of another namespace": (
        {"scheduling": {"serviceAccountName": "system:serviceaccount:team-b:admin"}},
        "spec.scheduling.serviceAccountName",
    ),
    "another's prefix, by dots": ({"storage": {"uri": "s3://bucket/a/../../team-b"}}, "spec.storage.uri"),
    "another's prefix, by one dot": ({"storage": {"uri": "s3://bucket/./team-b"}}, "spec.storage.uri"),
    "another's prefix, by a NUL": ({"storage": {"uri": "s3://bucket/a\0/team-b"}}, "spec.storage.uri"),
    "another's prefix, by a backslash": ({"storage": {"uri": "s3://bucket\\..\\team-b"}}, "spec.storage.uri"),
    "another's bucket, by a line end": ({"storage": {"uri": "s3://bucket/a\ns3://b"}}, "spec.storage.uri"),
    # places
    "a server with a user's name": (
        connection(endpoint="http://me:word@s3.example:7070"),
        "spec.connections[0].endpoint",
    ),
    "a server with a question": (
        connection(endpoint="http://s3.example/?x=#y"),
        "spec.connections[0].endpoint",
    ),
    "a server with a line end": (
        connection(endpoint="http://s3.example\r\nX-Evil: 1"),
        "spec.connections[0].endpoint",
    ),
    "a file as a server": (connection(endpoint="file:///etc"), "spec.connections[0].endpoint"),
    "a file as a dataset": (data(source="gopher://127.0.0.1/x"), "spec.datasets[0].source"),
    "a dataset with a line end": (data(source="s3://data/rows.json\nx"), "spec.datasets[0].source"),
    "a dataset that is read from right to left": (
        data(source="s3://\u202edata/x.json"),
        "spec.datasets[0].source",
    ),
    "a web address with a user's name": (
        {"datasets": [{"source": "https://files.example@169.254.169.254/rows.json"}]},
        "spec.datasets[0].source",
    ),
    "a repository with a way up": (
        {"model": {"source": "hf://owner/../other"}},
        "spec.model.source",
    ),
    "a revision with a way up": ({"model": {"revision": "../../api/whoami"}}, "spec.model.revision"),
    "a revision with a question": ({"model": {"revision": "main?token=x"}}, "spec.model.revision"),
    # arguments that are smuggled
    "an argument with a line end": (extra("seed\noutput_dir"), "spec.training.extraArgs"),
    "an argument with an equals sign": (extra("seed=1 --output_dir"), "spec.training.extraArgs"),
    "an argument with a dot": (extra("__class__.__init__"), "spec.training.extraArgs"),
    "an argument in letters of another script": (extra("ou\u0442put_dir"), "spec.training.extraArgs"),
    "an argument with a letter of no width": (extra("output_dir\u200b"), "spec.training.extraArgs"),
    "an argument that is an object": (extra("seed", {"x": "1"}), "spec.training.extraArgs"),
    "an argument of a million letters": (extra("seed", "1" * 10**6), "spec.training.extraArgs"),
    # what a program could take for code
    "layers by an expression": (
        {"training": {"lora": {"targets": ["q_proj|(.*)+$"]}}},
        "spec.training.lora.targets[0]",
    ),
    "a label with a line end": (
        {"scheduling": {"nodeSelector": {"a": "b\nspec: {}"}}},
        "spec.scheduling.nodeSelector",
    ),
    "a taint with a line end": (
        {"scheduling": {"tolerations": [{"key": "a", "value": "b\nspec: {}"}]}},
        "spec.scheduling.tolerations[0].value",
    ),
    "a resource with a path": (
        {"resources": {"train": {"gpu": {"resourceName": "../../cpu"}}}},
        "spec.resources.train.gpu.resourceName",
    ),
    "a queue in YAML": ({"scheduling": {"queueName": "a: {b: c}"}}, "spec.scheduling.queueName"),
    # too much
    "a thousand datasets": ({"datasets": [DATA] * 1000}, "spec.datasets"),
    "a hundred connections": (
        {"connections": [CONNECTION | {"name": f"c{number}"} for number in range(100)]},
        "spec.connections",
    ),
    "a system prompt of a megabyte": (data(system="x" * 2**20), "spec.datasets[0].system"),
    "a thousand words to remove": (data(clean={"remove": ["x"] * 1000}), "spec.datasets[0].clean.remove"),
    "a host's network": ({"scheduling": {"hostNetwork": True}}, "spec.scheduling.hostNetwork"),
    "an image of one's own": ({"resources": {"train": {"image": "evil"}}}, "spec.resources.train.image"),
}
