"""The benchmark of the training, on a tiny model and the CPU: the same code as on a card."""

import json
from pathlib import Path

import pytest

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]

ROOT = Path(__file__).parents[2]
BOUND_SECONDS = 240


def test_the_benchmark_trains_and_tells_what_it_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.train import cases, site
    from bench.train.__main__ import finish, start

    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    data = tmp_path / "conversations.json"
    data.write_text(json.dumps(json.loads(site_data().read_text())[:40]))
    made = site.make(tmp_path, site.TINY, data, gpus=0)
    found = [finish(start(made, "TINY", number), 1e9, BOUND_SECONDS) for number in range(len(cases.TINY))]
    rows = [row for row in found if row]
    assert [row["settings"] for row in rows] == [case.name for case in cases.TINY]
    for row in rows:
        assert min(float(row[name]) for name in ("tokens/s", "step ms", "% of sustained", "load s")) > 0
    packed, together, _, padded = (row["loss at step 4"] for row in rows)
    assert packed == pytest.approx(padded, rel=1e-2)
    assert packed == pytest.approx(together, rel=1e-3)
    assert packed == pytest.approx(8.0, rel=0.05)  # of 3,000 words, none is known: ln 3000


def test_gradients_in_bf16_agree_packed_or_not() -> None:
    from bench.train.card import gradient_error

    assert 0 < gradient_error(gpus=0) < 1e-2


def site_data() -> Path:
    from bench.train.__main__ import DATA

    return DATA
