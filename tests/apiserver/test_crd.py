"""The API server takes the CRD as it is, keeps every declared field, and shows the columns."""

from collections.abc import Iterator

from hypothesis import Phase, find, settings

from apiserver.kube import CRDS, RESOURCES, Json, ask, columns, created, tried
from builders import document
from cluster.apiserver import ApiServer
from lorafinetune.api.codec import decode
from lorafinetune.api.crd import COLUMNS, crd
from lorafinetune.api.fields import walk
from lorafinetune.api.spec import LoRAFineTuneSpec
from lorafinetune.api.status import LoRAFineTuneStatus
from strategies import documents, specs, statuses

NAME = crd()["metadata"]["name"]


def existing(server: ApiServer, name: str) -> Json:
    """A valid resource that is stored."""
    value = document(name=name, namespace="default")
    return created(server, value)


def with_status(server: ApiServer, name: str, status: Json) -> Json:
    """A stored resource after its status was replaced."""
    stored = ask(server, "GET", f"{RESOURCES}/{name}").body
    path = f"{RESOURCES}/{name}/status?fieldValidation=Strict"
    answer = ask(server, "PUT", path, stored | {"status": status})
    assert answer.accepted, answer.message
    return ask(server, "GET", f"{RESOURCES}/{name}").body


def leaves(value: Json, at: str) -> Iterator[str]:
    """The paths of a value that `walk` gives of the models."""
    if isinstance(value, dict):
        yield at
        for name, child in value.items():
            yield from leaves(child, f"{at}.{name}")
    elif isinstance(value, list):
        yield at
        for item in value:
            yield from leaves(item, f"{at}[]")
    else:
        yield at


def test_it_is_established_and_structural(served: ApiServer) -> None:
    conditions = ask(served, "GET", f"{CRDS}/{NAME}").body["status"]["conditions"]
    assert {(condition["type"], condition["status"]) for condition in conditions} == {
        ("NamesAccepted", "True"),
        ("Established", "True"),
    }


def test_it_is_stored_as_it_was_written(served: ApiServer) -> None:
    assert ask(served, "GET", f"{CRDS}/{NAME}").body["spec"]["versions"] == crd()["spec"]["versions"]


def test_it_prunes_no_field(served: ApiServer) -> None:
    every_field = documents(specs(whole=True), statuses(whole=True))
    value = find(every_field, lambda _: True, settings=settings(database=None, phases=[Phase.generate]))
    value["metadata"]["name"] = "whole"
    given_fields = {*leaves(value["spec"], "spec"), *leaves(value["status"], "status")}
    spec_fields = {f"spec.{path}" for path, _ in walk(LoRAFineTuneSpec)}
    status_fields = {f"status.{path}" for path, _ in walk(LoRAFineTuneStatus)}
    assert (spec_fields | status_fields) - given_fields == {
        "spec.training.maxSteps",  # in place of epochs
        "spec.training.batchTokens",  # in place of a number of rows
        "spec.training.evaluation.count",  # in place of a fraction
        "spec.training.evaluation.dataset",
    }
    created(served, value)
    stored = with_status(served, "whole", value["status"])
    assert (stored["spec"], stored["status"]) == (value["spec"], value["status"])
    assert (decode(stored).spec, decode(stored).status) == (decode(value).spec, decode(value).status)


def test_it_fills_in_the_defaults_of_the_models(served: ApiServer) -> None:
    assert existing(served, "plain")["spec"] == decode(document()).spec.encode()


def test_it_drops_a_status_that_comes_with_a_new_resource(served: ApiServer) -> None:
    assert "status" not in tried(served, document(namespace="default") | {"status": {"stage": "x"}}).body


def test_it_shows_the_columns(served: ApiServer) -> None:
    status = {"stage": "train", "progress": "42%", "resumes": 1, "training": {"step": 7}}
    existing(served, "columns")
    with_status(served, "columns", status)
    cells = columns(served, f"{RESOURCES}/columns")
    assert list(cells) == ["Name", *(name for name, *_ in COLUMNS)]
    del cells["Age"]
    assert cells == {
        "Name": "columns",
        "Stage": "train",
        "Progress": "42%",
        "Loss": None,
        "ETA": None,
        "Reason": None,
        "Model": "hf://owner/model",
        "Step": 7,
        "Resumes": 1,
        "Adapter": None,
    }
