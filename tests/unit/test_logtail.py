"""What of a stage's log may stand on the resource."""

import time
from typing import Final

import pytest

from lorafinetune.core.logtail import LONGEST, log_tail

HEX: Final = "0123456789abcdef0123456789abcdef01234567"
UUID: Final = "eac2f2b4-1234-4abc-8def-0123456789ab"
AWS: Final = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SECRETS: dict[str, tuple[str, str]] = {
    "a token of Hugging Face": ("using hf_AbCdEfGhIjKlMnOp", "using [redacted]"),
    "a token of ModelScope": ("using ms-01234567-89ab-cdef-0123-456789abcdef", "using [redacted]"),
    "a key of S3": ("denied for AKIAIOSFODNN7EXAMPLE", "denied for [redacted]"),
    "a token of a service account": ("eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJr.c2lnbmF0dXJl?", "[redacted]?"),
    "a header": ("Authorization: Bearer abc.def-123", "Authorization: Bearer [redacted]"),
    "a variable": ("AWS_SECRET_ACCESS_KEY=wJalr/K7MDENG x", "AWS_SECRET_ACCESS_KEY=[redacted] x"),
    "a field of JSON": ('{"secretKey": "two words", "step": 3}', '{"secretKey": [redacted], "step": 3}'),
    "a parameter of a URL": (
        "GET /rows?X-Amz-Credential=A%2Fb&X-Amz-Signature=0f3c&n=1",
        "GET /rows?X-Amz-Credential=[redacted]&X-Amz-Signature=[redacted]&n=1",
    ),
    "a key of W&B": (f"Invalid key {HEX} (wandb)", "Invalid key [redacted] (wandb)"),
    "a key of W&B in an argument": (f"login(key='{HEX}')", "login(key='[redacted]')"),
    "a key of W&B on a command line": (f"wandb login local-{HEX}", "wandb login [redacted]"),
    "a key of W&B that it may name": (f"api_key={HEX}, entity=me", "api_key=[redacted], entity=me"),
    "a new key of W&B": (f"the API key is {'aB3_' * 21}xy.", "the API key is [redacted]."),
    "a token of ModelScope without its prefix": (f"no such token: '{UUID}'", "no such token: [redacted]"),
    "a token of ModelScope after its name": (f"MODELSCOPE_TOKEN {UUID} x", "MODELSCOPE_TOKEN [redacted] x"),
    "a secret key of S3": (f"aws_secret_access_key {AWS} x", "aws_secret_access_key [redacted] x"),
    "a secret key of S3 in XML": (f"<SecretAccessKey>{AWS}</x>", "<SecretAccessKey>[redacted]</x>"),
    "a secret key of S3 in a list": (f"('secret_key', '{AWS}')", "('secret_key', '[redacted]')"),
    "a password in quotes": ("MLFLOW_PASSWORD 'two words' x", "MLFLOW_PASSWORD [redacted] x"),
    "the user of a URL": ("https://me:word@hub.example/x", "https://[redacted]@hub.example/x"),
}


@pytest.mark.parametrize("sentence", SECRETS)
def test_a_log_is_told_without(sentence: str) -> None:
    line, told = SECRETS[sentence]
    assert log_tail(line) == told


@pytest.mark.parametrize(
    "line",
    [
        "KeyError: 'labels'",
        "the tokenizer: 49152 words",
        'secret "s3" not found',
        "s3://bucket/rows.jsonl:7: output: is empty",
        "the token '<|im_end|>' is not in the vocabulary",
        "missing key model.layers.0.self_attn.q_proj.lora_A.default.weight in the checkpoint of the adapter",
        f"owner/model has no commit {HEX}",
        f"the pod {UUID} is gone",
        f"nothing at the key {HEX}{HEX[:24]}",
    ],
)
def test_what_is_no_secret_stays(line: str) -> None:
    assert log_tail(line) == line


PARTS: Final = (
    *("secret", "secret_", "token ", "token='", "api_key", "key-", "key is ", f"key {HEX[1:]}", "login: "),
    *("password ", "password '", "bearer ", "basic ", "://", "eyJ-", "eyJa."),
)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("end", ["", " " * 50_000, "a" * 50_000])
def test_no_line_takes_long(part: str, end: str) -> None:
    """With time in proportion to the square of its length, such a line takes minutes."""
    began = time.process_time()
    log_tail(part * (200_000 // len(part)) + end)
    assert time.process_time() - began < 5


def test_the_last_whole_lines_are_told() -> None:
    lines = [f"line {number}: 心理" for number in range(200)]
    kept = log_tail("\n".join(lines)).splitlines()
    assert kept == lines[-len(kept) :]
    assert LONGEST - 30 < len("\n".join(kept).encode()) <= LONGEST


def test_of_a_line_that_is_too_long_its_end_is_told() -> None:
    told = log_tail("first\n" + "心" * 1000 + " killed")
    assert (told[0], told[-7:]) == ("…", " killed")
    assert len(told[1:].encode()) <= LONGEST


def test_a_line_that_a_secret_made_long_draws_nothing_after_it() -> None:
    """What stands before it may be the end of a secret whose beginning the kubelet has cut off."""
    assert "end-of-a-key" not in log_tail("end-of-a-key\npassword=" + "x" * LONGEST + "\nkilled")


def test_an_empty_log_says_nothing() -> None:
    assert log_tail(" \n\n") == ""
