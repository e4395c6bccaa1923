"""A share of the matrix of the stages, of one seed: each run ends as if nothing had gone wrong.

`make faults` tries the whole; what it came to is in docs/reliability.md.
"""

import asyncio
import re
from pathlib import Path
from typing import Final

import pytest

from faults import stages
from faults.outcome import SEED

WRITTEN: Final = {
    "a checkpoint of the last step": "PUT .*/checkpoints/6/",
    "the end of a checkpoint that is too old": "DELETE .*/checkpoints/",
    "an adapter that is the best so far": "PUT .*/best/",
    "the end of one that is not the best any more": "DELETE .*/best/",
    "what held-out rows cost the base": "PUT .*/evaluations/.*/manifest.json",
    "what each of them costs": "PUT .*/held_out.json",
    "what is answered to them": "PUT .*/answers.json",
}
SHARES: Final = {"download": 0.05, "prepare": 0.03, "train": 0.015, "export": 0.04}


@pytest.mark.s3
@pytest.mark.parametrize("stage", SHARES)
def test_a_fault_at_a_write_leaves_no_trace(stage: str, tmp_path: Path) -> None:
    outcome = stages.matrix_of(stage, tmp_path, SHARES[stage], SEED)
    assert outcome.rows
    assert not outcome.complaints


@pytest.mark.s3
def test_a_training_without_a_fault_writes_all_that_can_be_harmed(tmp_path: Path) -> None:
    async def writes(site: stages.Site) -> list[str]:
        async with site.proxy.serving():
            return (await site.run(0))[1].writes

    with stages.site_of("train", tmp_path) as site:
        written = asyncio.run(writes(site))
    assert [what for what, name in WRITTEN.items() if not any(re.match(name, each) for each in written)] == []
