"""What stands for the layers that a node has."""

from pathlib import Path

import pytest

from cluster.layers import Layer, chains, stood_in_for

LOWER = "sha256:4baa4cc82530c137a069ce91f27512a0a4f6389b89c3abde821fccefc228158d"
UPPER = "sha256:8d4631799acfd4ae1d05d30f2aaf6c37d3c00e10d137378bdf1b0a8d12c6c111"
BOTH = "sha256:30128010d16f3bb9565d6635865ce9fdb487ac47d53da14445c67433c6cf7ee2"
"""What containerd calls the upper one where it lies on the lower one."""
LAYERS: list[Layer] = [{"digest": LOWER, "size": 10**10}, {"digest": UPPER, "size": 1536}]


def test_a_chain_has_the_name_that_containerd_gives_it() -> None:
    assert list(chains(LAYERS)) == [LOWER, BOTH]


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ((), {}),
        ((LOWER,), {LOWER: 10**10}),
        ((LOWER, BOTH), {LOWER: 10**10, UPPER: 1536}),
        ((LOWER, UPPER), {LOWER: 10**10}),
    ],
    ids=["nothing is held", "the lower one is", "both are", "the upper one is, but on another one"],
)
def test_what_is_held_is_stood_in_for_by_what_takes_no_space(
    held: tuple[str, ...], expected: dict[str, int], tmp_path: Path
) -> None:
    blobs = tmp_path / "blobs" / "sha256"
    with stood_in_for(tmp_path, LAYERS, held):
        found = {f"sha256:{path.name}": path.stat() for path in blobs.iterdir()}
        assert {name: fact.st_size for name, fact in found.items()} == expected
        assert all(fact.st_blocks == 0 for fact in found.values())
    assert list(blobs.iterdir()) == []
