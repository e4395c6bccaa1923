"""The crash matrix of a stage: every fault at every write to the store; the output must be as if nothing had
happened, and no manifest may ever stand without its files."""

import asyncio
import json
import os
import re
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from bench.results import Row
from cluster.s3server import S3Server
from faults.nursery import Nursery, is_alive
from faults.outcome import NOT_REACHED, Outcome
from faults.points import part
from faults.s3proxy import FAULTS, Run, S3Proxy
from faults.seeds import PREFIX, PUBLISHED, SEEDS, Seed
from lorafinetune.api.reasons import Retry
from lorafinetune.contract.arguments import (
    ARGUMENTS_VARIABLE,
    MESSAGE_VARIABLE,
    WORKDIR_VARIABLE,
    credential_variable,
)
from lorafinetune.contract.outcome import Result, StageError, decode_message
from lorafinetune_stages.store.manifest import MANIFEST, Manifest, ManifestFile, fault, files_digest

MODULES: Final = {
    "download": (
        "huggingface_hub.hf_api",
        "lorafinetune_stages.download",
        "lorafinetune_stages.hubs.huggingface",
    ),
    "prepare": ("lorafinetune_stages.prepare.dataset_builder",),
    "train": ("lorafinetune_stages.train.launch",),
    "export": ("lorafinetune_stages.export", "lorafinetune_stages.export.weight_merge"),
}
"""What each stage imports beside the store."""
STORE: Final = ("faults.programs", "lorafinetune_stages.store.s3")
TIMED: Final = frozenset({"gpuSeconds", "resumes", "training"})
"""Fields of a result that tell how long it took, and how often it was disturbed."""
TIMED_FILES: Final = frozenset({"loss.png", "metrics.jsonl", "trainer_state.json", "rng_state.pth"})
"""The last has Python's own generator, too, of which boto draws how long it waits, and a training nothing."""
STATE: Final = re.compile(r"(/(?:checkpoints|best)/\d+)/\d+$")
ATTEMPTS: Final = 4
WITHIN: Final = 300.0
AT_ONCE: Final = 6
POLL: Final = 0.02


@dataclass
class Ended:
    """One run. manifests: digests of the files that no clock enters, by place. published: names of all files
    where an export is published, whoever left them. attempts: processes that it took. torn: manifests that
    stood without their files, at any time, and ends that are no end."""

    write: str
    fault: str
    reached: bool = False
    result: Any = None
    manifests: dict[str, list[str]] = field(default_factory=dict)
    published: list[str] = field(default_factory=list)
    attempts: int = 0
    torn: list[str] = field(default_factory=list)

    @property
    def outputs(self) -> set[str]:
        return {*self.manifests, *self.published}


@dataclass
class Site:
    """Where the runs of one stage happen."""

    server: S3Server
    proxy: S3Proxy
    nursery: Nursery
    seed: Seed
    folder: Path

    async def run(self, number: int, write: str = "", fault: str = "") -> tuple[Ended, Run]:
        bucket = f"{self.seed.stage}-{number}"
        await asyncio.to_thread(shutil.copytree, self.data(self.seed.stage), self.data(bucket))
        attempt = Attempt(self, bucket, Ended(write, fault))
        run = Run(write, fault, attempt.kill, attempt.written)
        self.proxy.runs[bucket] = run
        await attempt.until_done()
        attempt.ended.reached = run.harmed
        await asyncio.to_thread(shutil.rmtree, self.data(bucket))
        return attempt.ended, run

    def data(self, bucket: str) -> Path:
        return self.server.data_dir / bucket


@dataclass
class Attempt:
    """A stage that is tried again until it has a result, as the operator would."""

    site: Site
    bucket: str
    ended: Ended
    pid: int = 0

    async def until_done(self) -> None:
        folder = self.site.folder / self.bucket
        folder.mkdir()
        while self.ended.attempts < ATTEMPTS:
            self.ended.attempts += 1
            message = folder / f"message-{self.ended.attempts}"
            await self._once(message)
            self.check()
            said = message.read_text() if message.exists() else ""
            outcome = decode_message(self.site.seed.stage, said)  # type: ignore[arg-type]  # a str that names one
            if isinstance(outcome, Result):
                self.ended.result = self.told(outcome)
                break
            self._note(outcome, said)
        for place, manifest in manifests(self.root).items():
            files = tuple(file for file in manifest.files if file.path not in TIMED_FILES)
            self.ended.manifests.setdefault(whoever_made_it(place), []).append(files_digest(files))
        self.ended.published = sorted(path.name for path in (self.root / PUBLISHED).glob("*"))

    def _note(self, failure: StageError | None, said: str) -> None:
        """A stage that was not killed has said why it failed, and that it may pass."""
        if failure is None and not self.ended.fault.startswith("killed"):
            self.ended.torn.append(f"ended without a word: {said[:500]}")
        if failure and failure.reason.facts.retry not in (Retry.BACKOFF, Retry.FREE):
            self.ended.torn.append(f"failed for good: {failure.reason}: {failure.message}")

    def told(self, result: Result) -> Any:
        """What a result says that is the same in every run."""
        fields = result.model_copy(update={"cache_hit": False}).encode()
        kept = {name: value for name, value in fields.items() if name not in TIMED}
        return json.loads(json.dumps(kept).replace(self.bucket, "bucket"))

    async def _once(self, message: Path) -> None:
        site = self.site
        keys = {"AWS_ACCESS_KEY_ID": site.server.access_key, "AWS_SECRET_ACCESS_KEY": site.server.secret_key}
        environment = {credential_variable("store", name): value for name, value in keys.items()}
        environment |= {
            ARGUMENTS_VARIABLE: json.dumps(site.seed.told(self.bucket, site.proxy.url)),
            MESSAGE_VARIABLE: str(message),
            WORKDIR_VARIABLE: str(message.parent),
        }
        log = message.with_suffix(".log")
        self.pid = site.nursery.start("faults.programs:stage", [site.seed.stage], environment, log)
        async with asyncio.timeout(WITHIN):
            while is_alive(self.pid):
                await asyncio.sleep(POLL)

    async def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        while is_alive(self.pid):
            await asyncio.sleep(0.002)

    def written(self, key: str) -> None:
        """Looks when a manifest has just been written."""
        if key.endswith(f"/{MANIFEST}"):
            self.check()

    @property
    def root(self) -> Path:
        return self.site.data(self.bucket) / PREFIX

    def check(self) -> None:
        self.ended.torn.extend(torn(self.root))


def torn(root: Path) -> Iterator[str]:
    """Places whose manifest stands without its files, and which of them are not there as it says."""
    for place, manifest in manifests(root).items():
        missing = [file.path for file in manifest.files if not _is_there(root / place, file)]
        if missing or manifest.seal is None or fault(manifest):
            yield f"{place}: {missing}"


def manifests(root: Path) -> dict[str, Manifest]:
    """By place."""
    return {
        str(path.parent.relative_to(root)): Manifest.model_validate_json(path.read_bytes())
        for path in sorted(root.rglob(MANIFEST))
    }


def whoever_made_it(place: str) -> str:
    """A checkpoint's or best adapter's place without the attempt that made it: a disturbed run has more."""
    return STATE.sub(r"\1", place)


def _is_there(place: Path, file: ManifestFile) -> bool:
    path = place / file.path
    return path.is_file() and sha256(path.read_bytes()).hexdigest() == file.sha256


def matrix_of(stage: str, folder: Path, share: float, seed: int) -> Outcome:
    """A share of all points of a stage, on an S3 server of its own."""
    with site_of(stage, folder) as site:
        return asyncio.run(_matrix(site, share, seed))


@contextmanager
def site_of(stage: str, folder: Path) -> Iterator[Site]:
    """An S3 server that has what the stage begins with, and a proxy before it that does not serve yet."""
    with S3Server(folder) as server, Nursery(*STORE, *MODULES[stage]) as nursery:
        own = folder / stage
        own.mkdir()
        with SEEDS[stage](own) as found:
            _fill(server, found)
            yield Site(server, S3Proxy(server.endpoint), nursery, found, own)


def _fill(server: S3Server, seed: Seed) -> None:
    """Puts what a stage begins with into a bucket of its name."""
    server.create_bucket(seed.stage)
    with closing(server.client()) as client:
        for entry in seed.store.list("") if seed.store else ():
            body = seed.store.read(entry.key) if seed.store else None
            client.put_object(Bucket=seed.stage, Key=f"{PREFIX}/{entry.key}", Body=body or b"")


async def _matrix(site: Site, share: float, seed: int) -> Outcome:
    async with site.proxy.serving():
        calm, ended = await tried(site, share, seed)
        return judged(site.seed.stage, calm, ended)


async def tried(where: Site, share: float, seed: int) -> tuple[Ended, list[Ended]]:
    """The run without faults, and a share of those with one."""
    calm, passed = await where.run(0)
    assert calm.result is not None, "a run without faults ends well"
    points = part([(write, fault) for write in dict.fromkeys(passed.writes) for fault in FAULTS], share, seed)
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, write: str, fault: str) -> Ended:
        async with slots:
            return (await where.run(number, write, fault))[0]

    numbered = enumerate(points, start=1)
    return calm, list(await asyncio.gather(*(one(number, *point) for number, point in numbered)))


def judged(stage: str, calm: Ended, ended: Sequence[Ended]) -> Outcome:
    """One row for each fault."""
    by_fault = {fault: [one for one in ended if one.fault == fault] for fault in FAULTS}
    rows: list[Row] = [
        {"at each": f"write of {stage}", "fault": fault, **_counts(calm, group)}
        for fault, group in by_fault.items()
        if group
    ]
    bad = [one for one in ended if one.reached and (one.torn or not is_same(one, calm))]
    return Outcome(rows, [f"{one.write}, {one.fault}: {one.torn or one}" for one in bad])


def _counts(calm: Ended, tried: Sequence[Ended]) -> dict[str, int]:
    reached = [one for one in tried if one.reached]
    return {
        "points": len(reached),
        NOT_REACHED: len(tried) - len(reached),
        "converged": sum(is_same(one, calm) for one in reached),
        "duplicates": sum(bool(one.outputs - calm.outputs) for one in reached),
        "lost": sum(bool(calm.outputs - one.outputs) for one in reached),
        "wrong on the way": sum(bool(one.torn) for one in reached),
    }


def is_same(one: Ended, other: Ended) -> bool:
    return (one.result, one.manifests, one.published) == (other.result, other.manifests, other.published)
