"""What our own decoder says of resources that would have more than their author."""

import pytest

from builders import document
from faults.attacks.resource import REFUSED
from lorafinetune.api.codec import InvalidResourceError, decode


@pytest.mark.parametrize("sentence", REFUSED)
def test_the_decoder_refuses(sentence: str) -> None:
    change, field = REFUSED[sentence]
    with pytest.raises(InvalidResourceError) as refused:
        decode(document(change))
    words = str(refused.value)
    assert field in words
    assert words.replace("\n", "").isprintable()
    assert len(words) < 4096
