"""Whose Secrets and ServiceAccounts a LoRAFineTune may name, tried by the people of two teams."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from builders import document
from chart.helm import NAMESPACE, OPERATOR, TENANT, Object
from chart.site import Site
from chart.variants import ANN
from cluster.kubeconfig import kubeconfig
from commands import commander
from lorafinetune.api.resource import REFRESH_ANNOTATION

pytestmark = pytest.mark.apiserver

HERE, ELSEWHERE = "team-a", "team-b"
TENANT_VALUES = {
    "networkPolicy": {"enabled": False},
    "users": {"edit": [ANN]},
    "secrets": ["s3", *(f"p{place}" for place in range(7))],
}
ROLES: Mapping[str, Object] = {
    "reader": {"verbs": ["get"], "resources": ["secrets"]},
    "user": {"verbs": ["use"], "resources": ["serviceaccounts"]},
    "impersonator": {"verbs": ["impersonate"], "resources": ["serviceaccounts"], "resourceNames": ["tuner"]},
}
BOUND: Mapping[str, tuple[str, ...]] = {
    "carl": ("clusterrole=lorafinetune-edit",),
    "edda": ("clusterrole=lorafinetune-edit", "clusterrole=system:aggregate-to-edit"),
    "fred": ("clusterrole=lorafinetune-edit", "role=reader", "role=user"),
    "irma": ("clusterrole=lorafinetune-edit", "role=reader", "role=impersonator"),
}
"""What each may do in the first namespace. Ann is the tenant chart's; Edda has what `edit` is made of."""


def named(*secrets: str) -> list[Object]:
    """A connection for each Secret: the first one is the store's."""
    names = ["store", *(f"c{place}" for place in range(1, len(secrets)))]
    return [
        {"name": name, "secretRef": {"name": secret}} for name, secret in zip(names, secrets, strict=True)
    ]


def pulled(*secrets: str) -> Object:
    return {"serviceAccountName": "tuner", "imagePullSecrets": [{"name": secret} for secret in secrets]}


def secret_refused(user: str, path: str, secret: str, namespace: str = HERE) -> str:
    return (
        f"spec.{path}: {user} may neither get the Secret {secret} nor create pods in {namespace}: "
        "name one that you may get, or have one of the two granted"
    )


def account_refused(user: str, account: str, namespace: str = HERE) -> str:
    return (
        f"spec.scheduling.serviceAccountName: {user} may neither use the ServiceAccount {account} nor create "
        f"pods in {namespace}: name one that you may use, or have one of the two granted"
    )


TUNER = {"scheduling": {"serviceAccountName": "tuner"}}
OTHER = {"connections": named("other")}
OPEN = {"connections": [{"name": "store"}]}
PULLED = {"scheduling": pulled("pull")}
FULL = {
    "connections": named(*(f"s{place}" for place in range(8))),
    "datasets": [{"source": f"s3://data/{place}.json", "connection": "store"} for place in range(32)],
    "scheduling": pulled(*(f"p{place}" for place in range(8))),
}
CREATED: Mapping[str, tuple[str, str, Object, str]] = {
    "an administrator may name everything": ("", HERE, OTHER, ""),
    "a user of the tenant has its account and the Secrets that it lists": ("ann", HERE, TUNER, ""),
    "and no other Secret": (
        "ann",
        HERE,
        TUNER | OTHER,
        secret_refused("ann", "connections[0].secretRef.name", "other"),
    ),
    "nor a Secret to pull images with": (
        "ann",
        HERE,
        PULLED,
        secret_refused("ann", "scheduling.imagePullSecrets[0].name", "pull"),
    ),
    "nor the account that pods have by default": ("ann", HERE, {}, account_refused("ann", "default")),
    "nor one of another name": (
        "ann",
        HERE,
        {"scheduling": {"serviceAccountName": "robot"}},
        account_refused("ann", "robot"),
    ),
    "nor anything of another namespace, where she may edit LoRAFineTunes too": (
        "ann",
        ELSEWHERE,
        TUNER,
        secret_refused("ann", "connections[0].secretRef.name", "s3", ELSEWHERE),
    ),
    "who may edit LoRAFineTunes alone gets no Secret": (
        "carl",
        HERE,
        {},
        secret_refused("carl", "connections[0].secretRef.name", "s3"),
    ),
    "and no account": ("carl", HERE, OPEN, account_refused("carl", "default")),
    "who may create pods has all of the namespace anyhow": ("edda", HERE, OTHER | PULLED, ""),
    "but not of another": (
        "edda",
        ELSEWHERE,
        {},
        'User "edda" cannot create resource "lorafinetunes"',
    ),
    "to impersonate an account is to use it": ("irma", HERE, TUNER, ""),
    "and that one alone": ("irma", HERE, {}, account_refused("irma", "default")),
    "a resource with a Secret in every place is not too much to judge": ("fred", HERE, FULL, ""),
    "the last connection is judged like the first": (
        "ann",
        HERE,
        TUNER | {"connections": named(*["s3"] * 7, "other")},
        secret_refused("ann", "connections[7].secretRef.name", "other"),
    ),
    "and so is the last Secret to pull with": (
        "ann",
        HERE,
        {"scheduling": pulled(*(f"p{place}" for place in range(7)), "other")},
        secret_refused("ann", "scheduling.imagePullSecrets[7].name", "other"),
    ),
}
"""User, namespace, change of the spec, and why it is refused."""

EDITED: Mapping[str, tuple[str, str, Object, str]] = {
    "a label of what another named may be changed": (
        "carl",
        "running",
        {"metadata": {"labels": {"a": "b"}}},
        "",
    ),
    "what runs may be suspended": ("carl", "running", {"spec": {"suspend": True}}, ""),
    "what is suspended stays so": ("carl", "suspended", {"spec": {"suspend": True}}, ""),
    "to have it go on is to ask for it": (
        "carl",
        "suspended",
        {"spec": {"suspend": False}},
        secret_refused("carl", "connections[0].secretRef.name", "other"),
    ),
    "to have it run anew is, too": (
        "carl",
        "running",
        {"metadata": {"annotations": {REFRESH_ANNOTATION: "2"}}},
        secret_refused("carl", "connections[0].secretRef.name", "other"),
    ),
    "so is every other change": (
        "ann",
        "running",
        {"spec": {"maxRetries": 5}},
        secret_refused("ann", "connections[0].secretRef.name", "other"),
    ),
    "with suspending too": (
        "ann",
        "running",
        {"spec": {"suspend": True, "maxRetries": 5}},
        secret_refused("ann", "connections[0].secretRef.name", "other"),
    ),
    "and the removal of a field": (
        "ann",
        "running",
        {"spec": {"activeDeadlineSeconds": None}},
        secret_refused("ann", "connections[0].secretRef.name", "other"),
    ),
    "another's resource may be changed to what one may use": (
        "ann",
        "running",
        {"spec": TUNER | {"connections": named("s3")}},
        "",
    ),
    "who may create pods may change it as they like": ("edda", "running", {"spec": {"maxRetries": 5}}, ""),
}
"""User, resource, change, and why it is refused. An administrator has made the resources."""


def as_(user: str) -> tuple[str, ...]:
    return (f"--as={user}",) if user else ()


def tune(change: Mapping[str, Any], name: str = "tune", namespace: str = HERE) -> Object:
    made = document(change, name=name, namespace=namespace)
    del made["metadata"]["uid"]
    return made


@pytest.fixture(scope="module")
def people(site: Site) -> Site:
    """The operator's chart, two namespaces, and who may do what in them."""
    site.new_namespace(NAMESPACE)
    site.install("lorafinetune", OPERATOR, NAMESPACE)
    site.kubectl("wait", "--for=condition=Established", "crd/lorafinetunes.lorafinetune.dev")
    for namespace in (HERE, ELSEWHERE):
        site.new_namespace(namespace)
    site.install("tenant", TENANT, HERE, TENANT_VALUES)
    for role, rule in ROLES.items():
        site.kubectl("create", "--filename=-", stdin=json.dumps(role_of(role, rule)))
    for user, roles in BOUND.items():
        for place, role in enumerate(roles):
            bind(site, f"{user}-{place}", user, role, HERE)
    bind(site, "ann", "ann", "clusterrole=lorafinetune-edit", ELSEWHERE)
    site.await_refusal("create", "--as=carl", given=tune({}))
    return site


def role_of(name: str, rule: Object) -> Object:
    metadata = {"name": name, "namespace": HERE}
    rules = [{"apiGroups": [""]} | rule]
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": metadata,
        "rules": rules,
    }


def bind(site: Site, name: str, user: str, role: str, namespace: str) -> None:
    site.kubectl("create", "rolebinding", name, f"--user={user}", f"--{role}", f"--namespace={namespace}")


@pytest.fixture(scope="module")
def resources(people: Site) -> dict[str, Object]:
    made = {
        "running": tune(OTHER | {"activeDeadlineSeconds": 60}, "running"),
        "suspended": tune(OTHER | {"suspend": True}, "suspended"),
    }
    for one in made.values():
        people.kubectl("apply", "--server-side", "--filename=-", stdin=json.dumps(one))
    return made


@pytest.mark.parametrize("sentence", CREATED)
def test_created(people: Site, sentence: str) -> None:
    user, namespace, change, message = CREATED[sentence]
    said = people.refusal("create", *as_(user), "--dry-run=server", given=tune(change, namespace=namespace))
    assert message in said
    assert bool(message) == bool(said)


@pytest.mark.parametrize("sentence", EDITED)
def test_edited(people: Site, resources: dict[str, Object], sentence: str) -> None:
    user, name, change, message = EDITED[sentence]
    patch = ("patch", "lft", name, f"--namespace={HERE}", "--type=merge", f"--patch={json.dumps(change)}")
    said = people.refusal(*patch, *as_(user), "--dry-run=server")
    assert message in said
    assert bool(message) == bool(said)


def test_a_delivery_tool_applies_again_what_it_could_not_have_created(
    people: Site, resources: dict[str, Object]
) -> None:
    again = ("apply", "--server-side", "--force-conflicts", "--as=carl", "--field-manager=delivery")
    assert people.refusal(*again, given=resources["running"]) == ""
    new = resources["running"] | {"metadata": {"name": "new", "namespace": HERE}}
    assert "may neither get the Secret other" in people.refusal(*again, given=new)


def test_the_operator_writes_the_status_of_what_it_could_not_have_created(
    people: Site, resources: dict[str, Object]
) -> None:
    operator = f"--as=system:serviceaccount:{NAMESPACE}:lorafinetune"
    there = people.get("lft", "running", f"--namespace={HERE}")
    written = there | {"status": {"stage": "Train"}}
    assert people.refusal("replace", "--subresource=status", operator, given=written) == ""
    assert people.get("lft", "running", f"--namespace={HERE}")["status"]["stage"] == "Train"


def test_an_account_s_own_token_is_judged_like_a_person(
    people: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Not in somebody's name: with the credentials of the account itself."""
    people.kubectl("create", "serviceaccount", "robot", f"--namespace={HERE}")
    robot = f"system:serviceaccount:{HERE}:robot"
    bind(people, "robot", robot, "clusterrole=lorafinetune-edit", HERE)
    token = people.kubectl("create", "token", "robot", f"--namespace={HERE}").strip()
    refusal = secret_refused(robot, "connections[0].secretRef.name", "s3")
    assert refusal in people.refusal("create", f"--token={token}", "--dry-run=server", given=tune({}))
    written, config = tmp_path / "tune.yaml", tmp_path / "config"
    written.write_text(json.dumps(tune({})))
    config.write_text(kubeconfig(people.server.url, people.server.ca_file.read_bytes(), token))
    code, _, told = commander(monkeypatch, capsys)("apply", written, "--kubeconfig", config)
    assert code == 64
    assert told.endswith(f"denied request: {refusal}.\n")


def test_it_can_be_switched_off(people: Site) -> None:
    people.install("lorafinetune", OPERATOR, NAMESPACE, {"admission": {"enabled": False}})
    kinds = "validatingadmissionpolicies,validatingadmissionpolicybindings"
    assert people.get(kinds)["items"] == []
