"""The Job of a step: what every one of them must be, and what a field of the resource does to it."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from builders import resource, sha
from lorafinetune.api.status import StageName
from lorafinetune.contract.arguments import (
    ARGUMENTS,
    ARGUMENTS_VARIABLE,
    PROGRESS_CA_VARIABLE,
    PROGRESS_TOKEN_VARIABLE,
    PROGRESS_URL_VARIABLE,
    STAGES,
    WORKDIR_VARIABLE,
)
from lorafinetune.contract.https import HTTPS_VARIABLE, HttpsSources
from lorafinetune.core.jobs import SCRATCH, Receiver, Settings, job
from lorafinetune.core.steps import arguments_of, job_name, step
from unit.world import World

SETTINGS = Settings(images=dict.fromkeys(STAGES, "registry.example/image@sha256:1"))


def make(
    stage: StageName, spec: dict[str, Any] | None = None, settings: Settings = SETTINGS
) -> dict[str, Any]:
    """The Job of a stage whose predecessors are complete."""
    world = World(spec)
    world.settings = replace(world.settings, https=settings.https)
    world.run_to_end()
    wanted = step(stage, world.resource, world.status)
    arguments = arguments_of(stage, world.resource, world.status)
    return job(wanted, arguments, world.resource, 1, settings)


def pod(made: dict[str, Any]) -> dict[str, Any]:
    return dict(made["spec"]["template"]["spec"])


def container(made: dict[str, Any]) -> dict[str, Any]:
    return dict(pod(made)["containers"][0])


def environment(made: dict[str, Any]) -> dict[str, Any]:
    return {e["name"]: e.get("value", e.get("valueFrom")) for e in container(made)["env"]}


@pytest.mark.parametrize("stage", STAGES)
def test_every_job_passes_pod_security_restricted_and_never_retries_itself(stage: StageName) -> None:
    made = make(stage)
    security = container(made)["securityContext"]
    assert pod(made)["securityContext"]["runAsNonRoot"] is True
    assert pod(made)["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod(made)["automountServiceAccountToken"] is False
    assert (made["spec"]["backoffLimit"], made["spec"]["podReplacementPolicy"]) == (0, "Failed")
    rules = made["spec"]["podFailurePolicy"]["rules"]
    assert rules == [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    ]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_dies_leaves_the_end_of_its_log(stage: StageName) -> None:
    assert container(make(stage))["terminationMessagePolicy"] == "FallbackToLogsOnError"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_decodes_the_arguments_that_its_job_carries(stage: StageName) -> None:
    text = environment(make(stage))[ARGUMENTS_VARIABLE]
    assert ARGUMENTS[stage].model_validate_json(text).encode() == json.loads(text)


@pytest.mark.parametrize("stage", STAGES)
def test_a_job_belongs_to_its_resource(stage: StageName) -> None:
    owner = make(stage)["metadata"]["ownerReferences"]
    assert [(o["kind"], o["name"], o["uid"], o["controller"]) for o in owner] == [
        ("LoRAFineTune", "tune", "uid-1", True)
    ]


def test_only_the_training_asks_for_a_gpu() -> None:
    asked = {stage: "nvidia.com/gpu" in container(make(stage))["resources"]["limits"] for stage in STAGES}
    assert asked == {"download": False, "prepare": False, "train": True, "export": False}


def test_only_the_training_is_queued_and_it_is_born_suspended() -> None:
    made = {s: make(s, {"scheduling": {"queueName": "gpus"}}) for s in ("prepare", "train")}
    queue = {s: m["metadata"]["labels"].get("kueue.x-k8s.io/queue-name") for s, m in made.items()}
    assert queue == {"prepare": None, "train": "gpus"}
    assert {s: m["spec"].get("suspend", False) for s, m in made.items()} == {"prepare": False, "train": True}


CREDENTIALS: dict[str, tuple[dict[str, Any], dict[StageName, set[str]]]] = {
    "the store's keys reach every stage": (
        {},
        {stage: {"CONNECTION_STORE_AWS_ACCESS_KEY_ID"} for stage in STAGES},
    ),
    "a hub's token reaches the download alone": (
        {
            "connections": [
                {"name": "store", "secretRef": {"name": "s3"}},
                {"name": "hub", "secretRef": {"name": "hub"}},
            ],
            "model": {"connection": "hub"},
        },
        {
            stage: {"CONNECTION_STORE_AWS_ACCESS_KEY_ID"}
            | ({"CONNECTION_HUB_TOKEN"} if stage == "download" else set())
            for stage in STAGES
        },
    ),
    "the token of a publish target reaches the download, which proves it, and the export": (
        {
            "connections": [
                {"name": "store", "secretRef": {"name": "s3"}},
                {"name": "hub", "secretRef": {"name": "hub"}},
            ],
            "export": {"merged": {}, "publish": [{"to": "hf://team/model", "connection": "hub"}]},
        },
        {
            stage: {"CONNECTION_STORE_AWS_ACCESS_KEY_ID"}
            | ({"CONNECTION_HUB_TOKEN"} if stage in ("download", "export") else set())
            for stage in STAGES
        },
    ),
    "a tracker's token reaches the export alone": (
        {
            "connections": [
                {"name": "store", "secretRef": {"name": "s3"}},
                {"name": "tracker", "endpoint": "http://mlflow:5000", "secretRef": {"name": "tracker"}},
            ],
            "export": {"trackers": [{"name": "mlflow", "experiment": "runs", "connection": "tracker"}]},
        },
        {
            stage: {"CONNECTION_STORE_AWS_ACCESS_KEY_ID"}
            | ({"CONNECTION_TRACKER_TOKEN"} if stage == "export" else set())
            for stage in STAGES
        },
    ),
    "a connection with no Secret brings no variable": (
        {"connections": [{"name": "store"}]},
        {stage: set() for stage in STAGES},
    ),
}


@pytest.mark.parametrize("sentence", CREDENTIALS)
def test_credentials(sentence: str) -> None:
    spec, expected = CREDENTIALS[sentence]
    spec = {"model": {"connection": None}} | spec
    found = {stage: set(environment(make(stage, spec))) for stage in STAGES}
    assert {
        s: {n for n in names if n.endswith(("KEY_ID", "TOKEN")) and "SESSION" not in n}
        for s, names in found.items()
    } == expected


def test_no_secret_is_optional_but_the_session_token() -> None:
    references = [v["secretKeyRef"] for v in environment(make("prepare")).values() if isinstance(v, dict)]
    assert {r["key"]: r.get("optional", False) for r in references} == {
        "AWS_ACCESS_KEY_ID": False,
        "AWS_SECRET_ACCESS_KEY": False,
        "AWS_SESSION_TOKEN": True,
    }


def test_a_tracker_s_secret_holds_nothing_up() -> None:
    """Unless something else needs it."""
    spec = {
        "connections": [{"name": "store", "secretRef": {"name": "s3"}}]
        + [{"name": n, "endpoint": "http://x", "secretRef": {"name": n}} for n in ("hub", "tracker")],
        "export": {
            "merged": {},
            "publish": [{"to": "hf://team/model", "connection": "hub"}],
            "trackers": [{"name": "mlflow", "experiment": "runs", "connection": "tracker"}],
        },
    }
    for connection, held_up in (("tracker", False), ("hub", True)):
        spec["export"]["trackers"][0]["connection"] = connection  # type: ignore[index]
        found: Any = environment(make("export", spec))[f"CONNECTION_{connection.upper()}_TOKEN"]
        assert found["secretKeyRef"].get("optional", False) is not held_up


NAMES: dict[str, tuple[StageName, str, str]] = {
    "names neither resource nor attempt in a training": ("train", "tune", f"lft-train-{sha('x')[:16]}"),
    "names resource and stage elsewhere": ("prepare", "tune", "tune-prepare-########"),
    "cuts a long name": ("download", "a" * 40, f"{'a' * 30}-download-########"),
    "leaves no dot in a Job's name": ("export", "glm4.v2", "glm4-v2-export-########"),
    "leaves no dash at the cut": ("export", "a" * 29 + "-b", f"{'a' * 29}-export-########"),
}


@pytest.mark.parametrize("sentence", NAMES)
def test_a_job_name(sentence: str) -> None:
    stage, name, expected = NAMES[sentence]
    pattern = re.escape(expected).replace(r"\#" * 8, "[0-9a-f]{8}")
    assert re.fullmatch(pattern, job_name(stage, name, sha("x")))


def test_resources_whose_long_names_begin_alike_have_jobs_of_their_own() -> None:
    one, other = (job_name("export", "a" * 35 + end, sha("x")) for end in ("1", "2"))
    assert one != other


SCHEDULING = {
    "a node selector": ({"nodeSelector": {"gpu": "a100"}}, "nodeSelector", {"gpu": "a100"}),
    "a priority": ({"priorityClassName": "batch"}, "priorityClassName", "batch"),
    "a service account": ({"serviceAccountName": "tuner"}, "serviceAccountName", "tuner"),
    "pull secrets": ({"imagePullSecrets": [{"name": "p"}]}, "imagePullSecrets", [{"name": "p"}]),
    "tolerations": (
        {"tolerations": [{"key": "gpu", "operator": "Exists"}]},
        "tolerations",
        [{"key": "gpu", "operator": "Exists"}],
    ),
}


@pytest.mark.parametrize("sentence", SCHEDULING)
def test_the_training_pod_gets(sentence: str) -> None:
    scheduling, field, expected = SCHEDULING[sentence]
    assert pod(make("train", {"scheduling": scheduling}))[field] == expected


PLACEMENT = {
    "scheduling": {
        "nodeSelector": {"gpu": "a100"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "priorityClassName": "batch",
    },
    "resources": {"train": {"terminationGracePeriodSeconds": 300}},
}


@pytest.mark.parametrize(
    "field", ["nodeSelector", "tolerations", "priorityClassName", "terminationGracePeriodSeconds"]
)
def test_the_training_alone_gets(field: str) -> None:
    assert {stage for stage in STAGES if field in pod(make(stage, PLACEMENT))} == {"train"}


GIVEN: dict[str, Any] = {
    "requests": {"cpu": "500m", "memory": "4Gi"},
    "limits": {"memory": "8Gi"},
    "scratch": "7Gi",
}
CARD = {"gpu": {"resourceName": "amd.com/gpu"}}
Part = Callable[[dict[str, Any]], Any]
FIELDS: dict[str, tuple[StageName, dict[str, Any], Part, Any]] = {
    "what it may use, as given": (
        "prepare",
        GIVEN,
        lambda made: container(made)["resources"],
        {"requests": GIVEN["requests"], "limits": GIVEN["limits"]},
    ),
    "no bounds, where none are given": (
        "export",
        {},
        lambda made: container(made)["resources"],
        {"requests": {}, "limits": {}},
    ),
    "the GPUs of the resource that is named, beside what is given": (
        "train",
        GIVEN | CARD,
        lambda made: container(made)["resources"],
        {"requests": GIVEN["requests"] | {"amd.com/gpu": 1}, "limits": GIVEN["limits"] | {"amd.com/gpu": 1}},
    ),
    "no GPU, where it asks for none": (
        "train",
        {"gpu": {"count": 0}},
        lambda made: container(made)["resources"]["limits"],
        {},
    ),
    "as much scratch space as given": (
        "download",
        GIVEN,
        lambda made: volume(made, "scratch"),
        {"name": "scratch", "emptyDir": {"sizeLimit": "7Gi"}},
    ),
    "scratch space of a size that is bounded, where none is given": (
        "download",
        {},
        lambda made: volume(made, "scratch"),
        {"name": "scratch", "emptyDir": {"sizeLimit": "50Gi"}},
    ),
    "shared memory that is memory": (
        "train",
        {},
        lambda made: volume(made, "shm"),
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
    ),
    "the time that it has to save a checkpoint, as given": (
        "train",
        {"terminationGracePeriodSeconds": 300},
        lambda made: pod(made)["terminationGracePeriodSeconds"],
        300,
    ),
    "two minutes to save a checkpoint, where none are given": (
        "train",
        {},
        lambda made: pod(made)["terminationGracePeriodSeconds"],
        120,
    ),
}


@pytest.mark.parametrize("sentence", FIELDS)
def test_a_pod_gets(sentence: str) -> None:
    stage, given, part, expected = FIELDS[sentence]
    assert part(make(stage, {"resources": {stage: given}})) == expected


def volume(made: dict[str, Any], name: str) -> Any:
    return next(volume for volume in pod(made)["volumes"] if volume["name"] == name)


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_its_scratch_space_and_shared_memory_where_they_are_looked_for(
    stage: StageName,
) -> None:
    made = make(stage)
    mounts = {mount["name"]: mount["mountPath"] for mount in container(made)["volumeMounts"]}
    assert mounts == {"scratch": SCRATCH, "shm": "/dev/shm"}  # noqa: S108 - the pod's own
    told = {name: environment(made)[name] for name in (WORKDIR_VARIABLE, "HOME", "TMPDIR")}
    assert set(told.values()) == {SCRATCH}


def test_only_the_download_may_ask_a_hub() -> None:
    offline = {stage: environment(make(stage)).get("HF_HUB_OFFLINE") for stage in STAGES}
    assert offline == {"download": None, "prepare": "1", "train": "1", "export": "1"}


def test_no_stage_takes_the_identity_of_its_node() -> None:
    assert all(environment(make(stage))["AWS_EC2_METADATA_DISABLED"] == "true" for stage in STAGES)


def test_a_deadline_is_the_jobs() -> None:
    assert make("download", {"activeDeadlineSeconds": 60})["spec"]["activeDeadlineSeconds"] == 60


def test_an_edit_that_shapes_nothing_keeps_the_name_and_changes_the_template() -> None:
    one, other = make("train"), make("train", {"scheduling": {"nodeSelector": {"a": "b"}}})
    assert one["metadata"]["name"] == other["metadata"]["name"]
    templates = {m["metadata"]["annotations"]["lorafinetune.dev/template"] for m in (one, other)}
    assert len(templates) == 2


def test_two_resources_with_the_same_key_have_the_same_training_job() -> None:
    assert resource().metadata.name not in make("train")["metadata"]["name"]


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_can_post_its_progress_with_a_token_that_is_good_for_nothing_else(
    stage: StageName,
) -> None:
    receiver = Receiver("https://progress.example:8443/progress", "-----BEGIN CERTIFICATE-----")
    made = make(stage, settings=replace(SETTINGS, receiver=receiver))
    source = {"audience": "lorafinetune-progress", "expirationSeconds": 3600, "path": "token"}
    assert pod(made)["volumes"][-1] == {
        "name": "token",
        "projected": {"sources": [{"serviceAccountToken": source}]},
    }
    mount = container(made)["volumeMounts"][-1]
    assert mount["readOnly"] is True
    told = {name: value for name, value in environment(made).items() if "PROGRESS" in name}
    assert told == {
        PROGRESS_URL_VARIABLE: receiver.url,
        PROGRESS_CA_VARIABLE: receiver.ca,
        PROGRESS_TOKEN_VARIABLE: f"{mount['mountPath']}/token",
    }


THREADS: dict[str, tuple[dict[str, Any], str | None]] = {
    "as many as the limit of CPUs": ({"limits": {"cpu": "4"}, "requests": {"cpu": "2"}}, "4"),
    "as many as the requested CPUs, without a limit": ({"requests": {"cpu": 2}}, "2"),
    "one for a part of a CPU": ({"requests": {"cpu": "500m"}}, "1"),
    "a number in any unit": ({"requests": {"cpu": "0.25Ki"}}, "256"),
    "what the libraries choose, where no CPUs are given": ({"requests": {"memory": "1Gi"}}, None),
}


@pytest.mark.parametrize("sentence", THREADS)
def test_a_stage_has_threads(sentence: str) -> None:
    given, threads = THREADS[sentence]
    made = make("prepare", {"resources": {"prepare": given}})
    assert environment(made).get("OMP_NUM_THREADS") == threads


def test_without_a_receiver_no_token_is_made() -> None:
    made = make("train")
    assert [volume["name"] for volume in pod(made)["volumes"]] == ["scratch", "shm"]


def test_the_download_alone_is_told_which_hosts_are_allowed_and_only_where_it_needs_one() -> None:
    https = HttpsSources(hosts=("files.example",), private_cidrs=("10.0.0.0/8",))
    settings = replace(SETTINGS, https=https)
    plain = {stage for stage in STAGES if HTTPS_VARIABLE in environment(make(stage, settings=settings))}
    spec = {"datasets": [{"source": "https://files.example/rows.jsonl"}]}
    made = {stage: environment(make(stage, spec, settings)) for stage in STAGES}

    assert plain == set()
    assert {stage for stage in STAGES if HTTPS_VARIABLE in made[stage]} == {"download"}
    assert HttpsSources.model_validate_json(made["download"][HTTPS_VARIABLE]) == https
