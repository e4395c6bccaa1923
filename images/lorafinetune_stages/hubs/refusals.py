"""What a hub's refusals mean to a person, in the same words for every hub."""

import re
from collections.abc import Iterable
from typing import Final

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.hubs import TransientError
from lorafinetune_stages.hubs.origin import Origin

MAX_NAMED: Final = 10
NAME: Final = re.compile(r"[\w./+-]{1,64}")
"""A revision as people name them: a hub may list anything."""


class Refusals:
    """The refusals of one repository. page: URL of the repository in a browser. has_token: whether
    requests carry one."""

    def __init__(self, origin: Origin, page: str, has_token: bool) -> None:
        self._origin = origin
        self._page = page
        self._has_token = has_token

    def by_status(self, status: int) -> StageError:
        """The meaning of an HTTP status that the hub does not explain further."""
        match status:
            case 401:
                return self.credentials()
            case 403:
                return self.gated()
            case 404 | 410:
                return self.no_repository()
            case _:
                what = f"{self._origin.failed}: {self._origin.host} answers {status}"
                return self._origin.error(Reason.HUB_UNAVAILABLE, what)

    def credentials(self) -> StageError:
        if self._has_token:
            what = f"{self._origin.failed}: {self._origin.host} does not accept the token"
            return self._origin.error(Reason.CREDENTIALS_INVALID, what)
        return self._origin.error(
            Reason.CREDENTIALS_INVALID,
            f"{self._origin.failed}: {self._origin.host} asks for a token",
            "Name a Secret with a token in the source's connection: the repository may be private.",
        )

    def gated(self) -> StageError:
        who = "with the token's account" if self._has_token else "and name a Secret with a token"
        return self._origin.error(
            Reason.MODEL_GATED,
            f"is gated: {self._origin.host} asks for accepted terms, or for a token with more rights",
            f"Accept the terms at {self._page}, {who}{'' if self._has_token else ' in the connection'}.",
        )

    def no_repository(self) -> StageError:
        private = "" if self._has_token else ", or is private and needs a token"
        return self._origin.error(
            self._origin.missing, f"does not exist on {self._origin.host}{private}", self._check("source")
        )

    def no_revision(self, revision: str, known: Iterable[str] = ()) -> StageError:
        """known: some revisions that there are."""
        names = ", ".join([name for name in known if NAME.fullmatch(name)][:MAX_NAMED])
        there = f" There are {names}." if names else ""
        what = f"has no revision {revision!r} on {self._origin.host}"
        return self._origin.error(self._origin.missing, what, self._check("revision") + there)

    def no_file(self) -> StageError:
        what = f"is listed on {self._origin.host} with a file that it does not have"
        return self._origin.error(self._origin.missing, what)

    def _check(self, field: str) -> str:
        return f"Check `{self._origin.field}.{field}`, and the endpoint of its connection."


class WriteRefusals:
    """The refusals of one repository that is written to."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin

    def by_status(self, status: int) -> StageError:
        """The meaning of an HTTP status that the hub does not explain further. Raises TransientError for a
        conflict: another run may have made the repository just now."""
        match status:
            case 401:
                return self.credentials()
            case 403:
                return self.no_right()
            case 404 | 410:
                return self.no_repository()
            case 409:
                raise TransientError(self.taken())
            case 402 | 413 | 507:
                return self.full()
            case 400 | 422:
                return self.refused()
            case _:
                what = f"{self._origin.failed}: {self._origin.host} answers {status}"
                return self._origin.error(Reason.HUB_UNAVAILABLE, what)

    def credentials(self) -> StageError:
        what = f"{self._origin.failed}: {self._origin.host} does not accept the token"
        return self._origin.error(Reason.CREDENTIALS_INVALID, what)

    def no_right(self) -> StageError:
        return self._origin.error(
            Reason.STORAGE_DENIED,
            f"{self._origin.failed}: the token may not write there, says {self._origin.host}",
            f"Use a token with the right to write, of an account that may write to {self._origin.owner}.",
        )

    def no_repository(self) -> StageError:
        what = f"does not exist on {self._origin.host}"
        return self._origin.error(self._origin.missing, what, f"Check `{self._origin.field}.to`.")

    def no_owner(self) -> StageError:
        return self._origin.error(
            Reason.CONFIG_INVALID,
            f"can't be created: on {self._origin.host} there is no {self._origin.owner} in whose name the "
            "token may create it",
            f"Set `{self._origin.field}.to` to a repository of the token's account, or of its organisation.",
        )

    def taken(self) -> StageError:
        return self._origin.error(
            Reason.CONFIG_INVALID,
            f"{self._origin.failed}: the name is taken on {self._origin.host}, and not by a model",
            f"Set `{self._origin.field}.to` to another name.",
        )

    def refused(self) -> StageError:
        return self._origin.error(
            Reason.CONFIG_INVALID,
            f"{self._origin.failed}: {self._origin.host} refuses the repository's name, or a file",
            f"Check `{self._origin.field}.to` against the hub's rules for names.",
        )

    def full(self) -> StageError:
        return self._origin.error(
            Reason.STORAGE_FULL,
            f"{self._origin.failed}: the storage of {self._origin.owner} on {self._origin.host} is full",
            "Free space on the hub, or raise its quota.",
        )
