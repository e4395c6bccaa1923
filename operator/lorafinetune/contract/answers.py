"""What a base and the same base tuned say to the same prompts: a file beside the adapter, for people to read.

Its texts come from models and rows: they are bounded, and are treated as data wherever they are shown.
"""

from typing import Annotated, Final

from pydantic import Field

from lorafinetune.api.types import Count, Model

MOST_ANSWERS: Final = 8
MOST_CHARACTERS: Final = 2000
CUT: Final = "…"
"""Stands where a text was cut."""

Text = Annotated[str, Field(max_length=MOST_CHARACTERS)]


class Answer(Model, extra="ignore"):
    """To one prompt. prompt: as the models see it. expected: of the row. Where an answer came to no end of
    its own, CUT stands there."""

    prompt: Text
    expected: Text
    base: Text
    tuned: Text


class Answers(Model, extra="ignore"):
    """asked: prompts, some of which may have no answer for want of time. tokens: most that an answer may
    have. quantized: both answered on the base in 4 bits, as it is trained on."""

    asked: Count
    tokens: Count
    quantized: bool = False
    answers: Annotated[tuple[Answer, ...], Field(max_length=MOST_ANSWERS)] = ()
