"""Values of the operator's chart that lead to every template, and to every branch in one."""

from collections.abc import Mapping

from chart.helm import Values

ANN = {"kind": "User", "name": "ann"}
PROMETHEUS = [{"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}]
MONITORED: Values = {"serviceMonitor": {"enabled": True}, "networkPolicy": {"metricsFrom": PROMETHEUS}}
ALERTED: Values = {**MONITORED, "prometheusRule": {"enabled": True}}
TENANT_A = {"watch": {"namespaces": ["team-a"]}}
LIMITS: Values = {
    "hosts": ["huggingface.co", "storage.svc"],
    "writePrefixes": ["s3://finetunes/$(namespace)", "hf://our-team"],
    "gpus": 0,
    "priorityClasses": ["low", "batch.team"],
    "activeDeadlineSeconds": 86400,
}

VARIANTS: Mapping[str, Values] = {
    "as it is": {},
    "for two namespaces": {"watch": {"namespaces": ["team-a", "team-b"]}},
    "beside another": {"crds": {"install": False}, **TENANT_A},
    "without progress": {"progress": {"enabled": False}},
    "without admission": {"admission": {"enabled": False}},
    "with cert-manager": {"tls": {"certManager": {"issuerRef": {"name": "ours"}}}},
    "with everything": {
        "admission": {"limits": LIMITS},
        "networkPolicy": {"metricsFrom": PROMETHEUS},
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
        "dashboard": {"enabled": True},
        "images": {"registry": "registry.example.com/ml", "pullSecrets": [{"name": "pull"}]},
        "priorityClassName": "high",
        "nodeSelector": {"pool": "system"},
        "tolerations": [{"key": "system", "operator": "Exists"}],
    },
}
