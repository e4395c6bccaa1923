"""Every command that opens a store, at a real S3 server where its keys may do too little.

`gc` asks a cluster first: it is in `tests/apiserver/test_every_command.py`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import pytest
import yaml

from builders import document
from calls import COMMANDS, ENDED, FILE, forms, here, is_a_sentence, is_decent, takes
from cluster.s3server import S3Server
from forked import Call, Ended, forking
from local.test_every_command import with_digest
from lorafinetune.cli.run import keep
from stages.store_builders import s3_store
from unit.test_cli_store import ended, put, used_by

BUCKET: Final = "bucket"
"""That of the runs that tests build."""
USER, PASSWORD = "somebody", "somebodys-secret"
KEPT: Final = "runs"


@dataclass(frozen=True)
class Visitor:
    """Somebody with keys of the server, in a folder with the file of a run that has ended there."""

    server: S3Server
    call: Callable[..., Ended]

    def types(self, command: str, *form: str) -> Ended:
        endpoint = ("--endpoint", self.server.endpoint) if takes(command, "endpoint") else ()
        return self.call(*here(command), "--s3", "--secrets", "secrets", *endpoint, *form)


@pytest.fixture(scope="module")
def visitor(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitor]:
    home = tmp_path_factory.mktemp("home")
    keep(with_digest(ended(), fill(s3_server)), home / ENDED)
    stored = {"source": f"s3://{BUCKET}/model", "connection": "store"}
    connection = {"name": "store", "endpoint": s3_server.endpoint, "secretRef": {"name": "s3"}}
    spec = {"model": stored, "connections": [connection]}
    (home / FILE).write_text(yaml.safe_dump(document(spec)))
    secret = home / "secrets" / "s3"
    secret.mkdir(parents=True)
    (secret / "AWS_ACCESS_KEY_ID").write_text(USER)
    (secret / "AWS_SECRET_ACCESS_KEY").write_text(PASSWORD)
    with forking(HOME=str(home), KUBECONFIG="", NO_COLOR="1", COLUMNS="", TERM="xterm") as calling:
        yield Visitor(s3_server, lambda *words: calling(Call(words, str(home))))


def fill(server: S3Server) -> str:
    """Puts a model and the outputs of a run there, as the administrator; the digest of the last."""
    server.create_bucket(BUCKET)
    server.create_user(USER, PASSWORD)
    with pytest.MonkeyPatch.context() as patch:
        store = s3_store(server, patch, BUCKET, KEPT)
        stored = [put(store, place) for place in used_by(ended())]
        s3_store(server, patch, BUCKET, "").write("model/config.json", b"{}")
    return stored[-1].digest


DENIED: Final = f"StorageDenied: s3://{BUCKET}/"
READING: Final = [command for command in COMMANDS if takes(command, "store") and command != "gc"]
TOO_LITTLE: Final = {
    "a right to nothing there": "s3:PutBucketTagging",
    "a right to list alone": "s3:ListBucket",
}


@pytest.mark.parametrize("command", READING)
@pytest.mark.parametrize("sentence", TOO_LITTLE)
def test_keys_can_have(sentence: str, command: str, visitor: Visitor) -> None:
    visitor.server.let(USER, BUCKET, TOO_LITTLE[sentence])
    for form in forms(command):
        told = visitor.types(command, *form)
        assert is_decent(told, *form), told
        ENDS.get(command, ends_with_a_sentence)(told)


def ends_with_a_sentence(told: Ended) -> None:
    assert told.code == 64
    assert is_a_sentence(told), told
    assert told.err.startswith(DENIED)


def tells_of_the_stage(told: Ended) -> None:
    assert told.code == 64
    words = told.out + told.err  # with -o, the words are beside the output
    assert "download failed: StorageDenied: " in words
    assert "\nhint: Grant " in words


def leaves_the_lineage_out(told: Ended) -> None:
    assert told.code == 0
    assert told.err.startswith(f"the lineage of tune is left out: {DENIED}")
    assert "lineage" not in told.out


ENDS: Final = {"run": tells_of_the_stage, "diff": leaves_the_lineage_out}
"""How a command ends that has more to say."""


@pytest.mark.parametrize("command", ["fetch", "diff", "report"])
def test_a_right_to_read_is_enough(command: str, visitor: Visitor) -> None:
    visitor.server.let(USER, BUCKET, "s3:GetObject")
    told = visitor.types(command)
    assert (told.code, told.err) == (0, "")
