"""The ranks of one training, as each of them sees the others.

Every rank goes through the same steps with the same rows, computes its share of each, and the gradients are
added up over the ranks. So nothing is averaged or repeated: the sum is what one rank would have computed. The
libraries know nothing of it: to them each rank is a training on one device.

What ranks agree on goes by the processor, so that a device never waits for it.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeVar

import torch
import torch.distributed as dist
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.train.rank_spec import TCP, RankSpec
from lorafinetune_stages.train.wire_format import MAX_GATHERED_BYTES

T = TypeVar("T")

PATIENCE: Final = timedelta(minutes=30)
"""How long a rank waits for another, which may be saving a checkpoint."""
LOOPBACK: Final = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
"""Where all ranks are in one pod, its network is none of their business."""


@dataclass(frozen=True)
class ProcessGroup:
    """rank: of this process among `size`. first: of the first rank on its node."""

    rank: int = 0
    size: int = 1
    first: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this is the one rank that writes."""
        return self.rank == 0

    @property
    def is_first_of_node(self) -> bool:
        """Whether this is the one rank of its node that fetches what all on it share."""
        return self.rank == self.first

    def any(self, flag: bool) -> bool:
        """Whether it is so on any rank."""
        return self.total([flag])[0] > 0

    def total(self, numbers: Sequence[float]) -> list[float]:
        """Of each number, the sum over the ranks."""
        return self._agree(numbers, dist.ReduceOp.SUM)

    def least(self, number: float) -> float:
        return self._agree([number], dist.ReduceOp.MIN)[0]

    def gather(self, value: T, form: TypeAdapter[T]) -> list[T]:
        """The values of all ranks, in their order. form: what a value may be."""
        if self.size == 1:
            return [value]
        gathered = self._gather_bytes(form.dump_json(value, by_alias=True))
        try:
            return [form.validate_json(each) for each in gathered]
        except ValidationError as problem:
            raise _not_understood("something else than was asked") from problem

    def broadcast(self, value: T, form: TypeAdapter[T]) -> T:
        """The value of the rank that leads."""
        return self.gather(value, form)[0]

    def barrier(self) -> None:
        """Until all have come here."""
        self.any(False)

    def broadcast_in_node(self, value: T, form: TypeAdapter[T]) -> T:
        """The value of the first rank on this node."""
        return self.gather(value, form)[self.first]

    def broadcast_parameters(self, parameters: Sequence[Tensor]) -> None:
        """Gives the parameters that are trained the values of the rank that leads."""
        if self.size == 1:
            return
        with _answering(), torch.no_grad():
            for parameter in parameters:
                dist.broadcast(parameter, 0)

    def sum_gradients(self, parameters: Sequence[Tensor], loss: Tensor) -> Tensor:
        """Makes of each gradient the sum over the ranks, and returns that of the losses. A rank without a
        share of a step has no gradients."""
        if self.size == 1:
            return loss
        gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in parameters]
        flat = torch.cat([each.flatten() for each in (*gradients, loss)])
        with _answering():
            dist.all_reduce(flat)
        *summed, total = torch.split(flat, [*(each.numel() for each in parameters), 1])
        for parameter, part in zip(parameters, summed, strict=True):
            parameter.grad = part.view_as(parameter)
        return total[0]

    def _gather_bytes(self, own: bytes) -> list[bytes]:
        sizes = torch.zeros(self.size, dtype=torch.int64)
        sizes[self.rank] = len(own)
        with _answering():
            dist.all_reduce(sizes)
        longest = int(sizes.max())
        if longest > MAX_GATHERED_BYTES or int(sizes.min()) < 0:
            raise _not_understood(f"more than {MAX_GATHERED_BYTES} bytes at a time")
        sent = torch.frombuffer(bytearray(own.ljust(longest)), dtype=torch.uint8)
        found = [torch.empty_like(sent) for _ in range(self.size)]
        with _answering():
            dist.all_gather(found, sent)
        return [each.numpy().tobytes() for each in found]

    def _agree(self, numbers: Sequence[float], how: Any) -> list[float]:
        if self.size == 1:
            return list(numbers)
        values = torch.tensor(numbers, dtype=torch.float64)
        with _answering():
            dist.all_reduce(values, how)
        found: list[float] = values.tolist()
        return found


ALONE: Final = ProcessGroup()


def connect(spec: RankSpec, gpus: int) -> ProcessGroup:
    """Waits for all ranks. gpus: 0 for the CPU."""
    for name, value in LOOPBACK.items() if spec.is_on_one_node else ():
        os.environ.setdefault(name, value)
    # It would advise to leave the work to torch's own launcher.
    logging.getLogger("transformers.training_args").setLevel(logging.ERROR)
    with _answering():
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if gpus else "gloo",
            store=_store(spec),
            rank=spec.rank,
            world_size=spec.world_size,
            timeout=PATIENCE,
        )
        if gpus:  # NCCL takes its memory now, before it is asked how much there is
            dist.all_reduce(torch.zeros(1, device="cuda"))
            torch.cuda.synchronize()
    return ProcessGroup(spec.rank, spec.world_size, spec.first_of_node)


def _store(spec: RankSpec) -> Any:
    if spec.is_on_one_node:
        return dist.FileStore(spec.rendezvous, spec.world_size)  # type: ignore[attr-defined]  # torch does not say so
    host, _, port = spec.rendezvous.removeprefix(TCP).rpartition(":")
    return dist.TCPStore(host, int(port), spec.world_size, spec.rank == 0, PATIENCE)  # type: ignore[attr-defined]


def disconnect() -> None:
    """The ranks have no more to say to each other."""
    dist.destroy_process_group()


def _not_understood(what: str) -> StageError:
    return StageError(Reason.RANK_LOST, f"another rank of the training says {what}")


@contextmanager
def _answering() -> Iterator[None]:
    """What the libraries say of a rank that does not answer is a word of theirs, not of a bug."""
    try:
        yield
    except RuntimeError as problem:
        message = f"another rank of the training does not answer: {problem}"[:300]
        raise StageError(Reason.RANK_LOST, message) from problem
