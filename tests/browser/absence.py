"""What becomes of tests that look at pages where there is no browser to look with."""

import os
from typing import Final, Never

import pytest

NO_BROWSER: Final = (
    "nobody looks at the pages: there is no chromium-headless-shell, chromium or google-chrome here. "
    "Install one, or run the tests as root on Debian, which installs it"
)


def nobody_looks() -> Never:
    """A person's tests go on without it and say so; where a machine judges a change, that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(NO_BROWSER)
    pytest.skip(NO_BROWSER)
