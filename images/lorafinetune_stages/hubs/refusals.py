"""What the refusals of a hub mean to a person: the same words for every hub."""

from collections.abc import Iterable

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.hubs.origin import Origin

MAX_NAMED = 10


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
                what = f"can't be fetched: {self._origin.host} answers {status}"
                return self._origin.error(Reason.HUB_UNAVAILABLE, what)

    def credentials(self) -> StageError:
        if self._has_token:
            what = f"can't be fetched: {self._origin.host} does not accept the token"
            return self._origin.error(Reason.CREDENTIALS_INVALID, what)
        return self._origin.error(
            Reason.CREDENTIALS_INVALID,
            f"can't be fetched: {self._origin.host} asks for a token",
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
        names = ", ".join(list(known)[:MAX_NAMED])
        there = f" There are {names}." if names else ""
        what = f"has no revision {revision!r} on {self._origin.host}"
        return self._origin.error(self._origin.missing, what, self._check("revision") + there)

    def no_file(self) -> StageError:
        what = f"is listed on {self._origin.host} with a file that it does not have"
        return self._origin.error(self._origin.missing, what)

    def _check(self, field: str) -> str:
        return f"Check `{self._origin.field}.{field}`, and the endpoint of its connection."
