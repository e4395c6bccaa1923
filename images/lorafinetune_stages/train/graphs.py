"""The layers of a pass as two CUDA graphs, one forward and one backward.

With 8-bit products a card finishes the kernels of a usual step faster than Python launches them, some five
thousand. A graph is launched by one call. It is of one length, and made when the first pass of that length
comes. The first pass of all runs without. All graphs share their memory, since a pass is done before another
begins.
"""

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

log = logging.getLogger(__name__)

DOCUMENTS: Final = 8
"""The number of conversations in a graph is one of it; those that are missing are empty."""
MOST: Final = 64
"""Graphs at a time. To make one takes about as long as two passes."""
COMPILED: Final = 2
"""Layers that are compiled apart: the first has inputs without a gradient, and all others are alike."""

Key = tuple[int, int]
"""Tokens and bounds."""


def run_layers(base: Any, pack: Mapping[str, Any]) -> Tensor:
    """What the layers make of a pack: [tokens, width]. base: the causal model."""
    inputs = {name: value for name, value in pack.items() if name not in ("sources", "targets")}
    states: Tensor = base.model(**inputs, use_cache=False).last_hidden_state[0]
    return states


@dataclass
class Capture:
    """What became of it: for whoever writes the lineage. is_done: of any length. is_possible: False once it
    has failed, after which no layer is launched as a graph."""

    is_done: bool = False
    is_possible: bool = True

    @property
    def is_used(self) -> bool:
        return self.is_done and self.is_possible


@dataclass(frozen=True)
class _Graph:
    """What is replayed, and where on the card it reads and writes. outer: the gradient by `hidden`."""

    inputs: Mapping[str, Tensor]
    hidden: Tensor
    outer: Tensor
    forward: torch.cuda.CUDAGraph
    backward: torch.cuda.CUDAGraph


class _Replayed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, anchor: Tensor, graph: _Graph) -> Tensor:
        ctx.graph = graph
        graph.forward.replay()
        return graph.hidden.detach()

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[None, None]:
        ctx.graph.outer.copy_(outer[0])
        ctx.graph.backward.replay()
        return None, None


class GraphedLayers:
    """As run_layers, differentiable by the trained parameters alone. Their gradients lie in one place for the
    whole training, to which graphs and ordinary passes add alike. capture: told what became of it."""

    def __init__(self, base: Any, trained: Sequence[Tensor], capture: Capture) -> None:
        self._base, self._trained, self._capture = base, list(trained), capture
        self._gradients = [torch.zeros_like(each) for each in trained]
        self.zero_gradients()
        self._anchor = torch.zeros((), requires_grad=True)
        self._pool = torch.cuda.graph_pool_handle()
        self._graphs: OrderedDict[Key, _Graph] = OrderedDict()
        self._shared: tuple[Tensor, Tensor] | None = None
        self._is_warm = False

    def __call__(self, pack: Mapping[str, Any]) -> Tensor:
        inputs = fixed(pack)
        with torch.autocast("cuda", torch.get_autocast_dtype("cuda"), cache_enabled=False):
            graph = self._find(inputs) if self._is_warm and self._capture.is_possible else None
            if graph is None:
                self._is_warm = True
                return run_layers(self._base, inputs)
        for name, place in graph.inputs.items():
            place.copy_(inputs[name])
        hidden: Tensor = _Replayed.apply(self._anchor, graph)  # type: ignore[no-untyped-call]  # torch
        return hidden

    def _find(self, inputs: Mapping[str, Any]) -> _Graph | None:
        """None where layers can't be captured."""
        key = (inputs["input_ids"].shape[1], len(inputs["cu_seq_lens_q"]))
        graph = self._graphs.get(key) or self._try(inputs)
        if graph:
            self._graphs[key] = graph
            self._graphs.move_to_end(key)
            if len(self._graphs) > MOST:
                self._graphs.popitem(last=False)
        return graph

    def _try(self, inputs: Mapping[str, Any]) -> _Graph | None:
        stream = torch.cuda.current_stream()
        try:
            return self._capture_passes(inputs)
        except RuntimeError as problem:  # also where a card's memory does not do for a graph
            torch.cuda.set_stream(stream)
            _clean_up(self._pool)
            self._graphs.clear()
            self._capture.is_possible = False
            log.warning("layers are not launched as graphs: they can't be captured: %s", problem)
            return None

    def zero_gradients(self) -> None:
        torch._foreach_zero_(self._gradients)
        for parameter, gradient in zip(self._trained, self._gradients, strict=True):
            parameter.grad = gradient

    def _capture_passes(self, inputs: Mapping[str, Any]) -> _Graph:
        kept = {name: value.clone() for name, value in inputs.items() if torch.is_tensor(value)}
        hidden, outer = self._rooms(self._compile(inputs))
        forward, backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        with torch.cuda.graph(forward, pool=self._pool, capture_error_mode="thread_local"):
            made = run_layers(self._base, {**inputs, **kept})
            hidden.copy_(made.detach())
        with torch.cuda.graph(backward, pool=self._pool, capture_error_mode="thread_local"):
            found = torch.autograd.grad(made, self._trained, outer)
            torch._foreach_add_(self._gradients, found)
        self._capture.is_done = True
        return _Graph(kept, hidden, outer, forward, backward)

    def _compile(self, inputs: Mapping[str, Any]) -> Tensor:
        """Has the first layers run as ever, since nothing can compile while it is captured, and dropout
        draws as if they had not. Returns what they make, which has the shape of what all of them make."""
        model, device = self._base.model, inputs["input_ids"].device
        layers, model.layers = model.layers, model.layers[:COMPILED]
        try:
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                hidden = run_layers(self._base, inputs)
                torch.autograd.grad(hidden, self._trained, torch.zeros_like(hidden), allow_unused=True)
        finally:
            model.layers = layers
        return hidden.detach()

    def _rooms(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """What the layers make and its gradient: one place for all graphs, as long as the longest."""
        if self._shared is None or len(self._shared[0]) < len(like):
            self._shared = torch.empty_like(like), torch.empty_like(like)
        hidden, outer = self._shared
        return hidden[: len(like)], outer[: len(like)]


def _clean_up(pool: tuple[int, int]) -> None:
    """What torch 2.11 leaves undone where a capture fails. The card's generator draws for nobody else, as if
    it still were captured: a copy of its state goes on at the same place. And the allocator gives back no
    memory, as if that pool still were filled."""
    for generator in torch.cuda.default_generators:
        generator.graphsafe_set_state(generator.clone_state())
    if torch.cuda.is_available():
        with suppress(RuntimeError):
            torch._C._cuda_endAllocateToPool(torch.cuda.current_device(), pool)


def fixed(pack: Mapping[str, Any]) -> dict[str, Any]:
    """What the layers get of a pack, with shapes that its length alone decides: empty conversations behind
    the last one, and the whole length as that of the longest."""
    tokens, bounds = pack["input_ids"].shape[1], pack["cu_seq_lens_q"]
    bounds = torch.nn.functional.pad(bounds, (0, -(len(bounds) - 1) % DOCUMENTS), value=tokens)
    return {
        "input_ids": pack["input_ids"],
        "position_ids": pack["position_ids"],
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": tokens,
        "max_length_k": tokens,
    }
