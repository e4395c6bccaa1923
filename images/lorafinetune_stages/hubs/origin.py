"""What a resource asks to be fetched, published or told, and how a failure is reported.

Every message names the field of the resource and its source. No message holds text of a server's answer:
a hostile server could put into it the credentials that it was sent.
"""

import os
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

from lorafinetune.api.reasons import Reason
from lorafinetune.api.sources import Connection
from lorafinetune.contract.arguments import TOKEN_KEY, credential_variable
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.hubs import MAX_FILES

FAILED: Final = {"source": "can't be fetched", "to": "can't be published to", "name": "can't be told"}
PUBLIC_ENDPOINTS: Final = {
    "hf": "https://huggingface.co",
    "modelscope": "https://modelscope.cn",
    "wandb": "https://api.wandb.ai",
}


@dataclass(frozen=True)
class Origin:
    """One source of the resource, one target, or one tracker, which has its name for a URI. field: where it
    stands, like `spec.datasets[3]`. name: of its URI there."""

    field: str
    kind: Literal["models", "datasets"]
    source: str
    revision: str | None = None
    connection: Connection | None = None
    name: Literal["source", "to", "name"] = "source"

    @property
    def scheme(self) -> str:
        return self.source.partition("://")[0]

    @property
    def path(self) -> str:
        """What follows the scheme."""
        return self.source.partition("://")[2]

    @property
    def repository(self) -> str:
        """OWNER/NAME of a hub's repository."""
        return "/".join(self.path.split("/")[:2])

    @property
    def owner(self) -> str:
        return self.path.partition("/")[0]

    @property
    def file(self) -> str:
        """The file that is named inside a hub's repository, or an empty string."""
        return "/".join(self.path.split("/")[2:]) if self.scheme in PUBLIC_ENDPOINTS else ""

    @property
    def endpoint(self) -> str:
        """URL of the server, without a slash at the end; an empty string where there is none."""
        if self.scheme == "https":
            return f"https://{self.path.partition('/')[0]}"
        named = self.connection.endpoint if self.connection else None
        return (named or PUBLIC_ENDPOINTS.get(self.scheme, "")).rstrip("/")

    @property
    def host(self) -> str:
        return urlsplit(self.endpoint).netloc

    @property
    def missing(self) -> Reason:
        """The reason where it does not exist."""
        return Reason.MODEL_NOT_FOUND if self.kind == "models" else Reason.DATASET_NOT_FOUND

    @property
    def unusable(self) -> Reason:
        """The reason where it exists, and can't be used."""
        return Reason.MODEL_UNSUPPORTED if self.kind == "models" else Reason.DATASET_INVALID

    @property
    def failed(self) -> str:
        """The predicate of what can't be done with it."""
        return FAILED[self.name]

    def error(self, reason: Reason, what: str, hint: str = "") -> StageError:
        """A failure of this source. what: a predicate, like `has no config.json`."""
        return StageError(reason, f"{self.field}.{self.name}: {self.source} {what}", hint)

    def too_many_files(self) -> StageError:
        return self.error(self.unusable, f"lists more than {MAX_FILES} files")

    def corrupt(self, what: str) -> StageError:
        """A file whose content is not what the source announced."""
        hint = "Run again; if it stays so, use another mirror or revision: nothing of it was kept."
        return self.error(Reason.ARTIFACT_CORRUPT, what, hint)

    def token(self) -> str | None:
        """The token of the hub's connection. Raises StageError(CredentialsInvalid) where the connection
        names a Secret and there is none, or where it can't be one."""
        if self.connection is None:
            return None
        variable = credential_variable(self.connection.name, TOKEN_KEY)
        token = os.environ.get(variable, "").strip()
        if not token and self.connection.secret_ref:
            raise self.error(
                Reason.CREDENTIALS_INVALID,
                f"needs the token of the connection {self.connection.name!r}: {variable} is not set",
                f"Set {variable}, or remove `secretRef` from the connection where no token is needed.",
            )
        if not token.isascii() or not token.isprintable() or " " in token:
            raise self.error(
                Reason.CREDENTIALS_INVALID,
                f"{self.failed}: {variable} holds a character that no token has",
            )
        return token or None

    def required_token(self) -> str:
        """The token of the hub's connection. Raises StageError(CredentialsInvalid) where there is none."""
        if token := self.token():
            return token
        hint = f"Name a connection with a `secretRef` in `{self.field}.connection`."
        raise self.error(Reason.CREDENTIALS_INVALID, f"{self.failed} without a token", hint)
