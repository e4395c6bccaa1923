"""How much of what tests draw is left to chance: nothing, so that a test fails by what was changed alone.

`make fuzz` searches instead: with other examples each time, and more of them.
"""

from typing import Final

from hypothesis import settings

USUAL: Final = 100
"""Examples of a test that says nothing of its own."""
MORE: Final = 20


def register_profiles() -> None:
    """To be chosen by `--hypothesis-profile`; a blob in what a failure prints repeats it."""
    settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=USUAL)
    settings.register_profile(
        "searching", deadline=None, derandomize=False, max_examples=MORE * USUAL, print_blob=True
    )
    settings.load_profile("repeatable")


def examples(count: int) -> int:
    """As many, or as many times as many as the profile has others."""
    return count * settings.default.max_examples // USUAL  # type: ignore[union-attr]
