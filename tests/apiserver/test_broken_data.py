"""A stranger with a broken file, who looks at the resource alone, finds the broken line.

The Jobs are the operator's, and their programs run for real on what the Pod gives them, beside a directory
that stands in for S3; only the kubelet is the test.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from apiserver.operating import Namespace, Object
from local.runs import least_model
from lorafinetune.api.status import StageName
from lorafinetune.contract.arguments import MESSAGE_VARIABLE, STORE_DIRECTORY_VARIABLE, WORKDIR_VARIABLE
from lorafinetune.contract.outcome import Result, StageError, decode_message

MARK = "BROKEN"
"""Stands in the row that is broken, and in no other."""
GOOD = [
    {"instruction": f"What is {number}?", "input": "", "output": f"It is\n{number}."} for number in range(90)
]
UNANSWERED = {"instruction": MARK, "input": "", "output": " "}
SPEC = {
    "connections": None,
    "model": {"source": "s3://samples/tiny", "connection": None, "template": "smollm2"},
    "storage": {"uri": "s3://runs/test", "connection": None},
}


def lines(*rows: Mapping[str, Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def listed(*rows: Mapping[str, Any]) -> bytes:
    return json.dumps(rows, indent=2).encode()


def csv(*answers: str) -> bytes:
    rows = [f'"{row["instruction"]}","{row["output"]}"\r\n' for row in GOOD[:40]]
    return "".join(["instruction,output\r\n", *rows, *answers, *rows]).encode()


def parquet(*rows: Mapping[str, Any]) -> bytes:
    sink = BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), sink)
    return sink.getvalue()


FILES: dict[str, tuple[str, bytes]] = {
    "an answer that is empty, in JSON Lines": ("rows.jsonl", lines(*GOOD, UNANSWERED, *GOOD)),
    "a line that is cut": (
        "rows.jsonl",
        lines(*GOOD) + f'{{"instruction": "{MARK}", "outp\n'.encode() + lines(*GOOD),
    ),
    "a line in Latin-1": (
        "rows.jsonl",
        lines(*GOOD) + f'{{"instruction": "{MARK} é", "output": "a"}}\n'.encode("latin-1"),
    ),
    "an answer that is empty, in a list": ("rows.json", listed(*GOOD, UNANSWERED, *GOOD)),
    "a list without a comma": ("rows.json", listed(*GOOD)[:-2] + f' {{"instruction": "{MARK}"}}]'.encode()),
    "a cell too few, in CSV": ("rows.csv", csv(f"{MARK}\r\n")),
    "an answer that is empty, in CSV": ("rows.csv", csv(f'{MARK},""\r\n')),
    "an answer that is empty, in Parquet": ("rows.parquet", parquet(*GOOD, UNANSWERED, *GOOD)),
}


@pytest.mark.parametrize("sentence", FILES)
def test_from_the_resource_alone_one_finds(sentence: str, runs: Namespace, tmp_path: Path) -> None:
    name, content = FILES[sentence]
    run = f"stranger-{[*FILES].index(sentence)}"
    samples = tmp_path / "store" / "samples"
    least_model(samples / "tiny")
    (samples / run).mkdir()
    (samples / run / "another.jsonl").write_bytes(lines(*GOOD))
    (samples / run / name).write_bytes(content)
    (tmp_path / "store" / "runs").mkdir()
    runs.apply(run, {**SPEC, "datasets": [{"source": f"s3://samples/{run}/", "format": "alpaca"}]})
    stages: tuple[StageName, ...] = ("download", "prepare")
    for stage in stages:
        pod = runs.pod(runs.job(run, stage))
        runs.end(pod, ended(pod, stage, tmp_path))
    runs.until(run, "Failed", "DatasetInvalid")
    told = yaml.safe_dump(runs.get(run)["status"], allow_unicode=True, width=10_000)
    assert MARK in pointed_at(told, samples / run)
    assert not runs.jobs_of(run, "train")


def ended(pod: Object, stage: StageName, folder: Path) -> Result | StageError:
    """Runs the program of the Pod's container with its variables."""
    (container,) = pod["spec"]["containers"]
    message = folder / f"{stage}.json"
    variables = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    here = {
        STORE_DIRECTORY_VARIABLE: str(folder / "store"),
        WORKDIR_VARIABLE: str(folder),
        MESSAGE_VARIABLE: str(message),
    }
    command = [sys.executable, "-m", "lorafinetune_stages", *container["args"]]
    subprocess.run(command, env=os.environ | variables | here, check=False, timeout=60)
    outcome = decode_message(stage, message.read_text())
    assert outcome is not None
    return outcome


PLACE = re.compile(r"(rows\.\w+)(?:\[(?P<index>\d+)\])?(?::(?P<line>\d+)| \(line (?P<of_row>\d+)\))?")


def pointed_at(told: str, folder: Path) -> str:
    """What stands at the first place that is named, in the eyes of somebody with an editor."""
    found = PLACE.search(told)
    assert found, told
    path = folder / found[1]
    if path.suffix == ".parquet":
        return str(pq.read_table(path).to_pylist()[int(found["index"])])
    if path.suffix == ".json" and found["index"]:
        first = int(found["of_row"]) - 1
        return "\n".join(path.read_text().split("\n")[first : first + 5])
    return path.read_text(errors="replace").replace("\r\n", "\n").split("\n")[int(found["line"]) - 1]
