"""`PYTHONPATH=tests python -m chart.renew` writes what is made from the charts: snapshots and their page.

A diff of a snapshot shows in a review what a change of a template does to a cluster.
"""

from pathlib import Path

import yaml

from chart.helm import CHARTS, OPERATOR, TENANT, Object, render
from cluster.build import binary
from cluster.process import run

HERE = Path(__file__).parent
PAGE = CHARTS.parent / "docs" / "reference" / "chart.md"
TITLE = """# Values of the charts

`lorafinetune` is installed once in a cluster, `lorafinetune-tenant` once in each namespace that fine-tunes:
[how](../how-to/install.md). Values are checked: a name that is not here, or a value of the wrong form, is
refused.

"""


def made() -> dict[Path, str]:
    """Every file that is made from the charts, with its content."""
    snapshots = {HERE / "snapshots" / f"{chart}.yaml": _snapshot(chart) for chart in (OPERATOR, TENANT)}
    return snapshots | {PAGE: TITLE + "".join(map(_section, (OPERATOR, TENANT)))}


def _snapshot(chart: str) -> str:
    objects = [one for one in render(chart) if one["kind"] != "CustomResourceDefinition"]
    return yaml.safe_dump_all(map(_without_secrets, objects), sort_keys=False)


def _without_secrets(found: Object) -> Object:
    """A certificate is another one every time."""
    if found["kind"] != "Secret":
        return found
    return found | {"data": dict.fromkeys(found["data"], "made by helm")}


def _section(chart: str) -> str:
    """helm-docs prints several charts in whatever order they come."""
    return run(
        str(binary("helm-docs")),
        f"--chart-search-root={CHARTS / chart}",
        f"--template-files={HERE / 'reference.gotmpl'}",
        "--sort-values-order=file",
        "--dry-run",
    )


if __name__ == "__main__":
    for file, content in made().items():
        file.write_text(content)
