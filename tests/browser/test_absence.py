"""Without a browser nothing passes in silence."""

import pytest

from browser.absence import nobody_looks

ENDS = {
    "a person is told why they are skipped": ("", pytest.skip.Exception),
    "a machine that judges a change fails": ("true", pytest.fail.Exception),
}


@pytest.mark.parametrize("sentence", ENDS)
def test_without_a_browser(sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ci, end = ENDS[sentence]
    monkeypatch.setenv("CI", ci)
    with pytest.raises(end, match=r"no chromium-headless-shell, .* Install one"):
        nobody_looks()
