"""What exceptions of the libraries mean to a person; those that nobody knows stay what they are."""

import pytest

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.train.failures import explain


class OutOfMemoryError(RuntimeError):
    """As torch names its own."""


class AcceleratorError(RuntimeError):
    """As torch names what CUDA says."""


@pytest.mark.parametrize(
    ("problem", "reason", "message"),
    [
        pytest.param(
            OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
            Reason.CUDA_OUT_OF_MEMORY,
            "the GPU's memory is too small, where at most 1.5 GiB were estimated: "
            "CUDA out of memory. Tried to allocate 2.00 GiB.",
            id="a full GPU",
        ),
        pytest.param(
            AcceleratorError("CUDA error: an illegal memory access was encountered\nSearch for it"),
            Reason.GPU_FAULT,
            "the GPU failed: CUDA error: an illegal memory access was encountered Search for it",
            id="an error of the GPU",
        ),
        pytest.param(
            RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
            Reason.GPU_FAULT,
            "the GPU failed: cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
            id="an error of a library on the GPU",
        ),
        pytest.param(
            AcceleratorError("CUDA error: no kernel image is available for execution on the device"),
            Reason.GPU_UNAVAILABLE,
            "torch has no code for a GPU of this kind",
            id="a card that torch does not know",
        ),
        pytest.param(
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
            Reason.HOST_OUT_OF_MEMORY,
            "the training needs more memory than there is",
            id="a full host",
        ),
        pytest.param(
            ValueError("Some keys are not used by the HfArgumentParser:\n ['nope']"),
            Reason.CONFIG_INVALID,
            "training.extraArgs: Some keys are not used by the HfArgumentParser: ['nope']",
            id="an argument that LLaMA-Factory does not have",
        ),
    ],
)
def test_a_known_failure_has_a_reason(problem: Exception, reason: Reason, message: str) -> None:
    explained = explain(problem, estimated=3 * 2**29)
    assert isinstance(explained, StageError)
    assert (explained.reason, explained.message) == (reason, message)


@pytest.mark.parametrize(
    "problem",
    [
        KeyError("labels"),
        ValueError("something else"),
        StageError(Reason.PREEMPTED, "asked to stop"),
        AcceleratorError("CUDA error: device-side assert triggered"),
    ],
    ids=repr,
)
def test_another_stays_what_it_is(problem: Exception) -> None:
    assert explain(problem) is problem
