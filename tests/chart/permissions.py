"""What the operator's account may do: the whole list."""

from typing import Final

from chart.site import Permission

READ: Final = ("get", "list", "watch")
HANDED_OVER: Final = ("create", "delete", "get", "patch")
SERVED: Final[set[Permission]] = {
    *((verb, "lorafinetune.dev", "lorafinetunes") for verb in READ),
    ("update", "lorafinetune.dev", "lorafinetunes/status"),
    ("update", "lorafinetune.dev", "lorafinetunes/finalizers"),
    *((verb, "batch", "jobs") for verb in (*READ, "create", "delete", "patch")),
    *((verb, "", "pods") for verb in ("list", "watch")),
    *((verb, "", "services") for verb in ("create", "get")),
    *((verb, "", "configmaps") for verb in HANDED_OVER),
    *((verb, "", "events") for verb in ("create", "watch")),
}
"""In the namespaces that it serves."""
EVERYWHERE: Final[set[Permission]] = {("create", "authentication.k8s.io", "tokenreviews")}
SELDOM: Final[set[Permission]] = {
    ("get", "lorafinetune.dev", "lorafinetunes"),
    ("get", "batch", "jobs"),
    ("create", "", "services"),
    ("get", "", "services"),
    *((verb, "", "configmaps") for verb in HANDED_OVER),
    ("update", "lorafinetune.dev", "lorafinetunes/finalizers"),
}
"""What a plain run does not need: the first two where somebody else was faster, Services where a training has
several nodes, ConfigMaps where a run asks for one, the last where the API server has the admission plugin
OwnerReferencesPermissionEnforcement."""
