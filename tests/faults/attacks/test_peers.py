"""A pod that speaks up as a rank of another's training: it is heard as a number, never as code."""

import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from faults.attacks.stranger import Words, rank
from lorafinetune_stages.train.wire_format import MAX_GATHERED_BYTES

BOUND_SECONDS: Final = 200


class Code:
    """Makes a file where it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, (self.path, "w")


def heard_by_the_first(directory: Path, words: Words) -> Any:
    context = multiprocessing.get_context("spawn")
    said = context.Queue()
    ranks = [context.Process(target=rank, args=(n, str(directory), words, said)) for n in (0, 1)]
    for each in ranks:
        each.start()
    try:
        found = dict(said.get(timeout=BOUND_SECONDS) for _ in range(1 if words is not None else 2))
    finally:
        for each in ranks:
            each.kill()
            each.join()
    return found[0]


def test_ranks_hear_each_other(tmp_path: Path) -> None:
    numbers, states = heard_by_the_first(tmp_path, None)
    assert repr(numbers) == "[[nan, -inf, 0.1], [nan, -inf, 1.1]]"
    assert states == [b"\xff\x00", b"\xff\x00"]


REFUSED: Final = "another rank of the training says something else than was asked"
WORDS: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "a pickle that is code": (lambda path: pickle.dumps(Code(str(path))), REFUSED),
    "nothing": (lambda _: b"", REFUSED),
    "another type": (lambda _: b'{"__class__": "os.system"}', REFUSED),
    "more than fits": (
        lambda _: bytes(MAX_GATHERED_BYTES + 1),
        f"another rank of the training says more than {MAX_GATHERED_BYTES} bytes at a time",
    ),
}


@pytest.mark.parametrize("sentence", WORDS)
def test_a_stranger_is_not_believed(sentence: str, tmp_path: Path) -> None:
    words, refusal = WORDS[sentence]
    code = tmp_path / "code"
    said = words(code)
    assert heard_by_the_first(tmp_path, said) == refusal
    assert not code.exists()
