"""What is taken out of the words of a stage, and what stays."""

from typing import Final

import pytest

from lorafinetune_stages.credentials import cleared

SURROUNDINGS: Final = {
    "CONNECTION_STORE_AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "CONNECTION_STORE_AWS_SECRET_ACCESS_KEY": " wJalr/K7MDENG \n",
    "CONNECTION_HUB_TOKEN": "hf_0123456789",
    "CONNECTION_MIRROR_TOKEN": "hf_0123456789-and-more",
    "CONNECTION_TRACKER_USERNAME": "ann",
    "SOMETHING_ELSE": "something else",
}
TABLE: Final = {
    "a credential": ("no hf_0123456789!", "no [redacted]!"),
    "one that stands in lines of a file": ("no wJalr/K7MDENG!", "no [redacted]!"),
    "one in a URL": ("?key=wJalr%2fK7MDENG&n=1", "?key=[redacted]&n=1"),
    "one that begins with another": ("no hf_0123456789-and-more!", "no [redacted]!"),
    "each of several": ("hf_0123456789,hf_0123456789", "[redacted],[redacted]"),
    "half of one": ("no hf_01234567!", "no hf_01234567!"),
    "the name of a key, which is public": ("AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"),
    "what is as short as a word": ("ann trains", "ann trains"),
    "another variable": ("something else", "something else"),
    "no word": ("", ""),
}


@pytest.mark.parametrize("sentence", TABLE)
def test_what_is_told_of(sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SURROUNDINGS.items():
        monkeypatch.setenv(name, value)
    said, told = TABLE[sentence]
    assert cleared(said) == told
