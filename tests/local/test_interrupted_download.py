"""A download that breaks off under `lorafinetune run`: it goes on, or says so and goes on the next time."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hubs.huggingface import HuggingFaceHub
from hubs.repository import Hub, Repository
from hubs.server import cut_after
from local.runs import Desk, desk

WEIGHTS = "model.safetensors"


@pytest.fixture
def tuning(tmp_path: Path) -> Desk:
    """A resource that tunes a model of a hub; nothing is trained for long."""
    return desk(tmp_path)


@pytest.fixture
def hub(tuning: Desk) -> Iterator[Hub]:
    """A hub with the model, which the resource names."""
    files = {file.name: file.read_bytes() for file in (tuning.samples / "tiny").iterdir()}
    with HuggingFaceHub({"models/owner/tiny": Repository(files)}) as server:
        tuning.edit(
            {
                "connections": [{"name": "hub", "endpoint": server.url}],
                "model": {"source": "hf://owner/tiny", "connection": "hub"},
                "training": {"maxSteps": 2},
                "maxRetries": 0,
            }
        )
        yield server


@pytest.mark.model
def test_a_connection_that_is_cut_costs_nothing_but_the_wait(tuning: Desk, hub: Hub) -> None:
    hub.fail(WEIGHTS, cut_after(1000))
    ended, out = tuning.finish()
    assert (ended, "complete" in out) == (0, True), out
    assert [asked.headers.get("Range") for asked in hub.asked(WEIGHTS)] == [None, "bytes=1000-"]


def test_a_hub_that_keeps_breaking_off_is_named_and_the_next_run_gets_it_all(tuning: Desk, hub: Hub) -> None:
    hub.fail(WEIGHTS, *[cut_after(10)] * 5)
    ended, out = tuning.finish()
    assert re.search(r"^download failed: HubUnavailable: .*hf://owner/tiny.*can't be", out, re.MULTILINE), out
    assert re.search(r"^hint: .{10,}$", out, re.MULTILINE)
    assert (ended, "Traceback" in out) == (75, False)

    tuning.edit(
        {
            "connections": [{"name": "hub", "endpoint": hub.url}],
            "model": {"source": "hf://owner/tiny", "connection": "hub", "template": "glm4"},
        }
    )
    ended, out = tuning.finish()
    assert "download is complete" in out
    assert re.search(r"^prepare failed: TemplateMismatch: ", out, re.MULTILINE), out
