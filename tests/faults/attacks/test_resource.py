"""What our own decoder says of resources that would have more than their author."""

import pytest

from builders import document
from faults.attacks.resource import REFUSED
from lorafinetune.api.codec import InvalidResourceError, decode


@pytest.mark.parametrize("sentence", REFUSED)
def test_the_decoder_refuses(sentence: str) -> None:
    attempt = REFUSED[sentence]
    with pytest.raises(InvalidResourceError) as refused:
        decode(document(attempt.changes))
    words = str(refused.value)
    assert attempt.refused in words
    assert words.replace("\n", "").isprintable()
    assert len(words) < 4096
