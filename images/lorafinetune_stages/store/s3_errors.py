"""What an S3 server's refusal means to a person, as a reason of the closed list.

Only the code of an answer enters a message: the rest of it may echo a session token.
"""

import re
from dataclasses import dataclass
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.store.errors import no_bucket, not_there
from lorafinetune_stages.store.s3_access import ANONYMOUS, NO_IDENTITY, BucketAccess

CODES: Final = {
    **dict.fromkeys(
        (
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "ExpiredToken",
            "ExpiredTokenException",
            "InvalidToken",
            "InvalidClientTokenId",
            "InvalidIdentityToken",
            "TokenRefreshRequired",
            "UnrecognizedClientException",
            "RequestTimeTooSkewed",
        ),
        Reason.CREDENTIALS_INVALID,
    ),
    **dict.fromkeys(
        ("AccessDenied", "AllAccessDisabled", "AccountProblem", "InvalidObjectState"), Reason.STORAGE_DENIED
    ),
    **dict.fromkeys(
        ("QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"),
        Reason.STORAGE_FULL,
    ),
    "NoSuchUpload": Reason.STORAGE_UNAVAILABLE,
    **dict.fromkeys(("InvalidBucketName", "KeyTooLongError", "ObjectParentIsFile"), Reason.CONFIG_INVALID),
}
WRONG_REGION: Final = frozenset(
    {
        "PermanentRedirect",
        "TemporaryRedirect",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
    }
)
HINTS: Final = {
    "RequestTimeTooSkewed": "The clocks of the node and of the store differ by more than the store allows, "
    "most often 15 minutes: set the wrong one right.",
}
"""What a person can do where the reason's own hint would lead astray."""
STATUSES: Final = {
    401: Reason.CREDENTIALS_INVALID,
    403: Reason.STORAGE_DENIED,
    404: Reason.CONFIG_INVALID,
    507: Reason.STORAGE_FULL,
}
ANSWER: Final = re.compile(r"status code: (\d{3})")
CODE: Final = re.compile(r"<Code>([A-Za-z0-9.]{1,64})</Code>")


@dataclass(frozen=True)
class S3Refusal:
    """An answer that is not the wanted one. status: None where there was none."""

    status: int | None
    code: str

    @property
    def is_missing_key(self) -> bool:
        return self.code == "NoSuchKey"


def refusal_of(problem: Exception) -> S3Refusal:
    """The server's answer, out of an error of boto3 or obstore."""
    if isinstance(problem, ClientError):
        return _refusal_of_client_error(problem)
    if isinstance(problem, NO_IDENTITY):
        return S3Refusal(401, type(problem).__name__)
    if isinstance(problem, ParamValidationError):
        return S3Refusal(400, type(problem).__name__)
    if isinstance(problem, BotoCoreError):
        return S3Refusal(None, type(problem).__name__)
    answer = ANSWER.search(text := str(problem))
    if answer is None:
        return S3Refusal(None, "")
    code = CODE.search(text, answer.end())
    return S3Refusal(int(answer[1]), code[1] if code else "")


def explain(refusal: S3Refusal, uri: str, access: BucketAccess) -> StageError:
    """The failure that a person gets to see. uri: of the object or the store."""
    answer = f"the server at {access.endpoint} answered {_answer(refusal)}"
    if refusal.code == "NoSuchBucket":
        return no_bucket(access.bucket, uri, f"at {access.endpoint}")
    if refusal.is_missing_key:
        return not_there(uri)
    if refusal.code in WRONG_REGION:
        hint = "Set `region` of the connection to the region of the bucket."
        return StageError(Reason.CONFIG_INVALID, f"{uri}: {answer}: the bucket is in another region", hint)
    match _reason(refusal):
        case Reason.CONFIG_INVALID as reason if refusal.status == 404:
            hint = "Correct `endpoint` of the connection."
            return StageError(reason, f"{uri}: {answer}: that is no answer of an S3 server", hint)
        case Reason.STORAGE_DENIED if access.identity == ANONYMOUS:
            hint = "Name a Secret in the connection, or give the process an identity."
            return StageError(Reason.CREDENTIALS_INVALID, f"{uri}: {answer} to {ANONYMOUS}", hint)
        case Reason.CREDENTIALS_INVALID | Reason.STORAGE_DENIED as reason:
            hint = HINTS.get(refusal.code, "")
            return StageError(reason, f"{uri}: {answer} to {access.identity}", hint)
        case Reason.STORAGE_UNAVAILABLE as reason if refusal.status is None:
            return StageError(
                reason, f"{uri}: no answer from the server at {access.endpoint}{_kind(refusal)}"
            )
        case reason:
            return StageError(reason, f"{uri}: {answer}")


def _reason(refusal: S3Refusal) -> Reason:
    if reason := CODES.get(refusal.code) or STATUSES.get(refusal.status or 0):
        return reason
    return Reason.STORAGE_UNAVAILABLE


def _answer(refusal: S3Refusal) -> str:
    return " ".join(part for part in (str(refusal.status), refusal.code) if part)


def _kind(refusal: S3Refusal) -> str:
    return f" ({refusal.code})" if refusal.code else ""


def _refusal_of_client_error(problem: ClientError) -> S3Refusal:
    status = problem.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    code = problem.response.get("Error", {}).get("Code", "")
    known = code if re.fullmatch(r"[A-Za-z][A-Za-z0-9.]{0,63}", code) else ""
    if problem.operation_name.startswith("AssumeRole") and (status or 0) < 500:
        return S3Refusal(401, f"{problem.operation_name} {known}".strip())  # no answer of the store itself
    return S3Refusal(status, known)
