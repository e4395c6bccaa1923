"""The commands: what they print, and how they end."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from builders import document
from lorafinetune.api.crd import crd
from lorafinetune.cli.main import main

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def lorafinetune(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command in this process: exit code, standard output, standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lorafinetune", *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            main()
        captured = capsys.readouterr()
        return int(exited.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Any], Path]:
    """Writes a file: text as it is, anything else as YAML."""

    def call(content: Any) -> Path:
        path = tmp_path / "tune.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return path

    return call


def test_validate_says_that_a_good_file_is_valid(lorafinetune: Command, write: Callable[[Any], Path]) -> None:
    file = write(document())
    assert lorafinetune("validate", file) == (0, f"{file}: LoRAFineTune tune is valid\n", "")


BAD_FILES = {
    "a file that is not there": (None, "FILE: no such file or directory\n"),
    "an unknown field": (
        document({"training": {"epochs": "3", "learningrate": "1e-4"}}),
        "FILE:24: spec.training.learningrate: unknown field (did you mean learningRate?)\n",
    ),
    "a forbidden extra argument": (
        document({"training": {"extraArgs": {"deepspeed": "x"}}}),
        "FILE: ConfigInvalid: spec.training.extraArgs.deepspeed: is not allowed. "
        "It names a path or a place; stages read and write only the store.\n",
    ),
}


@pytest.mark.parametrize("command", ["validate", "render", "run"])
@pytest.mark.parametrize("sentence", BAD_FILES)
def test_a_bad_file_is_a_sentence_and_exit_code_64(
    sentence: str, command: str, lorafinetune: Command, write: Callable[[Any], Path], tmp_path: Path
) -> None:
    content, message = BAD_FILES[sentence]
    file = write(content) if content else tmp_path / "nothing.yaml"
    assert lorafinetune(command, file) == (64, "", message.replace("FILE", str(file)))


def test_validate_refuses_local_paths_unless_the_run_is_local(
    lorafinetune: Command, write: Callable[[Any], Path]
) -> None:
    file = write(document({"model": {"source": "file:///models/a"}}))
    assert [lorafinetune("validate", file, *option)[0] for option in ([], ["--local"])] == [64, 0]


def test_render_prints_arguments_that_yaml_reads(lorafinetune: Command, write: Callable[[Any], Path]) -> None:
    code, out, _ = lorafinetune("render", write(document()))
    assert (code, yaml.safe_load(out)["num_train_epochs"]) == (0, 3.0)


def test_crd_prints_the_crd(lorafinetune: Command) -> None:
    code, out, _ = lorafinetune("crd")
    assert (code, yaml.safe_load(out)) == (0, crd())


@pytest.mark.parametrize("command", ["run", "validate", "render", "crd"])
def test_help_teaches_with_an_example(command: str, lorafinetune: Command) -> None:
    code, out, _ = lorafinetune(command, "--help")
    assert code == 0
    assert f"Example: lorafinetune {command}" in out


def test_an_unknown_command_ends_with_a_sentence(lorafinetune: Command) -> None:
    code, _, err = lorafinetune("trian")
    assert (code, "No such command 'trian'" in err) == (2, True)


def test_run_names_the_file_of_a_secret_that_is_missing(
    lorafinetune: Command, write: Callable[[Any], Path], tmp_path: Path
) -> None:
    file = write(document())
    code, out, _ = lorafinetune("run", file, "--s3", "--runs", tmp_path / "runs", "--secrets", tmp_path)
    assert code == 64
    assert out.startswith(
        f"CredentialsInvalid: Secret s3 has no key AWS_ACCESS_KEY_ID: there is no file {tmp_path}/s3/"
    )
