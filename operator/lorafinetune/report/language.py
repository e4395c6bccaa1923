"""The languages of the page about a run. They have a module of their own, so that a command starts quickly:
the code that makes a page is slow to import."""

from enum import StrEnum


class Language(StrEnum):
    """The language that a page is written in."""

    EN = "en"
    ZH = "zh"
