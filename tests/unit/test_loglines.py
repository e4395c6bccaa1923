"""Each line of a log says about which run and stage it is, and what it says stays one line."""

import json
import logging
import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from builders import resource
from lorafinetune.contract.arguments import MESSAGE_VARIABLE
from lorafinetune.contract.loglines import LOG_ABOUT, LOG_FORMAT, JsonFormatter, about_run
from lorafinetune.core.jobs import Settings
from lorafinetune.core.logtail import log_tail
from unit.test_jobs import make

RUN = {"namespace": "team-a", "resource": "tune", "uid": "uid-1"}
AT = datetime(2026, 1, 31, 12, tzinfo=UTC)


def record(message: str, **fields: str) -> logging.LogRecord:
    made = logging.LogRecord("logger", logging.INFO, "", 0, message, (), None)
    made.__dict__.update(fields, created=AT.timestamp())
    return made


LINES: dict[str, tuple[dict[str, str], dict[str, str], dict[str, str]]] = {
    "a line about nothing": ({}, {}, {}),
    "a line about a run": ({}, RUN, RUN),
    "a line about a stage": ({}, RUN | {"stage": "train"}, RUN | {"stage": "train"}),
    "every line of a stage": (about_run("team-a/tune/uid-1", "export"), {}, RUN | {"stage": "export"}),
    "a stage that is not told its run": (about_run("", "export"), {}, {"stage": "export"}),
    "a line that knows better": (RUN, {"resource": "other"}, RUN | {"resource": "other"}),
}


@pytest.mark.parametrize("sentence", LINES)
def test_a_line_of_json_has_the_fields_of(sentence: str) -> None:
    always, own, fields = LINES[sentence]
    line = JsonFormatter(always).format(record("two\nlines: €", **own))
    assert "\n" not in line
    told = {"time": "2026-01-31T12:00:00.000Z", "level": "INFO", "logger": "logger"}
    assert json.loads(line) == told | fields | {"message": "two\nlines: €"}


def variables(job: dict[str, Any]) -> dict[str, str]:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return {each["name"]: each.get("value", "") for each in container["env"]}


def test_a_stage_logs_as_the_operator_does() -> None:
    given = variables(make("train", {}, settings=Settings(log_format="json")))
    meta = resource().metadata
    assert given[LOG_FORMAT] == "json"
    assert given[LOG_ABOUT] == f"{meta.namespace}/{meta.name}/{meta.uid}"
    assert LOG_FORMAT not in variables(make("train", {}))


@pytest.mark.parametrize("form", ["json", "text"])
def test_the_program_of_a_stage_logs_so(form: str, tmp_path: Any) -> None:
    environment = {LOG_FORMAT: form, LOG_ABOUT: "team-a/tune/uid-1"}
    environment[MESSAGE_VARIABLE] = str(tmp_path / "message")
    ended = subprocess.run(
        [sys.executable, "-m", "lorafinetune_stages", "download"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 64
    (line,) = ended.stderr.splitlines()
    said = "ConfigInvalid: the variable LORAFINETUNE_ARGUMENTS is not set"
    if form == "text":
        assert line.endswith(f" ERROR lorafinetune: {said}")
    else:
        told = json.loads(line)
        assert (told["level"], told["message"]) == ("ERROR", said)
        assert {name: told.get(name) for name in RUN} == RUN
        assert told["stage"] == "download"


TAILS: dict[str, tuple[str, str]] = {
    "a line of ours": ('{"level": "INFO", "message": "reading"}', "INFO reading"),
    "a line of ours with its time": (
        '{"time": "2026-01-31T12:00:00.000Z", "level": "INFO", "uid": "u", "message": "a\\nb"}',
        "2026-01-31T12:00:00.000Z INFO a\nb",
    ),
    "a traceback": (
        '{"level": "ERROR", "message": "the stage failed", "exception": "Traceback\\nKeyError: 1"}',
        "ERROR the stage failed\nTraceback\nKeyError: 1",
    ),
    "a secret in it": ('{"level": "INFO", "message": "token=abcdefgh"}', "INFO token=[redacted]"),
    "another object": ('{"step": 3}', '{"step": 3}'),
    "half a line": ('{"level": "INFO", "mess', '{"level": "INFO", "mess'),
    "something else": ("Segmentation fault", "Segmentation fault"),
}


@pytest.mark.parametrize("sentence", TAILS)
def test_the_end_of_a_log_is_told_without_its_fields(sentence: str) -> None:
    line, told = TAILS[sentence]
    assert log_tail(f"{line}\n") == told
