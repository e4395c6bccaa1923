"""What is damaged in the store is noticed where it is read, named, and made again: on a real S3 server."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Final

import pytest

from cluster.s3server import S3Server
from local.runs import Desk, desk
from lorafinetune_stages.store.manifest import MANIFEST, Manifest, fault

pytestmark = [pytest.mark.model, pytest.mark.s3]

CALM: Final = "calm"
PREFIX: Final = "test"
PROOFS: Final = "proven/*.json"
CONNECTED: Final = {"connection": "store"}
FILES: Final = {
    "models": "model.safetensors",
    "datasets": "rows.jsonl",
    "prepared": "dataset/train/data-00000-of-00001.arrow",
    "trainings": "adapter/adapter_model.safetensors",
    "exports": "model.safetensors",
}
"""One file of each output, by the folder of its kind."""
KINDS: Final = (*FILES, "evaluations")
"""The base's loss has no file: all of it is in the manifest."""


def at(folder: Path, server: S3Server, bucket: str) -> Desk:
    """A desk whose store is a bucket."""
    made = Desk(folder)
    made.put_secret("s3", server.access_key, server.secret_key)
    made.edit(
        {
            "connections": [{"name": "store", "endpoint": server.endpoint, "secretRef": {"name": "s3"}}],
            "model": CONNECTED,
            "datasets": [{"source": "s3://samples/rows.jsonl", "format": "alpaca", **CONNECTED}],
            "training": {"maxSteps": 10, "evaluation": {"everySteps": 5}, "checkpoint": {"every": 5}},
            "storage": {"uri": f"s3://{bucket}/{PREFIX}", **CONNECTED},
        }
    )
    return made


def run(made: Desk) -> str:
    """What a run prints that ends well, and what its stages log."""
    code, out = made.finish("--s3", "--secrets", "secrets")
    logs = [path.read_text() for path in sorted(made.folder.glob("lorafinetune-runs/*/*/*/log"))]
    assert code == 0, out
    return "\n".join([out, *logs])


@pytest.fixture(scope="module")
def calm(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """What a run comes to that nothing happens to."""
    s3_server.create_bucket(CALM)
    fill(s3_server, tmp_path_factory.mktemp("samples"))
    made = at(tmp_path_factory.mktemp(CALM), s3_server, CALM)
    run(made)
    return made.digests()


def fill(server: S3Server, scratch: Path) -> None:
    """Puts the model and the rows of a desk there."""
    samples = desk(scratch).samples
    server.create_bucket("samples")
    with closing(server.client()) as client:
        for path in samples.rglob("*"):
            if path.is_file():
                key = str(path.relative_to(samples))
                client.put_object(Bucket="samples", Key=key, Body=path.read_bytes())


def flip(place: Path, file: str) -> None:
    content = bytearray((place / file).read_bytes())
    content[-1] ^= 1
    (place / file).write_bytes(content)


def cut(place: Path, file: str) -> None:
    (place / file).write_bytes((place / file).read_bytes()[:-1])


def remove(place: Path, file: str) -> None:
    (place / file).unlink()


def mix(place: Path, _: str) -> None:
    """Takes another output's manifest, as all had theirs before; for the checkpoints of a training, too."""
    other = "datasets" if place.parent.name != "datasets" else "models"
    (manifest,) = (place.parents[2].with_name(CALM) / PREFIX / other).glob(f"*/{MANIFEST}")
    for path in place.rglob(MANIFEST):
        path.write_bytes(manifest.read_bytes())


def misdate(place: Path, _: str) -> None:
    """Changes a digit of the manifest, and of those of the checkpoints of a training, or none of them would
    be read. And one of what was proven of a training, which is asked for where prepared rows are made again.
    """
    for path in place.rglob(MANIFEST):
        replace(path, '"created": "2', '"created": "1')
    for path in place.glob(PROOFS):
        replace(path, '"steps": 1', '"steps": 9')


def replace(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


Harm = Callable[[Path, str], None]
HARMS: dict[str, tuple[Mapping[str, Harm], str]] = {
    "by a bit that is another": (
        dict.fromkeys(FILES, flip),
        "the file {} does not match manifest.json",
    ),
    "by the loss of files, or of their ends": (
        {"exports": cut, "models": cut, "datasets": remove, "prepared": cut, "trainings": remove},
        "files are missing or cut, first {}",
    ),
    "by the manifest of another output": (
        dict.fromkeys(KINDS, mix),
        f"{MANIFEST}: it is the manifest of another output",
    ),
    "by a digit of the manifest that is another": (
        dict.fromkeys(KINDS, misdate),
        f"{MANIFEST}: its seal is not that of what it says",
    ),
}
"""What is done to each kind of output, and what a stage says of it."""


@pytest.mark.parametrize("sentence", HARMS)
def test_an_output_that_is_damaged_is_named_and_made_again(
    sentence: str, calm: Mapping[str, str], s3_server: S3Server, tmp_path: Path
) -> None:
    harms, says = HARMS[sentence]
    bucket = sentence.replace(" ", "-").replace(",", "")
    shutil.copytree(s3_server.data_dir / CALM, s3_server.data_dir / bucket)
    root = s3_server.data_dir / bucket / PREFIX
    for kind, harm in harms.items():
        (place,) = (root / kind).iterdir()
        harm(place, FILES.get(kind, ""))
    made = at(tmp_path, s3_server, bucket)
    said = run(made).splitlines()
    named = {
        kind
        for kind in KINDS
        if any(f"{kind}/" in line and says.format(FILES.get(kind)) in line for line in said)
    }
    assert named == set(harms)
    assert made.digests() == calm
    assert not list(torn(root))
    assert proofs(root) == proofs(s3_server.data_dir / CALM / PREFIX)


def torn(root: Path) -> Iterator[str]:
    """Files that are not what the manifest of their output says, and manifests that are not as written."""
    for path in root.rglob(MANIFEST):
        manifest = Manifest.model_validate_json(path.read_bytes())
        if manifest.seal is None or fault(manifest):
            yield f"{path.relative_to(root)}"
        for file in manifest.files:
            if sha256((path.parent / file.path).read_bytes()).hexdigest() != file.sha256:
                yield f"{path.parent.relative_to(root)}/{file.path}"


def proofs(root: Path) -> dict[str, bytes]:
    """What was proven of trainings."""
    return {path.name: path.read_bytes() for path in root.glob(f"prepared/*/{PROOFS}")}
