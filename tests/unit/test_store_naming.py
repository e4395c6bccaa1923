"""Which keys there are: anything that is accepted stays inside the store, and comes back unchanged."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.store.directory import DirectoryStore
from lorafinetune_stages.store.naming import RESERVED, key_fault, quoted

SEGMENTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [".", "..", "", "~", "-", RESERVED, "a" * 256, "\x00", "\ud800", "\\", "C:", "*", "%2e%2e"]
    ),
)
KEYS = st.lists(SEGMENTS, min_size=1, max_size=6).map("/".join)


@given(KEYS)
def test_a_key_is_refused_or_kept_inside_the_store(key: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = DirectoryStore(Path(folder) / "a" / "store")
        if key_fault(key):
            with pytest.raises(StageError):
                store.write(key, b"content")
            assert list(Path(folder).iterdir()) == []
            return
        store.write(key, b"content")
        assert [entry.key for entry in store.list("")] == [key]
        assert store.read(key) == b"content"
        outside = [path for path in Path(folder).rglob("*") if not path.is_relative_to(store.root)]
        assert outside == [Path(folder) / "a"]


@given(KEYS)
def test_a_key_can_be_shown_to_a_person(key: str) -> None:
    assert quoted(key).isprintable()
    assert len(quoted(key)) < 1100
