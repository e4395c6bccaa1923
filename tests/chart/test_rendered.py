"""What values lead to, told by sentences, and what holds whatever the values are."""

from collections.abc import Mapping
from typing import Any

import pytest

from chart.helm import NAMESPACE, OPERATOR, TENANT, Object, Values, at, name_of, render, rules
from chart.variants import ALERTED, ANN, LIMITS, MONITORED, PROMETHEUS, TENANT_A, VARIANTS
from cluster.process import CommandError
from lorafinetune_stages.hubs.origin import PUBLIC_ENDPOINTS

POD = "Deployment/lorafinetune: spec.template.spec"
ENV = f"{POD}.containers.0.env"
IMAGE = f"{POD}.containers.0.image"
INGRESS = "NetworkPolicy/lorafinetune: spec.ingress"
DIGEST = "sha256:" + "0" * 64
ISSUER = {"name": "ours", "kind": "ClusterIssuer", "group": "cert-manager.io"}
TOKENS = f"{NAMESPACE}:lorafinetune:tokens"
POLICY = "ValidatingAdmissionPolicy/lorafinetunes.lorafinetune.dev"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
GUARD = "ValidatingAdmissionPolicyBinding/lorafinetunes.lorafinetune.dev"

TABLE: Mapping[str, tuple[Values, str, Any]] = {
    "the images are those of the chart's version": ({}, IMAGE, "localhost/lorafinetune/operator:0.1.0"),
    "an image may have another tag": (
        {"images": {"operator": {"tag": "1.2"}}},
        IMAGE,
        "localhost/lorafinetune/operator:1.2",
    ),
    "a digest wins over a tag": (
        {"images": {"operator": {"tag": "1.2", "digest": DIGEST}}},
        IMAGE,
        f"localhost/lorafinetune/operator@{DIGEST}",
    ),
    "the registry stands before each image": (
        {"images": {"registry": "registry.example.com/ml/"}},
        f"{ENV}.1.value",
        "registry.example.com/ml/train:0.1.0",
    ),
    "the download stage has an image of its own": (
        {"images": {"download": {"tag": "1.2"}}},
        f"{ENV}.0.value",
        "localhost/lorafinetune/download:1.2",
    ),
    "secrets to pull with are the pod's": (
        {"images": {"pullSecrets": [{"name": "pull"}]}},
        f"{POD}.imagePullSecrets",
        [{"name": "pull"}],
    ),
    "the operator serves the whole cluster": (
        {},
        f"{ENV}.2",
        {"name": "LORAFINETUNE_NAMESPACES", "value": ""},
    ),
    "or the namespaces that are named": (
        {"watch": {"namespaces": ["team-a", "team-b"]}},
        f"{ENV}.2.value",
        "team-a,team-b",
    ),
    "no host is allowed": ({}, f"{ENV}.7", {"name": "LORAFINETUNE_HTTPS_HOSTS", "value": ""}),
    "but those that you name": (
        {"sources": {"httpsHosts": ["raw.githubusercontent.com", "files.example.com:8443"]}},
        f"{ENV}.7.value",
        "raw.githubusercontent.com,files.example.com:8443",
    ),
    "a host may be in a private network that you name": (
        {"sources": {"privateCidrs": ["10.0.0.0/8", "fd00::/8"]}},
        f"{ENV}.8",
        {"name": "LORAFINETUNE_PRIVATE_CIDRS", "value": "10.0.0.0/8,fd00::/8"},
    ),
    "and prove itself by an authority that you name": (
        {"sources": {"certificates": CERTIFICATE}},
        f"{ENV}.9",
        {"name": "LORAFINETUNE_HTTPS_CERTIFICATES", "value": CERTIFICATE},
    ),
    "stages are told where to post": (
        {},
        f"{ENV}.4.value",
        f"https://lorafinetune.{NAMESPACE}.svc:8443/progress",
    ),
    "without progress, stages are told nothing": (
        {"progress": {"enabled": False}},
        f"{ENV}.4.value",
        None,
    ),
    "without progress there is no certificate": (
        {"progress": {"enabled": False}},
        "Secret/lorafinetune-tls",
        None,
    ),
    "without progress there is no port for it": (
        {"progress": {"enabled": False}},
        "Service/lorafinetune: spec.ports.1",
        None,
    ),
    "without progress nobody may reach the operator": ({"progress": {"enabled": False}}, INGRESS, None),
    "progress comes from stages in any namespace": ({}, f"{INGRESS}.0.from.0.namespaceSelector", {}),
    "or from those that are served": (
        TENANT_A,
        f"{INGRESS}.0.from.0.namespaceSelector.matchExpressions.0.values",
        ["team-a"],
    ),
    "nobody may scrape": ({}, f"{INGRESS}.1", None),
    "but whom you name": (
        {"networkPolicy": {"metricsFrom": PROMETHEUS}},
        f"{INGRESS}.1",
        {"ports": [{"port": "metrics"}], "from": PROMETHEUS},
    ),
    "the policy can be left out": ({"networkPolicy": {"enabled": False}}, "NetworkPolicy/lorafinetune", None),
    "the definition outlives the release": (
        {},
        "CustomResourceDefinition/lorafinetunes.lorafinetune.dev: metadata.annotations",
        {"helm.sh/resource-policy": "keep"},
    ),
    "unless you say otherwise": (
        {"crds": {"keep": False}},
        "CustomResourceDefinition/lorafinetunes.lorafinetune.dev: metadata.annotations",
        None,
    ),
    "whose Secrets a resource names is judged": ({}, f"{GUARD}: spec.validationActions", ["Deny"]),
    "and nothing passes that can't be judged": ({}, f"{POLICY}: spec.failurePolicy", "Fail"),
    "unless it is switched off": ({"admission": {"enabled": False}}, GUARD, None),
    "all of it": ({"admission": {"enabled": False}}, POLICY, None),
    "a second operator brings nothing to judge by": ({"crds": {"install": False}}, POLICY, None),
    "nothing is limited": ({}, f"{POLICY}: spec.variables.2", None),
    "a limit of no GPU is one": (
        {"admission": {"limits": {"gpus": 0}}},
        f"{POLICY}: spec.validations.17.expression",
        "object.spec.resources.train.gpu.count * object.spec.resources.train.?nodes.orValue(1) <= 0",
    ),
    "a limit of time is a whole number": (
        {"admission": {"limits": {"activeDeadlineSeconds": 31536000}}},
        f"{POLICY}: spec.validations.17.expression",
        "object.spec.?activeDeadlineSeconds.orValue(31536001) <= 31536000",
    ),
    "who may edit may edit LoRAFineTunes": (
        {},
        "ClusterRole/lorafinetune-edit: metadata.labels.rbac~authorization~k8s~io/aggregate-to-edit",
        "true",
    ),
    "who may view may view them": (
        {},
        "ClusterRole/lorafinetune-view: metadata.labels.rbac~authorization~k8s~io/aggregate-to-view",
        "true",
    ),
    "the keys of tokens may be read": (
        {},
        f"ClusterRole/{TOKENS}: rules.1.nonResourceURLs",
        ["/.well-known/openid-configuration", "/openid/v1/jwks"],
    ),
    "an existing Secret is used": (
        {"tls": {"existingSecret": "mine"}},
        f"{POD}.volumes.1.secret.secretName",
        "mine",
    ),
    "and none is made then": ({"tls": {"existingSecret": "mine"}}, "Secret/lorafinetune-tls", None),
    "cert-manager makes the Secret that is mounted": (
        {"tls": {"certManager": {"issuerRef": {"name": "ours", "kind": "ClusterIssuer"}}}},
        "Certificate/lorafinetune: spec.secretName",
        "lorafinetune-tls",
    ),
    "by the issuer that you name": (
        {"tls": {"certManager": {"issuerRef": {"name": "ours", "kind": "ClusterIssuer"}}}},
        "Certificate/lorafinetune: spec.issuerRef",
        ISSUER,
    ),
    "and helm makes none then": (
        {"tls": {"certManager": {"issuerRef": {"name": "ours"}}}},
        "Secret/lorafinetune-tls",
        None,
    ),
    "Prometheus is told nothing": ({}, "ServiceMonitor/lorafinetune", None),
    "until you ask": (
        MONITORED,
        "ServiceMonitor/lorafinetune: spec.endpoints.0.interval",
        "30s",
    ),
    "a metric's namespace is that of the run": (
        MONITORED,
        "ServiceMonitor/lorafinetune: spec.endpoints.0.honorLabels",
        True,
    ),
    "and beside it stands whose metric it is": (
        MONITORED,
        "ServiceMonitor/lorafinetune: spec.endpoints.0.relabelings",
        [{"targetLabel": "operator", "replacement": f"{NAMESPACE}/lorafinetune"}],
    ),
    "nobody is alerted": (MONITORED, "PrometheusRule/lorafinetune", None),
    "until you ask for it": (
        ALERTED,
        "PrometheusRule/lorafinetune: spec.groups.3.rules.0.expr",
        f'absent(up{{operator="{NAMESPACE}/lorafinetune"}} == 1)',
    ),
    "an alert leads to where you say": (
        {
            **MONITORED,
            "prometheusRule": {"enabled": True, "runbooks": "https://git.example.com/operations.md"},
        },
        "PrometheusRule/lorafinetune: spec.groups.0.rules.0.annotations.runbook_url",
        "https://git.example.com/operations.md#lorafinetunestalled",
    ),
    "the operator may be evicted": ({}, "PodDisruptionBudget/lorafinetune: spec.maxUnavailable", 1),
    "one operator runs at a time": ({}, "Deployment/lorafinetune: spec.strategy.type", "Recreate"),
    "its priority is the one you give": (
        {"priorityClassName": "high"},
        f"{POD}.priorityClassName",
        "high",
    ),
    "so are its nodes": ({"nodeSelector": {"pool": "a"}}, f"{POD}.nodeSelector", {"pool": "a"}),
    "and the taints that it bears": (
        {"tolerations": [{"operator": "Exists"}]},
        f"{POD}.tolerations",
        [{"operator": "Exists"}],
    ),
    "and its affinity": ({"affinity": {"nodeAffinity": {}}}, f"{POD}.affinity", {"nodeAffinity": {}}),
}

REFUSED: Mapping[str, tuple[str, Values, str]] = {
    "a value that there is not": (OPERATOR, {"replicas": 2}, "additional properties 'replicas' not allowed"),
    "a misspelt name inside": (
        OPERATOR,
        {"watch": {"namespace": ["a"]}},
        "at '/watch': additional properties 'namespace' not allowed",
    ),
    "a namespace that can't be one": (
        OPERATOR,
        {"watch": {"namespaces": ["Team_A"]}},
        "at '/watch/namespaces/0': 'Team_A' does not match pattern",
    ),
    "a namespace twice": (
        OPERATOR,
        {"watch": {"namespaces": ["a", "a"]}},
        "at '/watch/namespaces': items at 0",
    ),
    "a string for a switch": (
        OPERATOR,
        {"crds": {"install": "no"}},
        "at '/crds/install': got string, want boolean",
    ),
    "a digest that is none": (
        OPERATOR,
        {"images": {"train": {"digest": "sha256:12"}}},
        "at '/images/train/digest': 'sha256:12' does not match pattern",
    ),
    "another form of log": (OPERATOR, {"logFormat": "xml"}, "at '/logFormat': value must be one of"),
    "a rotation that is a number": (
        OPERATOR,
        {"tls": {"rotation": 2}},
        "at '/tls/rotation': got number, want string",
    ),
    "two origins of a certificate": (
        OPERATOR,
        {"tls": {"existingSecret": "mine", "certManager": {"issuerRef": {"name": "ours"}}}},
        "tls: set existingSecret or certManager.issuerRef, not both",
    ),
    "a scraper that is shut out": (
        OPERATOR,
        {"serviceMonitor": {"enabled": True}},
        "serviceMonitor.enabled: name your Prometheus in networkPolicy.metricsFrom",
    ),
    "alerts about metrics that nobody scrapes": (
        OPERATOR,
        {"prometheusRule": {"enabled": True}},
        "prometheusRule.enabled: needs serviceMonitor.enabled",
    ),
    "an address of runbooks that is none": (
        OPERATOR,
        {"prometheusRule": {"runbooks": "a page"}},
        "at '/prometheusRule/runbooks': 'a page' does not match pattern",
    ),
    "a quantity of memory in words": (
        OPERATOR,
        {"resources": {"limits": {"memory": "much"}}},
        "at '/resources/limits/memory': 'much' does not match pattern",
    ),
    "a host with its scheme": (
        OPERATOR,
        {"admission": {"limits": {"hosts": ["https://huggingface.co"]}}},
        "at '/admission/limits/hosts/0': 'https://huggingface.co' does not match pattern",
    ),
    "a prefix that would end the text that it is put in": (
        OPERATOR,
        {"admission": {"limits": {"writePrefixes": ["s3://a'"]}}},
        "at '/admission/limits/writePrefixes/0'",
    ),
    "a tenant without a store": (TENANT, {}, "networkPolicy.store.to: name the object store"),
    "a host that is an address of a file": (
        OPERATOR,
        {"sources": {"httpsHosts": ["https://files.example.com/"]}},
        "at '/sources/httpsHosts/0': 'https://files.example.com/' does not match pattern",
    ),
    "a host that is a pattern": (
        OPERATOR,
        {"sources": {"httpsHosts": ["*.example.com"]}},
        "at '/sources/httpsHosts/0': '*.example.com' does not match pattern",
    ),
    "a key among the certificates": (
        OPERATOR,
        {"sources": {"certificates": CERTIFICATE.replace("CERTIFICATE", "PRIVATE KEY")}},
        "at '/sources/certificates': '-----BEGIN PRIVATE KEY-----",
    ),
    "a user of no known kind": (
        TENANT,
        {"users": {"edit": [{"kind": "Person", "name": "ann"}]}},
        "at '/users/edit/0/kind': value must be one of",
    ),
    "an address without a mask": (
        TENANT,
        {"networkPolicy": {"store": {"to": [{"ipBlock": {"cidr": "10.0.0.1"}}]}}},
        "at '/networkPolicy/store/to/0/ipBlock/cidr': '10.0.0.1' does not match pattern",
    ),
}

OPEN = {"networkPolicy": {"enabled": False}}
USE_TUNER = {
    "apiGroups": [""],
    "resources": ["serviceaccounts"],
    "resourceNames": ["tuner"],
    "verbs": ["use"],
}
TENANT_TABLE: Mapping[str, tuple[Values, str, Any]] = {
    "nothing may reach a stage": (
        {"networkPolicy": {"store": {"to": PROMETHEUS}}},
        "NetworkPolicy/lorafinetune-stages: spec.ingress",
        None,
    ),
    "stages reach the store at its ports": (
        {"networkPolicy": {"store": {"to": PROMETHEUS, "ports": [7070]}}},
        "NetworkPolicy/lorafinetune-stages: spec.egress.1",
        {"ports": [{"port": 7070}], "to": PROMETHEUS},
    ),
    "stages get no credentials from the node": (
        {"networkPolicy": {"store": {"to": PROMETHEUS}}},
        "NetworkPolicy/lorafinetune-stages: spec.egress.3",
        None,
    ),
    "unless you allow it": (
        {"networkPolicy": {"store": {"to": PROMETHEUS}, "podIdentity": True}},
        "NetworkPolicy/lorafinetune-stages: spec.egress.3.to.0.ipBlock.cidr",
        "169.254.170.23/32",
    ),
    "the operator is looked for where you say": (
        {"networkPolicy": {"store": {"to": PROMETHEUS}, "receiver": {"namespace": "ops"}}},
        "NetworkPolicy/lorafinetune-stages: spec.egress.2.to.0.namespaceSelector.matchLabels",
        {"kubernetes.io/metadata.name": "ops"},
    ),
    "policies can be left out": (OPEN, "NetworkPolicy/lorafinetune-stages", None),
    "nobody is bound": (OPEN, "RoleBinding/lorafinetune-edit", None),
    "but those that you name": (
        OPEN | {"users": {"edit": [ANN]}},
        "RoleBinding/lorafinetune-edit: subjects",
        [ANN | {"apiGroup": "rbac.authorization.k8s.io"}],
    ),
    "they may use the stages' account": (
        OPEN | {"users": {"edit": [ANN]}},
        "Role/lorafinetune-identity: rules",
        [USE_TUNER],
    ),
    "and the Secrets that you name": (
        OPEN | {"users": {"edit": [ANN]}, "secrets": ["s3"]},
        "Role/lorafinetune-identity: rules.1",
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["s3"], "verbs": ["get"]},
    ),
    "which is granted to them alone": (
        OPEN | {"users": {"edit": [ANN], "view": [{"kind": "User", "name": "bob"}]}},
        "RoleBinding/lorafinetune-identity: subjects",
        [ANN | {"apiGroup": "rbac.authorization.k8s.io"}],
    ),
    "an account is of the namespace itself": (
        OPEN | {"users": {"view": [{"kind": "ServiceAccount", "name": "bot"}]}},
        "RoleBinding/lorafinetune-view: subjects.0.namespace",
        NAMESPACE,
    ),
    "the identity bears what your cloud wants": (
        OPEN | {"serviceAccount": {"annotations": {"role": "arn"}}},
        "ServiceAccount/tuner: metadata.annotations",
        {"role": "arn"},
    ),
    "a quota can be more": (
        OPEN | {"quota": {"requests.nvidia.com/gpu": 32}},
        "ResourceQuota/lorafinetune-quota: spec.hard.requests~nvidia~com/gpu",
        32,
    ),
    "limits can be left out": (OPEN | {"limitRange": []}, "LimitRange/lorafinetune-limits", None),
}


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> list[Object]:
    return render(OPERATOR, VARIANTS[request.param])


@pytest.mark.parametrize("sentence", TABLE)
def test_operator(sentence: str) -> None:
    values, place, expected = TABLE[sentence]
    assert at(render(OPERATOR, values), place) == expected


@pytest.mark.parametrize("sentence", TENANT_TABLE)
def test_tenant(sentence: str) -> None:
    values, place, expected = TENANT_TABLE[sentence]
    assert at(render(TENANT, values), place) == expected


@pytest.mark.parametrize("sentence", REFUSED)
def test_refused(sentence: str) -> None:
    chart, values, message = REFUSED[sentence]
    with pytest.raises(CommandError) as refused:
        render(chart, values)
    assert message in str(refused.value)


def test_no_rule_reaches_too_far(variant: list[Object]) -> None:
    for role, rule in rules(variant):
        for what in ("apiGroups", "resources", "verbs"):
            assert "*" not in rule.get(what, ()), role
        assert "secrets" not in rule.get("resources", ()), role


def test_a_source_without_an_endpoint_is_judged_by_where_stages_look_for_it() -> None:
    servers = at(render(OPERATOR, {"admission": {"limits": LIMITS}}), f"{POLICY}: spec.variables.3")
    assert servers["name"] == "servers"
    for scheme, endpoint in PUBLIC_ENDPOINTS.items():
        assert f"'{scheme}': '{endpoint}'" in servers["expression"]


def test_every_binding_binds_the_operator_to_a_role_that_is_there(variant: list[Object]) -> None:
    there = {(name_of(one), one["metadata"].get("namespace")) for one in variant}
    account = {"kind": "ServiceAccount", "name": "lorafinetune", "namespace": NAMESPACE}
    for binding in (one for one in variant if "roleRef" in one):
        role = f"{binding['roleRef']['kind']}/{binding['roleRef']['name']}"
        assert (role, binding["metadata"].get("namespace")) in there
        assert binding["subjects"] == [account]


def test_everything_says_whose_it_is(variant: list[Object]) -> None:
    for one in variant:
        assert one["metadata"]["labels"]["app.kubernetes.io/instance"] == "lorafinetune", name_of(one)


def test_for_some_namespaces_nothing_is_granted_in_the_whole_cluster_but_to_check_tokens() -> None:
    objects = render(OPERATOR, {"crds": {"install": False}, **TENANT_A})
    wide = {name_of(one) for one in objects if one["kind"].startswith("Cluster")}
    assert wide == {f"ClusterRole/{TOKENS}", f"ClusterRoleBinding/{TOKENS}"}


def test_for_some_namespaces_and_without_progress_a_namespace_s_administrator_can_install() -> None:
    objects = render(OPERATOR, {"crds": {"install": False}, "progress": {"enabled": False}, **TENANT_A})
    assert {one["metadata"].get("namespace") for one in objects} == {NAMESPACE, "team-a"}


def test_the_alerts_of_an_operator_ask_for_its_own_metrics() -> None:
    objects = render(OPERATOR, ALERTED, release="prod", namespace="ml")
    groups = at(objects, "PrometheusRule/prod-lorafinetune: spec.groups")
    asked = [rule["expr"] for group in groups for rule in group["rules"]]
    assert all('operator="ml/prod-lorafinetune"' in each and NAMESPACE not in each for each in asked)


@pytest.mark.parametrize("release", ["lorafinetune", "prod", "lorafinetune-" + "x" * 40, "r" * 53])
def test_names_are_good_for_any_release(release: str) -> None:
    objects = render(OPERATOR, release=release)
    names = {one["metadata"]["name"] for one in objects if one["kind"] in ("Service", "Deployment", "Secret")}
    assert all(len(name) <= 63 and not name.endswith("-") for name in names), names
