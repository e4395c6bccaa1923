"""A first file: from little, and always one that the operator takes."""

from pathlib import Path

import pytest

from commands import Command, commander
from forked import Call, Ended, forking
from lorafinetune.cli import init
from lorafinetune.cli.document import read_resource
from lorafinetune.cli.errors import CommandError
from lorafinetune.cli.init import InitOptions, default_name, document, text


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with rows and a model, in which the commands are typed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("{}\n")
    (tmp_path / "model").mkdir()
    return tmp_path


@pytest.fixture
def lorafinetune(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return commander(monkeypatch, capsys)


def test_a_model_and_a_file_are_enough(here: Path, lorafinetune: Command) -> None:
    code, out, _ = lorafinetune("init", "--model", "Qwen/Qwen3-0.6B", "--data", "rows.jsonl")
    assert (code, out.splitlines()[0].partition(".yaml")[0]) == (0, "qwen3-0-6b")
    made = read_resource(here / "qwen3-0-6b.yaml")
    assert made.metadata.name == "qwen3-0-6b"
    assert made.spec.model.source == "hf://Qwen/Qwen3-0.6B"
    assert [dataset.source for dataset in made.spec.datasets] == [f"file://{here}/rows.jsonl"]
    assert lorafinetune("validate", "--local", "qwen3-0-6b.yaml")[0] == 0


def test_what_is_asked_for_a_cluster_is_one_that_a_cluster_takes(here: Path, lorafinetune: Command) -> None:
    options = ("--model", "hf://a/b", "--data", "s3://raw/rows.json", "--data", "modelscope://c/d")
    cluster = ("--storage", "s3://out/runs", "--endpoint", "http://s3:7070", "--secret", "s3")
    names = ("--token-secret", "hub", "--name", "tune", "--namespace", "team-a", "--gpus", "0", "--to", "f")
    assert lorafinetune("init", *options, *cluster, *names)[0] == 0
    assert lorafinetune("validate", "f")[0] == 0
    spec = read_resource(here / "f").spec
    assert [(c.name, c.secret_ref and c.secret_ref.name) for c in spec.connections] == [
        ("store", "s3"),
        ("hub", "hub"),
    ]
    assert [spec.model.connection, spec.storage.connection] == ["hub", "store"]
    assert [dataset.connection for dataset in spec.datasets] == ["store", "hub"]
    assert spec.resources.train.gpu.count == 0


def test_a_step_is_one_that_the_gpus_can_share(here: Path, lorafinetune: Command) -> None:
    options = ("--model", "Qwen/Qwen3-0.6B", "--data", "s3://data/rows.jsonl", "--gpus", "3", "--to", "f")
    assert lorafinetune("init", *options)[0] == 0
    spec = read_resource(here / "f").spec
    assert (spec.resources.train.gpu.count, spec.training.batch_size) == (3, 9)


def test_where_nobody_can_be_asked_the_option_is_named(lorafinetune: Command) -> None:
    assert lorafinetune("init", "--data", "x")[2] == (
        "ConfigInvalid: the base model (OWNER/NAME, a URI or a directory) is missing. Give --model.\n"
    )


def test_on_a_terminal_a_person_is_asked_for_what_is_missing(here: Path) -> None:
    with forking(NO_COLOR="1", TERM="xterm") as calling:
        told = calling(Call(("init",), str(here), columns=80, answers=("Qwen/Qwen3-0.6B", "rows.jsonl")))
        checked = calling(Call(("validate", "--local", "qwen3-0-6b.yaml"), str(here)))
    model, data, written = told.out.splitlines()
    assert told.code == 0
    assert model == "base model (OWNER/NAME, a URI or a directory): Qwen/Qwen3-0.6B"
    assert data == "dataset (a file or a URI): rows.jsonl"
    assert written.startswith("qwen3-0-6b.yaml is written. Next: ")
    assert checked == Ended(0, "qwen3-0-6b.yaml: LoRAFineTune qwen3-0-6b is valid\n", "")
    made = read_resource(here / "qwen3-0-6b.yaml").spec
    assert (made.model.source, made.datasets[0].source) == (
        "hf://Qwen/Qwen3-0.6B",
        f"file://{here}/rows.jsonl",
    )


def test_a_file_that_is_there_stays(here: Path, lorafinetune: Command) -> None:
    (here / "f").write_text("mine")
    code, _, err = lorafinetune("init", "--model", "model", "--data", "rows.jsonl", "--to", "f")
    assert (code, err) == (64, "ConfigInvalid: f exists already. Give another file with --to.\n")
    assert (here / "f").read_text() == "mine"


REFUSED = {
    "a model that is neither here nor on a hub": (
        InitOptions("nothing", ["rows.jsonl"]),
        "ModelNotFound: nothing",
    ),
    "a file that is not here": (
        InitOptions("model", ["gone.jsonl"]),
        "DatasetNotFound: there is no file gone",
    ),
    "a URI of no kind that is known": (InitOptions("ftp://a/b", ["rows.jsonl"]), "spec.model.source"),
    "a name that Kubernetes refuses": (InitOptions("model", ["rows.jsonl"], name="A_b"), "metadata.name"),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_can_not_work_is_refused(sentence: str, here: Path) -> None:
    options, begins = REFUSED[sentence]
    with pytest.raises(CommandError, match=begins):
        text(options, "f")


NEXT = {
    "a file of this machine is for a run on it": ("rows.jsonl", "validate --local f ", False),
    "what a cluster can fetch is for one, too": ("s3://data/rows.jsonl", "validate f ", True),
}


@pytest.mark.parametrize("sentence", NEXT)
def test_what_comes_next_is_what_works(sentence: str, here: Path, lorafinetune: Command) -> None:
    data, checked, is_applied = NEXT[sentence]
    told = lorafinetune("init", "--model", "a/b", "--data", data, "--to", "f")[1]
    header = (here / "f").read_text().partition("apiVersion")[0]
    assert checked in header
    assert ("lorafinetune apply f" in header, "lorafinetune apply f" in told) == (is_applied, is_applied)


MACHINES = {
    "a machine with a GPU runs it as it is": ("nvidia0", "1", False, True),
    "a machine without one, once none is asked for": ("null", "1", True, True),
    "no GPU is missed where none is asked for": ("null", "0", False, False),
}


@pytest.mark.parametrize("sentence", MACHINES)
def test_a_run_on_this_machine(
    sentence: str, here: Path, lorafinetune: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, gpus, is_edited, is_for_gpus = MACHINES[sentence]
    (here / "dev").mkdir()
    (here / "dev" / device).touch()
    monkeypatch.setattr(init, "DEVICES", here / "dev")
    told = lorafinetune("init", "--model", "a/b", "--data", "rows.jsonl", "--gpus", gpus, "--to", "f")[1]
    assert ("resources.train.gpu.count: 0" in told) == is_edited
    assert "Next: lorafinetune run f" in told
    assert ("without a GPU, set gpu.count: 0" in (here / "f").read_text()) == is_for_gpus


def test_on_standard_output_the_file_has_no_name_yet(here: Path, lorafinetune: Command) -> None:
    told = lorafinetune("init", "--model", "a/b", "--data", "rows.jsonl", "--to", "-")[1]
    assert "# lorafinetune run FILE " in told


def test_every_section_has_a_comment(here: Path) -> None:
    options = InitOptions("model", ["rows.jsonl"], secret="s3")
    lines = text(options, "f").splitlines()
    sections = [f"  {name}:" for name in document(options)["spec"]]
    assert [lines[lines.index(section) - 1].startswith("  # ") for section in sections] == [True] * 7


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("hf://Qwen/Qwen3-0.6B", "qwen3-0-6b"),
        ("s3://bucket/a/Model_X/", "model-x"),
        (f"hf://a/{'x' * 60}", "x" * 40),
        ("file:///模型", "finetune"),
    ],
)
def test_the_name_is_the_models(model: str, name: str) -> None:
    assert default_name(model) == name
