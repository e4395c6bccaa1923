"""How the S3 store takes answers that the real server of the tests never gives."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune.core.jobs import NOT_THE_NODES
from lorafinetune_stages.store.s3 import S3Store
from lorafinetune_stages.store.s3_access import Bounds
from stages.s3_answers import Answer, Asked, Rule, S3Answers, error
from stages.store_builders import MEBIBYTE, QUICK, connection, content, in_pieces, set_keys

KEYS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "the-secret", "AWS_SESSION_TOKEN": "the-token"}
ECHO = "<Token-0>the-token</Token-0><StringToSign>the-secret</StringToSign>"
IN_ANOTHER_REGION = "Set `region` of the connection to the region of the bucket."

Operation = Callable[[S3Store], object]
OPERATIONS: dict[str, Operation] = {
    "find, through boto3": lambda store: store.find("a"),
    "list, through boto3": lambda store: list(store.list("a")),
    "create, through boto3": lambda store: store.create("a", b"1"),
    "read, through obstore": lambda store: store.read("a"),
    "write, through obstore": lambda store: store.write("a", b"1"),
}


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    set_keys(monkeypatch, KEYS)


def store_at(server: S3Answers, bounds: Bounds = QUICK, **changes: object) -> S3Store:
    return S3Store("bucket", "runs", connection(server.endpoint, "store", **changes), bounds)


def always(answer: Answer) -> Rule:
    return lambda _asked: answer


def once(matches: Callable[[Asked], bool], act: Callable[[Asked], Answer]) -> Rule:
    """Answers the first request that matches, and no other."""
    left = [act]
    return lambda asked: left.pop()(asked) if left and matches(asked) else None


def is_about(key: str, method: str) -> Callable[[Asked], bool]:
    return lambda asked: asked.method == method and asked.path.endswith(key)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("answer", "reason", "told"),
    [
        pytest.param(
            error(400, "ExpiredToken", ECHO), Reason.CREDENTIALS_INVALID, "400 ExpiredToken", id="expired"
        ),
        pytest.param(
            error(403, "RequestTimeTooSkewed"),
            Reason.CREDENTIALS_INVALID,
            "403 RequestTimeTooSkewed",
            id="a wrong clock",
        ),
        pytest.param(
            error(403, "AccessDenied", ECHO), Reason.STORAGE_DENIED, "403 AccessDenied", id="denied"
        ),
        pytest.param(Answer(403), Reason.STORAGE_DENIED, "403", id="denied by a proxy without a word"),
        pytest.param(Answer(401), Reason.CREDENTIALS_INVALID, "401", id="refused by a proxy without a word"),
        pytest.param(
            error(507, "InsufficientStorage"), Reason.STORAGE_FULL, "507 InsufficientStorage", id="full"
        ),
        pytest.param(error(403, "QuotaExceeded"), Reason.STORAGE_FULL, "403 QuotaExceeded", id="quota"),
        pytest.param(error(503, "SlowDown"), Reason.STORAGE_UNAVAILABLE, "503 SlowDown", id="too busy"),
        pytest.param(
            error(500, "InternalError"), Reason.STORAGE_UNAVAILABLE, "500 InternalError", id="broken"
        ),
        pytest.param(error(503, "<b>\n!"), Reason.STORAGE_UNAVAILABLE, "503", id="a code that is no code"),
        pytest.param(
            error(400, "InvalidBucketName"), Reason.CONFIG_INVALID, "400 InvalidBucketName", id="bad name"
        ),
        pytest.param(
            error(400, "AuthorizationHeaderMalformed"),
            Reason.CONFIG_INVALID,
            "400 AuthorizationHeaderMalformed: the bucket is in another region",
            id="another region",
        ),
    ],
)
def test_a_refusal_has_a_reason_and_tells_no_secret(
    operation: str, answer: Answer, reason: Reason, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with S3Answers(always(answer)) as server, pytest.raises(StageError) as refused:
        OPERATIONS[operation](store_at(server))
    assert refused.value.reason is reason
    assert f": the server at {server.endpoint} answered {told}" in refused.value.message
    assert refused.value.message.isprintable()
    assert (refused.value.hint == IN_ANOTHER_REGION) == ("region" in told)
    assert ("clock" in refused.value.hint) == ("Skewed" in told)
    for secret in ("the-secret", "the-token"):
        assert secret not in refused.value.message + refused.value.hint + caplog.text
    assert refused.value.__suppress_context__


@pytest.fixture
def stalled() -> Iterator[S3Answers]:
    ended = threading.Event()

    def stall(_: Asked) -> Answer:
        ended.wait(20)
        return Answer(500)

    with S3Answers(stall) as server:
        yield server
        ended.set()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_server_that_never_answers_is_given_up(stalled: S3Answers, operation: str) -> None:
    store = store_at(stalled, Bounds(attempts=1, request_seconds=0.5))
    began = time.monotonic()
    with pytest.raises(StageError) as refused:
        OPERATIONS[operation](store)
    assert time.monotonic() - began < 10
    assert refused.value.reason is Reason.STORAGE_UNAVAILABLE
    assert f": no answer from the server at {stalled.endpoint}" in refused.value.message


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_server_that_is_busy_once_is_asked_again(operation: str) -> None:
    busy = once(lambda asked: True, lambda asked: error(503, "SlowDown"))
    with S3Answers(busy) as server:
        OPERATIONS[operation](store_at(server, Bounds(attempts=2)))


def test_a_part_that_is_cut_off_is_asked_for_again() -> None:
    with S3Answers() as server:
        cut = once(
            is_about("/a", "GET"), lambda asked: Answer(**{**vars(server.from_memory(asked)), "cut": 3})
        )
        server.rules.append(cut)
        store = store_at(server, Bounds(attempts=2))
        store.write("a", b"content")
        assert store.read("a") == b"content"


@pytest.mark.parametrize(
    "server",
    [
        pytest.param(S3Answers(conditional=False), id="ignored"),
        pytest.param(
            S3Answers(
                lambda asked: error(501, "NotImplemented") if "if-none-match" in asked.headers else None
            ),
            id="refused",
        ),
    ],
)
def test_a_server_without_conditional_writes_is_named_loudly_and_checked_first(
    server: S3Answers, caplog: pytest.LogCaptureFixture
) -> None:
    with server:
        store = store_at(server)
        assert store.create("a", b"first")
        assert not store.create("a", b"second")
        assert store.read("a") == b"first"
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        f"s3://bucket/runs: the server at {server.endpoint} has no conditional writes: of two runs that"
        " finish the same output at the same time, both may believe that they were first"
    ]


def test_a_server_with_conditional_writes_is_found_out_with_one_request() -> None:
    with S3Answers() as server:
        assert store_at(server).create("a", b"")
        server.asked.clear()
        assert store_at(server).create("b", b"")
        assert [asked.path for asked in server.asked] == [
            "/bucket/runs/.lorafinetune/conditional-writes",
            "/bucket/runs/b",
        ]
        assert [entry.key for entry in store_at(server).list("")] == ["a", "b"]


def test_a_conflict_says_nothing_of_conditional_writes() -> None:
    conflict = once(is_about("/conditional-writes", "PUT"), lambda _: error(409, "OperationAborted"))
    with S3Answers(conflict) as server:
        assert store_at(server).conditional_writes


def test_a_claim_whose_answer_was_lost_is_still_won() -> None:
    with S3Answers() as server:

        def keep_and_hang_up(asked: Asked) -> Answer:
            server.from_memory(asked)
            return Answer(lost=True)

        server.rules.append(once(is_about("/claim", "PUT"), keep_and_hang_up))
        store = store_at(server, Bounds(attempts=2))
        assert store.create("claim", b"mine")
        assert not store.create("claim", b"another's")


def test_a_conflict_is_tried_again() -> None:
    conflict = once(is_about("/claim", "PUT"), lambda asked: error(409, "ConditionalRequestConflict"))
    with S3Answers(conflict) as server:
        assert store_at(server).create("claim", b"mine")


def test_conflicts_without_end_are_given_up() -> None:
    def conflict(asked: Asked) -> Answer | None:
        return error(409, "OperationAborted") if asked.path.endswith("/claim") else None

    with S3Answers(conflict) as server, pytest.raises(StageError) as refused:
        store_at(server).create("claim", b"mine")
    assert refused.value.reason is Reason.STORAGE_UNAVAILABLE
    assert refused.value.message == (
        f"s3://bucket/runs/claim: the server at {server.endpoint} keeps answering that others write it"
    )


@pytest.mark.parametrize(
    "to_the_abort",
    [
        pytest.param(Answer(204), id="is aborted"),
        pytest.param(error(500, "InternalError"), id="cannot be aborted"),
    ],
)
def test_a_stream_that_breaks_is_named_and_its_upload(to_the_abort: Answer) -> None:
    def breaking() -> Iterator[bytes]:
        yield from in_pieces(content(40 * MEBIBYTE))
        raise ConnectionResetError("the hub hung up")

    def abort(asked: Asked) -> Answer | None:
        return to_the_abort if asked.method == "DELETE" else None

    with S3Answers(abort) as server, pytest.raises(ConnectionResetError, match="the hub hung up"):
        store_at(server).put("broken", breaking())
    assert {asked.query["uploadId"] for asked in server.asked if asked.method == "DELETE"} == {"1"}


def test_virtual_addressing_puts_the_bucket_into_the_host_for_both_clients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with S3Answers() as server:
        monkeypatch.setenv("HTTP_PROXY", server.endpoint)
        store = S3Store("bucket", "runs", connection("http://s3.example:7070", addressing="virtual"), QUICK)
        store.write("a", b"1")
        store.find("a")
    assert [(asked.host, asked.path) for asked in server.asked] == [
        ("bucket.s3.example:7070", "/runs/a"),
        ("bucket.s3.example:7070", "/runs/a"),
    ]


IDENTITY = (
    '{"AccessKeyId": "ASIAOWN", "SecretAccessKey": "s", "Token": "t", "Expiration": "2099-01-01T00:00:00Z"}'
)
ASSUMED = """<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>
<AccessKeyId>ASIAOWN</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>
<Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>
</AssumeRoleWithWebIdentityResponse>"""


def as_container(server: S3Answers, folder: Path) -> dict[str, str]:
    return {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{server.endpoint}/identity"}


def as_service_account(server: S3Answers, folder: Path) -> dict[str, str]:
    (folder / "token").write_text("a projected token")
    return {
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(folder / "token"),
        "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/tuner",
        "AWS_ENDPOINT_URL_STS": f"{server.endpoint}/identity",
    }


@pytest.mark.parametrize(
    ("environment", "answer"),
    [
        pytest.param(as_container, IDENTITY, id="of the pod"),
        pytest.param(as_service_account, ASSUMED, id="of the service account"),
    ],
)
def test_both_clients_use_the_identity(
    environment: Callable[[S3Answers, Path], dict[str, str]],
    answer: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    as_in_a_job(monkeypatch, tmp_path)
    identity = once(
        lambda asked: asked.path.startswith("/identity"), lambda asked: Answer(200, answer.encode())
    )
    with S3Answers(identity) as server:
        for variable, value in environment(server, tmp_path).items():
            monkeypatch.setenv(variable, value)
        store = store_at(server, secret_ref=None)
        store.write("a", b"1")
        store.find("a")
    for asked in server.asked[1:]:
        assert asked.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=ASIAOWN/")
        assert asked.headers["x-amz-security-token"] == "t"
    assert [asked.method for asked in server.asked[1:]] == ["PUT", "HEAD"]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_identity_that_is_refused_is_no_denied_storage(
    operation: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without_other_identity(monkeypatch, tmp_path)
    denied = b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
    with S3Answers(always(Answer(403, denied))) as server:
        for variable, value in as_service_account(server, tmp_path).items():
            monkeypatch.setenv(variable, value)
        with pytest.raises(StageError) as refused:
            OPERATIONS[operation](store_at(server, secret_ref=None))
    assert refused.value.reason is Reason.CREDENTIALS_INVALID
    assert (
        "answered 401 AssumeRoleWithWebIdentity AccessDenied to this process's own" in refused.value.message
    )


def test_nobody_speaks_as_the_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    as_in_a_job(monkeypatch, tmp_path)
    with S3Answers() as server, S3Answers(always(Answer(200, IDENTITY.encode()))) as node:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", node.endpoint)
        store = store_at(server, secret_ref=None)
        store.write("a", b"1")
        store.find("a")
    assert not node.asked
    assert not [asked for asked in server.asked if "authorization" in asked.headers]


def as_in_a_job(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    without_other_identity(monkeypatch, folder)
    for variable, value in NOT_THE_NODES.items():
        monkeypatch.setenv(variable, value)


def without_other_identity(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    for variable in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(variable, str(folder / "none"))
