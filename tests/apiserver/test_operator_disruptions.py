"""What may happen to the operator at any time, and must not matter."""

import random
import threading
import time
from pathlib import Path

from apiserver.identity import operator_kubeconfig
from apiserver.kube import serve_resource
from apiserver.kubelet import Kubelet
from apiserver.operating import MERGE, Namespace, Operator, uid
from cluster.apiserver import ApiServer
from cluster.controllers import Controllers
from lorafinetune.contract.arguments import STAGES

LONG = 90
NEWER = {
    "LORAFINETUNE_DOWNLOAD_IMAGE": "example.com/download:2",
    "LORAFINETUNE_TRAIN_IMAGE": "example.com/train:2",
}


def test_killed_at_any_time_it_makes_each_job_once(own_namespace: Namespace, own_operator: Operator) -> None:
    chance = random.Random(7)
    own_namespace.apply("tough")
    with Kubelet(own_namespace) as kubelet:
        deadline = time.monotonic() + LONG
        while not own_namespace.condition("tough", "Complete"):
            assert time.monotonic() < deadline
            own_operator.launch()
            time.sleep(chance.uniform(1, 6))
            own_operator.kill()
    assert {stage: len(uids) for stage, uids in kubelet.seen.items()} == dict.fromkeys(STAGES, 1)


def test_a_restart_writes_nothing(own_namespace: Namespace, own_operator: Operator) -> None:
    own_operator.start()
    for name in ("done", "busy"):
        own_namespace.apply(name)
    own_namespace.finish_all("done")
    own_namespace.run(own_namespace.pod(own_namespace.job("busy", "download")))
    own_namespace.until("busy", "Ready", "Download")
    time.sleep(1.5)
    told_to_stop = time.monotonic()
    own_operator.stop(grace=20)
    assert time.monotonic() - told_to_stop < 5
    before = versions(own_namespace)
    own_operator.start()
    own_namespace.wait(lambda: own_operator.metric("lorafinetune_reconcile_latency_seconds_count") >= 2)
    time.sleep(1)
    assert versions(own_namespace) == before


def test_an_upgrade_trains_nothing_again_and_leaves_what_is_finished_alone(
    own_namespace: Namespace, own_operator: Operator, identity: Path, tmp_path: Path
) -> None:
    own_operator.start()
    for name in ("done", "busy"):
        own_namespace.apply(name)
    own_namespace.finish_all("done")
    for stage in STAGES[:2]:
        own_namespace.finish("busy", stage)
    training = own_namespace.job("busy", "train")
    own_namespace.run(own_namespace.pod(training))
    own_namespace.until("busy", "Ready", "Train")
    time.sleep(1.5)
    own_operator.stop(grace=20)
    before = versions(own_namespace)
    newer = Operator(identity, tmp_path / "newer.log", own_namespace.name, **NEWER)
    newer.start()
    try:
        own_namespace.wait(lambda: newer.metric("lorafinetune_reconcile_latency_seconds_count") >= 2)
        time.sleep(1)
        assert versions(own_namespace) == before
        assert uid(own_namespace.finish("busy", "train")) == uid(training)
        (container,) = own_namespace.finish("busy", "export")["spec"]["template"]["spec"]["containers"]
        assert container["image"] == NEWER["LORAFINETUNE_TRAIN_IMAGE"]
        own_namespace.until("busy", "Complete")
    finally:
        newer.stop()
    finished = [own_namespace.get("done"), *own_namespace.jobs_of("done")]
    assert {uid(each): each["metadata"]["resourceVersion"] for each in finished}.items() <= before.items()
    assert len(own_namespace.jobs_of("busy")) == len(STAGES)


def test_what_happened_while_it_was_away_is_made_up_for(
    own_namespace: Namespace, own_operator: Operator
) -> None:
    own_operator.start()
    own_namespace.apply("meanwhile")
    pod = own_namespace.pod(own_namespace.job("meanwhile", "download"))
    own_operator.kill()
    own_namespace.edit("meanwhile", {"suspend": True})
    own_namespace.apply("new-one")
    own_operator.start()
    own_namespace.until("meanwhile", "Suspended")
    own_namespace.job("new-one", "download")
    assert own_namespace.pods_of("meanwhile") in ([], [pod])


def test_others_that_write_the_same_resource_do_not_keep_it_from_ending(
    own_namespace: Namespace, own_operator: Operator
) -> None:
    own_operator.start()
    own_namespace.apply("contested")
    done = threading.Event()

    def contest() -> None:
        while not done.is_set():
            note = {"metadata": {"annotations": {"lorafinetune.dev/x": str(time.monotonic())}}}
            own_namespace.client.request(
                "PATCH", own_namespace.path("lorafinetunes", "contested"), note, MERGE
            )

    rival = threading.Thread(target=contest, daemon=True)
    rival.start()
    try:
        with Kubelet(own_namespace):
            own_namespace.wait(lambda: own_namespace.condition("contested", "Complete"), LONG)
    finally:
        done.set()
        rival.join()
    conflicts = own_operator.metric(
        "lorafinetune_api_calls_total", resource="lorafinetunes/status", code="409"
    )
    assert conflicts > 0
    assert own_operator.metric("lorafinetune_reconcile_errors_total", kind="changed") > 0
    assert own_namespace.told("contested", "StageComplete", 4) == 4


def test_it_goes_on_after_the_api_server_was_away(tmp_path: Path) -> None:
    with ApiServer(tmp_path) as server, Controllers(tmp_path, server):
        serve_resource(server)
        operator = Operator(operator_kubeconfig(server, tmp_path), tmp_path / "operator.log")
        operator.start()
        try:
            namespace = Namespace(server, "anywhere")
            namespace.apply("patient")
            namespace.job("patient", "download")
            server.stop()
            time.sleep(2)
            server.start()
            namespace.edit("patient", {"suspend": True})
            namespace.until("patient", "Suspended")
            namespace.apply("late")
            namespace.job("late", "download")
        finally:
            operator.stop()


def versions(namespace: Namespace) -> dict[str, str]:
    """The version of each object that the operator writes."""
    return {
        item["metadata"]["uid"]: item["metadata"]["resourceVersion"]
        for plural in ("lorafinetunes", "jobs", "events")
        for item in namespace.items(plural)
    }
