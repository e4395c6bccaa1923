"""The benchmark of the training, on a tiny model and the CPU: the same code as on a card."""

import json
from pathlib import Path

import pytest

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]

ROOT = Path(__file__).parents[2]


def test_the_benchmark_trains_and_tells_what_it_took(tmp_path: Path) -> None:
    from bench.train import cases, site
    from bench.train.card import sustained_flops
    from bench.train.measure import run

    data = tmp_path / "conversations.json"
    data.write_text(json.dumps(json.loads(site_data().read_text())[:40]))
    made = site.make(tmp_path, site.TINY, data, gpus=0)
    rows = [run(case, made, sustained_flops(0, seconds=0.1)) for case in cases.TINY]
    assert [row["settings"] for row in rows] == [case.name for case in cases.TINY]
    for row in rows:
        assert min(float(row[name]) for name in ("tokens/s", "step ms", "% of sustained", "load s")) > 0
    packed, padded = (row["loss at step 4"] for row in rows)
    assert packed == pytest.approx(padded, rel=1e-2)
    assert packed == pytest.approx(8.0, rel=0.05)  # of 3,000 words, none is known: ln 3000


def test_gradients_in_bf16_agree_packed_or_not() -> None:
    from bench.train.card import gradient_error

    assert 0 < gradient_error(gpus=0) < 1e-2


def site_data() -> Path:
    from bench.train.__main__ import DATA

    return DATA
