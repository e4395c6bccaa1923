"""transformers' own client of Kubeflow's progress protocol, in a real training, posts to our receiver."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lorafinetune.shell.receiver import rate
from shell.issuing import token
from shell.site import Site

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]

STEPS = 4


def train(folder: Path) -> None:
    """A few steps of transformers' trainer, with a model of one number."""
    import torch
    from transformers import Trainer, TrainingArguments

    class Line(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.slope = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x: Any, labels: Any) -> dict[str, Any]:
            return {"loss": ((self.slope * x - labels) ** 2).mean()}

    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=1,
        logging_steps=1,
        save_strategy="no",
        report_to=["kubeflow"],
        use_cpu=True,
        disable_tqdm=True,
    )
    rows = [{"x": float(number), "labels": 2.0 * number} for number in range(STEPS)]
    Trainer(model=Line(), args=arguments, train_dataset=rows).train()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The variables that Kubeflow sets lead to our receiver."""
    (tmp_path / "token").write_text(token())
    with Site(tmp_path) as served:
        monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_URL", served.url)
        monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_CA_CERT", str(tmp_path / "ca.crt"))
        monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_TOKEN", str(tmp_path / "token"))
        yield served


def test_what_kubeflows_client_says_is_understood(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.integrations import integration_utils

    monkeypatch.setattr(integration_utils.KubeflowCallback, "_MIN_UPDATE_INTERVAL", 0)
    monkeypatch.setattr(rate, "BURST", 3 * STEPS)
    train(tmp_path / "out")
    said = [(progress.done, progress.total, progress.unit) for _, _, progress in site.taken]
    assert said == [(step, STEPS, "steps") for step in range(STEPS + 1)] + [(100, 100, "percent")]
    losses = [progress.training.loss for _, _, progress in site.taken if progress.training]
    assert losses[0] is None
    assert losses[-1] is not None


def test_kubeflows_client_hears_whether_its_post_was_taken(site: Site) -> None:
    from transformers.integrations import integration_utils

    client = integration_utils.KubeflowCallback()
    assert client._update_status(progress_percent=42, force=True)
    site.pods.clear()
    assert not client._update_status(progress_percent=43, force=True)
