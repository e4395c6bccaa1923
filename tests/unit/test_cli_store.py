"""What is kept and freed in a store, and in what two runs differ."""

import fcntl
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from builders import NOW, document, model, resource, result, sha
from commands import Command, commander
from lorafinetune.api.reasons import Reason
from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.status import LoRAFineTuneStatus, StageName
from lorafinetune.cli.differences import Difference, Run, differences
from lorafinetune.cli.garbage import Why, judged, outputs
from lorafinetune.cli.humanize import amount
from lorafinetune.cli.run import LOCK_FILE, keep
from lorafinetune.contract.arguments import RESOURCE_FILE, STORE_DIRECTORY_VARIABLE
from lorafinetune.contract.keys import source_key
from lorafinetune.contract.outcome import Result
from lorafinetune.core.results import record
from lorafinetune_stages.store import Entry, Store
from lorafinetune_stages.store.directory import DirectoryStore
from lorafinetune_stages.store.manifest import Manifest, ManifestFile, commit_manifest, read_manifest
from unit.world import World

MODEL = f"models/{source_key(model().source, model().revision)}"
USED = (
    MODEL,
    f"datasets/{sha('rows')}",
    f"prepared/{sha('prepared')}",
    f"trainings/{sha('training')}",
    f"exports/{sha('exported')}",
)
UNUSED = tuple(f"{place.partition('/')[0]}/{sha('old')}" for place in USED)
OLD, YOUNG = 1000, 3000


def ended() -> LoRAFineTune:
    """A run that has come to its end."""
    world = World({"export": {"merged": {}}})
    world.run_to_end()
    return world.resource


def used_by(run: LoRAFineTune) -> tuple[str, ...]:
    """Where the outputs of a run are."""
    assert run.status is not None
    keys: dict[str, str | None] = {stage.name: stage.key for stage in run.status.stages}
    data = f"datasets/{run.status.datasets[0]}"
    made = zip(("prepared", "trainings", "exports"), ("prepare", "train", "export"), strict=True)
    return (MODEL, data, *(f"{kind}/{keys[stage]}" for kind, stage in made))


def at(*done: StageName) -> LoRAFineTune:
    """A run that has the results of these stages, and goes on."""
    status = LoRAFineTuneStatus()
    for stage in done:
        status = record(status, stage, sha("inputs"), result(stage), NOW)
    return resource().model_copy(update={"status": status})


ASKS: dict[str, Any] = {"export": {"merged": {}, "configMap": {"name": "tuned"}}}


def trains_anew(
    *steps: Callable[[World], object], spec: dict[str, Any] = ASKS, local: bool = False
) -> LoRAFineTune:
    """A run that came to its end, was edited, trains for the edit, and went on so."""
    world = World(spec)
    world.settings = replace(world.settings, local=local)
    world.run_to_end()
    world.edit({"training": {"learningRate": "2e-4"}})
    for step in (World.settle, World.succeed, World.settle, *steps, World.settle):
        step(world)
    return world.resource


def diverges(world: World) -> None:
    world.fail(Reason.LOSS_DIVERGED)


HANDED_OUT = used_by(ended())[3:]
"""The training and the export of a run before its edit."""


def listed(*places: str, modified: int = OLD) -> list[Entry]:
    return [Entry(f"{place}/manifest.json", 10, "v", modified) for place in places]


RULES: dict[str, tuple[list[Entry], list[LoRAFineTune], dict[Why, list[str]]]] = {
    "where nothing says what is needed, everything is garbage": (listed(*USED), [], {"garbage": list(USED)}),
    "what a finished run refers to is kept, and nothing else": (
        listed(*used_by(ended()), *UNUSED),
        [ended()],
        {"referred to": list(used_by(ended())), "garbage": list(UNUSED)},
    ),
    "what is young is kept": (listed(*UNUSED, modified=YOUNG), [], {"young": list(UNUSED)}),
    "an output is as young as its newest file": (
        [Entry("models/k/a", 1, "v", OLD), Entry("models/k/b", 1, "v", YOUNG)],
        [],
        {"young": ["models/k"]},
    ),
    "a run that begins may find anything": (listed(*UNUSED), [at()], {"may be found": list(UNUSED)}),
    "a run that prepares may find what comes after the download": (
        listed(*UNUSED),
        [at("download")],
        {"may be found": list(UNUSED[2:]), "garbage": list(UNUSED[:2])},
    ),
    "a run that trains may find an export": (
        listed(*UNUSED, *USED[:4]),
        [at("download", "prepare")],
        {"referred to": list(USED[:4]), "may be found": [UNUSED[4]], "garbage": list(UNUSED[:4])},
    ),
    "what the base makes of held-out rows may be found until there is a training": (
        listed("evaluations/k"),
        [at("download", "prepare")],
        {"may be found": ["evaluations/k"]},
    ),
    "and no run refers to it afterwards": (
        listed("evaluations/k"),
        [ended()],
        {"garbage": ["evaluations/k"]},
    ),
    "what a ConfigMap names is kept while the edited run trains": (
        listed(*HANDED_OUT),
        [trains_anew()],
        {"referred to": list(HANDED_OUT)},
    ),
    "what a ConfigMap names is kept where the edited run fails": (
        listed(*HANDED_OUT),
        [trains_anew(diverges)],
        {"referred to": list(HANDED_OUT)},
    ),
    "what a ConfigMap names is kept while the edited run exports": (
        listed(*HANDED_OUT),
        [trains_anew(World.succeed)],
        {"referred to": list(HANDED_OUT)},
    ),
    "what a ConfigMap names is kept until the operator has made it name what is new": (
        listed(*HANDED_OUT),
        [trains_anew(World.run_to_end)],
        {"referred to": list(HANDED_OUT)},
    ),
    "without a ConfigMap, a training is garbage once the next has begun": (
        listed(*HANDED_OUT),
        [trains_anew(diverges, spec={"export": {"merged": {}}})],
        {"garbage": [HANDED_OUT[0]], "referred to": [HANDED_OUT[1]]},
    ),
    "so it is of a local run, which makes no ConfigMap": (
        listed(*HANDED_OUT),
        [trains_anew(diverges, local=True)],
        {"garbage": [HANDED_OUT[0]], "referred to": [HANDED_OUT[1]]},
    ),
    "what is in no output of ours is left alone": (
        [Entry("notes.txt", 1, "v", OLD), Entry("refs/x", 1, "v", OLD), Entry("models", 1, "v", OLD)],
        [],
        {},
    ),
}


@pytest.mark.parametrize("sentence", RULES)
def test_what_is_garbage(sentence: str) -> None:
    entries, runs, expected = RULES[sentence]
    found = judged(outputs(entries), runs, before=2000.0)
    assert {why: [each.place for each in kept] for why, kept in found.items() if kept} == expected


@pytest.fixture
def lorafinetune(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    """Typed in a folder with a store of one run, and of one that is gone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(STORE_DIRECTORY_VARIABLE, "")
    store = DirectoryStore(tmp_path / "lorafinetune-store" / "bucket" / "runs")
    for place in (*used_by(ended()), *UNUSED[:2]):
        put(store, place)
    store.write("models/half/weights", b"x" * 2000)
    week = time.time() - 8 * 24 * 3600
    for path in tmp_path.rglob("*"):
        os.utime(path, (week, week))
    folder = tmp_path / "lorafinetune-runs" / "team-a" / "tune"
    folder.mkdir(parents=True)
    (folder / LOCK_FILE).touch()
    keep(ended(), folder / RESOURCE_FILE)
    (tmp_path / "tune.yaml").write_text(yaml.safe_dump(document()))
    return commander(monkeypatch, capfd)


def put(store: Store, place: str, lineage: dict[str, Any] | None = None) -> Manifest:
    stored = store.put(f"{place}/data", [b"content"])
    listed = [ManifestFile(path="data", size=stored.size, sha256=stored.sha256)]
    kind, _, key = place.partition("/")
    return commit_manifest(store, place, kind, key, listed, lineage or {}, None)


def places(folder: Path) -> set[str]:
    root = folder / "lorafinetune-store" / "bucket" / "runs"
    return {path.parent.relative_to(root).as_posix() for path in root.glob("*/*/*")}


def test_gc_shows_first_and_deletes_when_told_to(lorafinetune: Command, tmp_path: Path) -> None:
    before = places(tmp_path)
    code, out, _ = lorafinetune("gc", "tune.yaml")
    asked, first, *rows = out.splitlines()
    assert (code, asked) == (0, "runs of this store: 1 in lorafinetune-runs")
    assert first.split() == ["OUTPUT", "SIZE", "AGE"]
    assert rows[0].split() == ["models/half", "2.0", "kB", "8d0h", "incomplete"]
    assert {row.split()[0] for row in rows[1:3]} == set(UNUSED[:2])
    assert rows[3].startswith("3 outputs, 2.")
    assert rows[4].startswith("kept: 5 outputs, ")
    assert rows[5] == "nothing is deleted: --delete does that"
    assert places(tmp_path) == before
    assert lorafinetune("gc", "tune.yaml", "--delete")[1].splitlines()[-1].endswith("freed")
    assert places(tmp_path) == set(used_by(ended()))
    assert lorafinetune("gc", "tune.yaml", "-o", "json")[1] == "[]\n"


def test_who_interrupts_gc_is_told_what_it_has_freed(
    lorafinetune: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = DirectoryStore.delete
    deleted: list[str] = []

    def interrupted_at_the_second_output(store: DirectoryStore, prefix: str) -> None:
        if len(deleted) == 2:
            raise KeyboardInterrupt
        deleted.append(prefix)
        delete(store, prefix)

    told = json.loads(lorafinetune("gc", "tune.yaml", "-o", "json")[1])
    monkeypatch.setattr(DirectoryStore, "delete", interrupted_at_the_second_output)
    code, _, err = lorafinetune("gc", "tune.yaml", "--delete")
    (freed,) = (each["bytes"] for each in told if each["place"] == deleted[1])
    expected = f"interrupted: {amount(freed)} freed. The same command frees the rest.\n"
    assert (code, err) == (130, expected)


def test_gc_keeps_what_is_younger_than_its_bound(lorafinetune: Command, tmp_path: Path) -> None:
    before = places(tmp_path)
    assert lorafinetune("gc", "tune.yaml", "--delete", "--older-than", "9d")[0] == 0
    assert places(tmp_path) == before


def test_gc_waits_for_a_run_that_is_alive(lorafinetune: Command, tmp_path: Path) -> None:
    before = places(tmp_path)
    with (tmp_path / "lorafinetune-runs" / "team-a" / "tune" / LOCK_FILE).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, _, err = lorafinetune("gc", "tune.yaml", "--delete")
    assert (code, err.startswith("tune is running on this machine")) == (75, True)
    assert places(tmp_path) == before


def test_gc_deletes_nothing_beside_a_run_that_it_can_not_read(lorafinetune: Command, tmp_path: Path) -> None:
    before = places(tmp_path)
    (tmp_path / "lorafinetune-runs" / "team-a" / "tune" / RESOURCE_FILE).write_text("kind: Else\n")
    assert lorafinetune("gc", "tune.yaml", "--delete")[0] == 64
    assert places(tmp_path) == before


NO_RUNS_HINT = (
    "Give another folder with --runs, or with --s3 another --namespace or --context; or --without-runs, if "
    "nobody needs what is there.\n"
)


def test_gc_deletes_nothing_where_it_knows_no_run_of_the_store(lorafinetune: Command, tmp_path: Path) -> None:
    before = places(tmp_path)
    code, out, err = lorafinetune("gc", "tune.yaml", "--runs", "elsewhere", "--delete")
    assert (code, out, places(tmp_path)) == (64, "", before)
    assert err == f"NoRuns: s3://bucket/runs has none in elsewhere. {NO_RUNS_HINT}"
    code, out, _ = lorafinetune("gc", "tune.yaml", "--runs", "elsewhere")
    assert (code, out.splitlines()[0]) == (0, "runs of this store: none in elsewhere")
    assert lorafinetune("gc", "tune.yaml", "--runs", "elsewhere", "--delete", "--without-runs")[0] == 0
    assert places(tmp_path) == set()


def test_gc_counts_no_run_of_another_store(lorafinetune: Command, tmp_path: Path) -> None:
    before = places(tmp_path)
    elsewhere = document({"storage": {"uri": "s3://bucket/others"}})
    kept = tmp_path / "lorafinetune-runs" / "team-a" / "tune" / RESOURCE_FILE
    kept.write_text(yaml.safe_dump(elsewhere))
    code, _, err = lorafinetune("gc", "tune.yaml", "--delete")
    told = "NoRuns: s3://bucket/runs has none in lorafinetune-runs. "
    assert (code, err, places(tmp_path)) == (64, told + NO_RUNS_HINT, before)


def test_gc_counts_the_run_in_its_file(lorafinetune: Command, tmp_path: Path) -> None:
    keep(ended(), tmp_path / "run.yaml")
    code, out, _ = lorafinetune("gc", "run.yaml", "--runs", "elsewhere", "--delete")
    assert (code, out.splitlines()[0]) == (0, "runs of this store: none in elsewhere, 1 in the file")
    assert places(tmp_path) == set(used_by(ended()))


def test_gc_asks_for_an_age(lorafinetune: Command) -> None:
    assert lorafinetune("gc", "tune.yaml", "--older-than", "week")[2] == (
        "ConfigInvalid: week is no age. Give one like 7d, 12h or 30m.\n"
    )


def test_chat_gives_both_models_to_the_program_that_runs_them(
    lorafinetune: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/echo")
    (tmp_path / "lorafinetune-store" / "bucket" / "runs" / used_by(ended())[3] / "adapter").mkdir()
    keep(ended(), tmp_path / "run.yaml")
    code, out, _ = lorafinetune("chat", "run.yaml", "Hi", "--tokens", "8", "--system", "Be kind.")
    program, *given = out.split()
    assert (code, given[1:6]) == (0, ["--system", "Be", "kind.", "--tokens", "8"])
    assert (program, given[0]) == ("-m", "lorafinetune_stages.talk")
    base, adapter = (Path(each) for each in given if each.startswith("/"))
    assert read_manifest(DirectoryStore(base.parents[1]), f"models/{base.name}")
    assert (adapter.name, adapter.is_dir(), adapter.parent.parent.name) == ("adapter", True, "trainings")
    assert lorafinetune("chat", "tune.yaml")[2].startswith("ConfigInvalid: the status of tune tells of no ad")


def changed(spec: dict[str, Any], lineage: dict[str, Any] | None = None) -> list[Difference]:
    return differences(Run(resource(), {"seed": 42}), Run(resource(spec), lineage or {"seed": 42}))


def ended_otherwise(stage: StageName, part: str, **changes: Any) -> list[Difference]:
    """Of two runs of which one has another part in the result of a stage."""
    told = result(stage)
    other = told.model_copy(update={part: getattr(told, part).model_copy(update=changes)})
    runs = (resource().model_copy(update={"status": recorded(stage, each)}) for each in (told, other))
    before, after = (Run(run, None) for run in runs)
    return differences(before, after)


def recorded(stage: StageName, told: Result) -> LoRAFineTuneStatus:
    return record(LoRAFineTuneStatus(), stage, sha("inputs"), told, NOW)


CHANGES: dict[str, tuple[list[Difference], list[Difference]]] = {
    "equal runs differ in nothing": (changed({}), []),
    "a field says which stage it shapes": (
        changed({"training": {"lora": {"rank": 16}}}),
        [Difference("spec", "training.lora.rank", 8, 16, "train")],
    ),
    "the same number, written otherwise, is no difference": (changed({"training": {"epochs": "3.0"}}), []),
    "a field that shapes nothing says so by saying nothing": (
        changed({"maxRetries": 9}),
        [Difference("spec", "maxRetries", 3, 9)],
    ),
    "an argument of the trainer shapes the training": (
        changed({"training": {"extraArgs": {"neftune_noise_alpha": "5"}}}),
        [Difference("spec", "training.extraArgs.neftune_noise_alpha", None, "5", "train")],
    ),
    "a dataset that one has and the other has not": (
        changed({"datasets": [*resource().spec.encode()["datasets"], {"source": "s3://data/more.json"}]})[:1],
        [Difference("spec", "datasets[1].source", None, "s3://data/more.json", "download")],
    ),
    "what the manifest tells is compared too": (
        changed({}, {"seed": 42, "versions": {"torch": "2"}}),
        [Difference("lineage", "versions.torch", None, "2")],
    ),
    "another digest of the rows is other data": (
        ended_otherwise("prepare", "dataset", digest=sha("more")),
        [Difference("data", "dataset.digest", sha("data"), sha("more"))],
    ),
    "another loss on the held-out rows is another result": (
        ended_otherwise("train", "training", eval_loss="0.9"),
        [Difference("result", "training.evalLoss", "1.1", "0.9")],
    ),
}


@pytest.mark.parametrize("sentence", CHANGES)
def test_difference(sentence: str) -> None:
    found, expected = CHANGES[sentence]
    assert found == expected


def test_diff_reads_files_and_the_store(lorafinetune: Command, tmp_path: Path) -> None:
    one = ended()
    store = DirectoryStore(tmp_path / "lorafinetune-store" / "bucket" / "runs")
    put(store, f"trainings/{sha('other')}", {"versions": {"torch": "2.11"}})
    other = with_train_key(one, sha("other"))
    for name, run in (("a.yaml", one), ("b.yaml", other)):
        keep(run, tmp_path / name)
    code, out, _ = lorafinetune("diff", "a.yaml", "b.yaml")
    assert code == 0
    assert out.splitlines()[:3] == ["spec: no difference", "data: no difference", "lineage"]
    assert out.splitlines()[3].split() == ["versions.torch", "–", "→", "2.11"]
    assert (
        json.loads(lorafinetune("diff", "a.yaml", "b.yaml", "-o", "json")[1])[0]["field"] == "versions.torch"
    )


def test_diff_goes_on_without_a_store(lorafinetune: Command, tmp_path: Path) -> None:
    keep(ended(), tmp_path / "a.yaml")
    code, out, err = lorafinetune("diff", "a.yaml", "a.yaml", "--store", "elsewhere")
    assert (code, out) == (0, "spec: no difference\ndata: no difference\nresult: no difference\n")
    assert err.startswith("the lineage of tune is left out: ")


def test_diff_does_not_compare_a_lineage_with_none(lorafinetune: Command, tmp_path: Path) -> None:
    keep(ended(), tmp_path / "a.yaml")
    keep(with_train_key(ended(), sha("gone")), tmp_path / "b.yaml")
    code, out, err = lorafinetune("diff", "a.yaml", "b.yaml")
    assert (code, "lineage" in out) == (0, False)
    assert err == "the lineage of tune is left out: its training is not in the store.\n"


def of_another(mine: Path, other: Path) -> None:
    mine.write_bytes(other.read_bytes())


def another_digit(mine: Path, _: Path) -> None:
    mine.write_text(mine.read_text().replace("2.11", "2.12"))


@pytest.mark.parametrize(
    ("harm", "fault"),
    [
        pytest.param(of_another, "it is the manifest of another output", id="that of another training"),
        pytest.param(another_digit, "its seal is not that of what it says", id="one with another digit"),
    ],
)
def test_diff_takes_no_manifest_that_is(
    harm: Callable[[Path, Path], None], fault: str, lorafinetune: Command, tmp_path: Path
) -> None:
    root = tmp_path / "lorafinetune-store" / "bucket" / "runs"
    places = [f"trainings/{sha(name)}" for name in ("mine", "other")]
    for place in places:
        put(DirectoryStore(root), place, {"versions": {"torch": "2.11"}})
    harm(*(root / place / "manifest.json" for place in places))
    keep(with_train_key(ended(), sha("mine")), tmp_path / "a.yaml")
    code, out, err = lorafinetune("diff", "a.yaml", "a.yaml")
    assert (code, "lineage" in out) == (0, False)
    assert f"s3://bucket/runs/{places[0]}/manifest.json: {fault}" in err


def with_train_key(run: LoRAFineTune, key: str) -> LoRAFineTune:
    assert run.status is not None
    stages = (s.model_copy(update={"key": key}) if s.name == "train" else s for s in run.status.stages)
    return run.model_copy(update={"status": run.status.model_copy(update={"stages": tuple(stages)})})
