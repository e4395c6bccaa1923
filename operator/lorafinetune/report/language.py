"""In which languages there is a page: apart from what makes one, so that a command starts quickly."""

from enum import StrEnum


class Language(StrEnum):
    """In which a page is written."""

    EN = "en"
    ZH = "zh"
