"""An optimizer step whose rows come to the trainer as one batch: this rank takes its share in passes."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorafinetune_stages.train.process_group import ProcessGroup

Batch = dict[str, Any]


class SharedSteps:
    """For a trainer of transformers. What it would ask the device for in every step, it is told: the device
    never waits for the answer."""

    model: Any
    args: Any
    state: Any
    accelerator: Any
    _prepare_inputs: Any
    _save_rng_state: Any

    def __init__(self, group: ProcessGroup, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._group = group
        self._trained = [each for each in self.model.parameters() if each.requires_grad]

    def pass_loss(self, model: Any, inputs: Batch, learned: int) -> Tensor:
        """The part of a pass in the loss of its step. learned: tokens in the step, over all ranks."""
        raise NotImplementedError

    def training_step(self, model: Any, inputs: Batch, num_items_in_batch: Any = None) -> Tensor:
        """Returns the loss per learned token of the step, over all ranks."""
        if not model.training:
            model.train()
        total = torch.zeros((), device=self.args.device)
        passes = self._prepare_inputs(inputs)["passes"]
        own = len(passes) - inputs["idle"]
        for place, each in enumerate(passes):
            loss = self.pass_loss(model, each, max(inputs["learned"], 1))
            loss = loss if place < own else 0 * loss
            self.accelerator.backward(loss)
            total += loss.detach()
        return self._group.sum_gradients(self._trained, total)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        if self._group.is_main:
            super().save_model(output_dir, _internal_call)  # type: ignore[misc]  # the trainer's

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Of a rank that only follows nothing differs but its random numbers."""
        if self._group.is_main:
            super()._save_checkpoint(model, trial)  # type: ignore[misc]  # the trainer's
            return
        directory = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        directory.mkdir(parents=True)
        self._save_rng_state(str(directory))

    def floating_point_ops(self, inputs: Batch) -> int:
        return 0

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: torch.device) -> None:
        """Each batch brings its own."""

    def _track_num_input_tokens(self, inputs: Batch) -> None:
        self.state.num_input_tokens_seen += inputs["tokens"]
