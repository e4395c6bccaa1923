"""What one life of a run may cost the API server: the budget, and how the calls are counted."""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

BUDGET: Final[Mapping[str, int]] = {
    "create jobs": 4,
    "update lorafinetunes/status": 5,
    "create events": 10,
}
"""Of a run whose four Jobs end well, without its progress: one Job a stage, a status for each Job made and
one for the end, and an Event for each beginning and each end, and for a revision that can move."""
METRIC: Final = "lorafinetune_api_calls_total"


def calls(metrics: str) -> Counter[str]:
    """What an operator asked of the API server so far, in the words of RBAC, without its watches."""
    families = text_string_to_metric_families(metrics)
    told: Counter[str] = Counter()
    for sample in (sample for family in families for sample in family.samples if sample.name == METRIC):
        if sample.labels["verb"] != "watch":
            told[f"{sample.labels['verb']} {sample.labels['resource']}"] += int(sample.value)
    return told
