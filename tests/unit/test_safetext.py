"""What strangers write, as people see it: nothing deceives, and nothing that is merely foreign is lost."""

import pytest

from lorafinetune.api.safetext import LONGEST_LINE, safe, safe_line

TEXTS = {
    "a terminal's colours": ("\x1b[31mred", "\ufffd[31mred"),
    "a terminal's other introducer": ("\x9b2J", "\ufffd2J"),
    "a bell and a zero byte": ("a\x07b\x00", "a\ufffdb\ufffd"),
    "a line that writes over itself": ("good\rbad", "good\ufffdbad"),
    "an override of the direction": ("a\u202ecba", "a\ufffdcba"),
    "an isolate": ("\u2066a\u2069", "\ufffda\ufffd"),
    "marks of direction": ("\u200ea\u200f\u061c", "\ufffda\ufffd\ufffd"),
    "separators of lines that a few readers know": ("a\u2028b\u2029c", "a\ufffdb\ufffdc"),
    "half a surrogate": ("a\ud83d", "a\ufffd"),
    "lines as Windows has them": ("a\r\nb\tc\n", "a\nb\tc\n"),
    "Chinese with its own space": ("你好\u3000吗", "你好\u3000吗"),
    "an emoji that is joined of several": ("👩\u200d🔬", "👩\u200d🔬"),
    "Persian with its own joiner": ("می\u200cخواهم", "می\u200cخواهم"),
    "a space that does not break": ("10\u00a0MB", "10\u00a0MB"),
}


@pytest.mark.parametrize("sentence", TEXTS)
def test_of_a_text_is_shown(sentence: str) -> None:
    text, shown = TEXTS[sentence]
    assert safe(text) == shown


def test_a_line_is_one_and_no_longer_than_fits() -> None:
    assert safe_line("  a\n\tb \x1b ") == "a b \ufffd"
    assert len(safe_line("a" * 10_000)) == LONGEST_LINE
