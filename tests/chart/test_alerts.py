"""The alerts as a real Prometheus evaluates them: what raises each, with its words, and what does not."""

import json
from pathlib import Path
from typing import Any

import pytest

from chart.helm import NAMESPACE, OPERATOR, Object, at, render
from chart.variants import ALERTED
from cluster.build import binary
from cluster.process import run
from telemetry import ALERTS, rules

OURS = f"{NAMESPACE}/lorafinetune"
UP = {"up": "1x6000"}

Fires = dict[str, tuple[dict[str, str], str]]
"""Labels beside the operator, and summary, by alert."""

CASES: dict[str, tuple[dict[str, str], str, Fires]] = {
    "a training that tells its progress is well": (
        {'progress_age_seconds{namespace="team-a",job_name="lft-train-1"}': "5x60"},
        "1h",
        {},
    ),
    "one that tells none for a quarter of an hour and more is not": (
        {'progress_age_seconds{namespace="team-a",job_name="lft-train-1"}': "0+60x60"},
        "30m",
        {
            "LoRAFineTuneStalled": (
                {"namespace": "team-a", "job_name": "lft-train-1"},
                "team-a/lft-train-1 gets no further for 30m 0s",
            )
        },
    ),
    "one that took long and goes on is": (
        {'progress_age_seconds{namespace="team-a",job_name="lft-train-1"}': "0+60x17 5x60"},
        "30m",
        {},
    ),
    "runs that run and are done are well": (
        {'runs{state="Running",reason="Train"}': "40x60", 'runs{state="Complete",reason="Complete"}': "9x60"},
        "1h",
        {},
    ),
    "runs that wait for a person": (
        {'runs{state="Waiting",reason="SecretMissing"}': "2x60"},
        "20m",
        {"LoRAFineTuneWaits": ({"reason": "SecretMissing"}, "2 fine-tunings wait: SecretMissing")},
    ),
    "runs that waited for ten minutes": (
        {'runs{state="Waiting",reason="Unschedulable"}': "2x10 _x60"},
        "20m",
        {},
    ),
    "a training in its queue waits for no person": (
        {'runs{state="Queued",reason="Queued"}': "2x60"},
        "1h",
        {},
    ),
    "a run that fails is its author's affair": (
        {'runs_ended_total{state="Failed",reason="DatasetInvalid"}': "0x5 1x60"},
        "30m",
        {},
    ),
    "several that fail alike are the platform's": (
        {'runs_ended_total{state="Failed",reason="CudaOutOfMemory"}': "0x5 1x5 2x5 3x60"},
        "30m",
        {
            "LoRAFineTuneFailsAlike": (
                {"reason": "CudaOutOfMemory"},
                "Fine-tunings fail, 3 within an hour: CudaOutOfMemory",
            )
        },
    ),
    "several that fail for several reasons are not": (
        {
            f'runs_ended_total{{state="Failed",reason="{reason}"}}': "0x5 2x60"
            for reason in ("DatasetInvalid", "ModelGated")
        },
        "30m",
        {},
    ),
    "nor are many that are done": (
        {'runs_ended_total{state="Complete",reason="Complete"}': "0+1x60"},
        "1h",
        {},
    ),
    "a bug is somebody's at once": (
        {'runs_ended_total{state="Failed",reason="Internal"}': "0x5 1x60"},
        "30m",
        {
            "LoRAFineTuneFailsUnexplained": (
                {"reason": "Internal"},
                "A fine-tuning has failed for a bug, or was killed without a word",
            )
        },
    ),
    "trainings that start within an hour": (
        {
            'queue_wait_seconds_bucket{le="3600"}': "0+1x360",
            'queue_wait_seconds_bucket{le="14400"}': "0+1x360",
            'queue_wait_seconds_bucket{le="+Inf"}': "0+1x360",
        },
        "6h",
        {},
    ),
    "trainings of which every other waits for hours": (
        {
            'queue_wait_seconds_bucket{le="3600"}': "0+1x360",
            'queue_wait_seconds_bucket{le="14400"}': "0+2x360",
            'queue_wait_seconds_bucket{le="+Inf"}': "0+2x360",
        },
        "6h",
        {"LoRAFineTuneQueueSlow": ({}, "A tenth of the trainings waits for 3h 24m 0s or longer")},
    ),
    "a queue that nobody lets go": (
        {'runs{state="Queued",reason="Queued"}': "4x400", "queue_wait_seconds_count": "7x400"},
        "4h",
        {"LoRAFineTuneQueueStands": ({}, "4 trainings are queued, and none starts")},
    ),
    "a queue that gets on": (
        {'runs{state="Queued",reason="Queued"}': "4x400", "queue_wait_seconds_count": "0+0.2x400"},
        "4h",
        {},
    ),
    "an empty queue": ({"queue_wait_seconds_count": "7x400"}, "4h", {}),
    "GPUs that are held for nothing": (
        {
            'gpu_seconds_total{use="held"}': "0+60x1500",
            'gpu_seconds_total{use="training"}': "0+15x1500",
            'gpu_seconds_total{use="evaluating"}': "0+3x1500",
        },
        "24h",
        {"LoRAFineTuneGpusIdle": ({}, "70% of the GPU time was held and not used")},
    ),
    "GPUs of trainings that all fail": (
        {
            'gpu_seconds_total{use="held"}': "0+60x1500",
            'gpu_seconds_total{use="training"}': "0x1500",
            'gpu_seconds_total{use="evaluating"}': "0x1500",
        },
        "24h",
        {"LoRAFineTuneGpusIdle": ({}, "100% of the GPU time was held and not used")},
    ),
    "GPUs that are held for trainings": (
        {'gpu_seconds_total{use="held"}': "0+60x1500", 'gpu_seconds_total{use="training"}': "0+55x1500"},
        "24h",
        {},
    ),
    "GPUs of a pod that was preempted after it told of its checkpoints": (
        {
            'gpu_seconds_total{use="held"}': "0x300 180000x1200",
            'gpu_seconds_total{use="training"}': "0+550x300 165000x1200",
        },
        "24h",
        {},
    ),
    "GPUs of a preempted pod whose training has not gone on yet to tell of its checkpoint": (
        {
            'gpu_seconds_total{use="held"}': "0x60 180000x600",
            'gpu_seconds_total{use="training"}': "0x600",
        },
        "6h",
        {},
    ),
    "GPUs of a training of three days": (
        {
            'gpu_seconds_total{use="held"}': "0x4320 260000x1500",
            'gpu_seconds_total{use="training"}': "0+58x4320 250560x1500",
        },
        "90h",
        {},
    ),
    "half an hour of a GPU": (
        {'gpu_seconds_total{use="held"}': "0+1x1500", 'gpu_seconds_total{use="training"}': "0x1500"},
        "24h",
        {},
    ),
    "a store that is away": (
        {'runs{state="Waiting",reason="StorageUnavailable"}': "3 _ _ 3 _ _ 3 _ _ _ 3 _ _ _ 3 _ _ _ 3 3"},
        "19m",
        {
            "LoRAFineTuneStoreFails": (
                {"reason": "StorageUnavailable"},
                "The store fails fine-tunings: StorageUnavailable",
            )
        },
    ),
    "a store that was away for a moment": (
        {'runs{state="Waiting",reason="StorageUnavailable"}': "3x2 _x30"},
        "19m",
        {},
    ),
    "a store that has spoilt a file": (
        {'runs_ended_total{state="Failed",reason="ArtifactCorrupt"}': "0x5 1x30"},
        "20m",
        {
            "LoRAFineTuneStoreFails": (
                {"reason": "ArtifactCorrupt"},
                "The store fails fine-tunings: ArtifactCorrupt",
            )
        },
    ),
    "an operator that is gone": (
        {"up": "1x5 _x30"},
        "20m",
        {"LoRAFineTuneOperatorAbsent": ({}, f"The operator {OURS} does not answer")},
    ),
    "an operator that does not answer": (
        {"up": "1x5 0x30"},
        "20m",
        {"LoRAFineTuneOperatorAbsent": ({}, f"The operator {OURS} does not answer")},
    ),
    "an operator that moves to another node": ({"up": "1x5 0x3 1x30"}, "20m", {}),
    "a watch that is silent": (
        {'watch_age_seconds{resource="jobs"}': "0+60x30", 'watch_age_seconds{resource="pods"}': "50x30"},
        "5m",
        {
            "LoRAFineTuneWatchSilent": (
                {"resource": "jobs"},
                "The operator has not watched jobs for 5m 0s",
            )
        },
    ),
    "an operator that reconciles nothing": (
        {"reconcile_latency_seconds_count": "9x60", 'runs{state="Running",reason="Train"}': "1x60"},
        "40m",
        {"LoRAFineTuneOperatorStands": ({}, "The operator reconciles no fine-tuning")},
    ),
    "an operator that reconciles now and then": (
        {"reconcile_latency_seconds_count": "0+0.1x60", 'runs{state="Running",reason="Train"}': "1x60"},
        "40m",
        {},
    ),
    "an operator that has nothing to reconcile": ({"reconcile_latency_seconds_count": "9x60"}, "40m", {}),
    "an operator that can't keep up": (
        {
            'reconcile_latency_seconds_bucket{le="30"}': "0+10x60",
            'reconcile_latency_seconds_bucket{le="60"}': "0+20x60",
            'reconcile_latency_seconds_bucket{le="+Inf"}': "0+20x60",
        },
        "30m",
        {"LoRAFineTuneOperatorBehind": ({}, "The operator is behind by 59.4s")},
    ),
    "an operator that the API server refuses": (
        {'reconcile_errors_total{kind="api"}': "0+1x60"},
        "30m",
        {
            "LoRAFineTuneOperatorErrors": (
                {"kind": "api"},
                "The operator fails to reconcile fine-tunings: api",
            )
        },
    ),
    "an operator that somebody was faster than": (
        {'reconcile_errors_total{kind="changed"}': "0+9x60"},
        "30m",
        {},
    ),
    "an operator that was refused for a moment": (
        {'reconcile_errors_total{kind="api"}': "0x5 3x60"},
        "30m",
        {},
    ),
    "another operator is another's affair": ({'up{operator="other/lorafinetune"}': "0x60"}, "30m", {}),
}


@pytest.fixture(scope="module")
def groups() -> Any:
    return at(render(OPERATOR, ALERTED), "PrometheusRule/lorafinetune: spec.groups")


@pytest.fixture
def rule_file(groups: Any, tmp_path: Path) -> Path:
    file = tmp_path / "rules.json"
    file.write_text(json.dumps({"groups": groups}))
    return file


def test_promtool_has_nothing_to_complain_of(rule_file: Path) -> None:
    for file in (rule_file, ALERTS):
        promtool("check", "rules", "--lint=all", "--lint-fatal", str(file))


def test_every_alert_is_raised_by_something() -> None:
    raised = {alert for _, _, fires in CASES.values() for alert in fires}
    assert raised == {rule["alert"] for rule in rules()}


@pytest.mark.parametrize("sentence", CASES)
def test_what_is_raised_by(sentence: str, groups: Any, rule_file: Path) -> None:
    series, when, fires = CASES[sentence]
    given = {named(name): values for name, values in (UP | series).items()}
    case = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in given.items()],
        "alert_rule_test": [
            {"eval_time": when, "alertname": rule["alert"], "exp_alerts": expected(rule, fires)}
            for group in groups
            for rule in group["rules"]
        ],
    }
    file = rule_file.with_name("test.json")
    file.write_text(
        json.dumps({"rule_files": [str(rule_file)], "evaluation_interval": "1m", "tests": [case]})
    )
    promtool("test", "rules", str(file))


def expected(rule: Object, fires: Fires) -> list[Object]:
    """How an alert looks that is raised; nothing where it is not."""
    if rule["alert"] not in fires:
        return []
    own, summary = fires[rule["alert"]]
    labels = {"operator": OURS} | own | rule["labels"]
    told = dict(rule["annotations"])
    for name, value in labels.items():
        told["description"] = told["description"].replace(f"{{{{ $labels.{name} }}}}", value)
    return [{"exp_labels": labels, "exp_annotations": told | {"summary": summary}}]


def named(name: str) -> str:
    """A series of this operator, unless it says whose it is."""
    metric, _, labels = name.rstrip("}").partition("{")
    whose = [] if "operator=" in labels else [f'operator="{OURS}"']
    prefix = "" if metric == "up" else "lorafinetune_"
    return f"{prefix}{metric}{{{','.join(filter(None, [labels, *whose]))}}}"


def promtool(*arguments: str) -> str:
    return run(str(binary("promtool")), *arguments)
