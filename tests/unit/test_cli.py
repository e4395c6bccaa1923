"""The commands: what they print, and how they end."""

import json
import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

import calls
from builders import document
from cluster.kubeconfig import kubeconfig
from commands import Command, commander, completer
from forked import PIPE_BYTES
from lorafinetune.api.crd import crd
from lorafinetune.api.reasons import Reason
from lorafinetune.cli import document as reading_of_files
from lorafinetune.cli.cluster import ANSWER_SECONDS
from lorafinetune.cli.program import app, main
from lorafinetune.contract.extra_args import EXTRA_ARGUMENTS


@pytest.fixture
def lorafinetune(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return commander(monkeypatch, capsys)


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


def every_command() -> Iterator[Any]:
    """What the program knows, and what it has from others."""
    groups = (group.typer_instance for group in app.registered_groups)
    for group in (app, *groups):
        yield from group.registered_commands if group else ()


BAD_FILES = {
    "a file that is not there": (
        None,
        "FILE: no such file or directory. Give a YAML file that can be read, or - for standard input.\n",
    ),
    "an unknown field": (
        document({"training": {"epochs": "3", "learningrate": "1e-4"}}),
        "FILE:24: spec.training.learningrate: unknown field (did you mean learningRate?)\n",
    ),
    "a forbidden extra argument": (
        document({"training": {"extraArgs": {"deepspeed": "x"}}}),
        "FILE:25: ConfigInvalid: spec.training.extraArgs.deepspeed: is not allowed: "
        "it names a file or a directory, and stages read and write only the store. Remove it. "
        f"Allowed are {', '.join(EXTRA_ARGUMENTS)}.\n",
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


PARTS = ("line", "column", "field", "message", "hint")
FAULTS: dict[str, tuple[Any, tuple[object, ...]]] = {
    "a file that is not there": (
        None,
        (
            *(None, None, "", "no such file or directory"),
            "Give a YAML file that can be read, or - for standard input.",
        ),
    ),
    "what is no YAML": (
        "spec:\n\tmodel: x\n",
        (2, 1, "", "not valid YAML: a tab can't indent; use spaces", ""),
    ),
    "an unknown field": (
        document({"training": {"epochs": "3", "learningrate": "1e-4"}}),
        (24, None, "spec.training.learningrate", "unknown field", "did you mean learningRate?"),
    ),
    "what the operator's checks refuse": (
        document({"model": {"source": "file:///m"}}),
        (
            *(18, None, "spec.model.source", "file:///m is for local runs only"),
            "Use s3://, hf:// or modelscope://.",
        ),
    ),
}


@pytest.mark.parametrize("sentence", FAULTS)
def test_validate_tells_a_program_each_part_of_a_fault(
    sentence: str, lorafinetune: Command, write: Callable[[Any], Path], tmp_path: Path
) -> None:
    content, parts = FAULTS[sentence]
    file = write(content) if content else tmp_path / "nothing.yaml"
    code, out, err = lorafinetune("validate", file, "-o", "json")
    assert (code, err) == (64, "")
    expected = dict(zip(PARTS, parts, strict=True))
    assert json.loads(out) == [{"file": str(file), "reason": "ConfigInvalid"} | expected]


def test_validate_tells_a_program_all_that_is_wrong(
    lorafinetune: Command, write: Callable[[Any], Path]
) -> None:
    file = write(
        document({"model": {"source": "file:///m"}, "training": {"extraArgs": {"output_dir": "/x"}}})
    )
    code, out, _ = lorafinetune("validate", file, "-o", "yaml")
    fields = [fault["field"] for fault in yaml.safe_load(out)]
    assert (code, fields) == (64, ["spec.model.source", "spec.training.extraArgs.output_dir"])


def test_validate_tells_a_program_of_a_good_file_that_nothing_is_wrong(
    lorafinetune: Command, write: Callable[[Any], Path]
) -> None:
    assert lorafinetune("validate", write(document()), "-o", "json") == (0, "[]\n", "")


def test_validate_refuses_local_paths_unless_the_run_is_local(
    lorafinetune: Command, write: Callable[[Any], Path], tmp_path: Path
) -> None:
    file = write(document({"model": {"source": f"file://{tmp_path}"}}))
    assert [lorafinetune("validate", file, *option)[0] for option in ([], ["--local"])] == [64, 0]


def test_validate_for_a_local_run_says_which_files_are_not_there(
    lorafinetune: Command, write: Callable[[Any], Path]
) -> None:
    spec = {"model": {"source": "file:///not/a"}, "datasets": [{"source": "file:///not/rows.jsonl"}]}
    code, _, err = lorafinetune("validate", write(document(spec)), "--local")
    model, rows = err.splitlines()
    assert code == 64
    assert re.search(
        r":\d+: ModelNotFound: spec\.model\.source: file:///not/a does not exist\. A path ", model
    )
    assert re.search(
        r":\d+: DatasetNotFound: spec\.datasets\[0\]\.source: file:///not/rows\.jsonl does ", rows
    )


def test_render_prints_arguments_that_yaml_reads(lorafinetune: Command, write: Callable[[Any], Path]) -> None:
    code, out, _ = lorafinetune("render", write(document()))
    assert (code, yaml.safe_load(out)["num_train_epochs"]) == (0, 3.0)


def test_it_says_its_version(lorafinetune: Command) -> None:
    assert lorafinetune("--version") == (0, f"lorafinetune {version('lorafinetune')}\n", "")


def test_crd_prints_the_crd(lorafinetune: Command) -> None:
    code, out, _ = lorafinetune("crd")
    assert (code, yaml.safe_load(out)) == (0, crd())


COMMANDS = tuple(str(command.name or command.callback.__name__) for command in every_command())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_with_an_example(command: str, lorafinetune: Command) -> None:
    code, out, _ = lorafinetune(command, "--help")
    assert code == 0
    assert re.search(f"Example: .*lorafinetune {command}", out)


@pytest.mark.parametrize("command", COMMANDS)
def test_an_example_is_a_call_that_it_takes(command: str) -> None:
    (example,) = re.findall("Example: .*?lorafinetune (.*)", calls.COMMANDS[command].help)
    name, *words = shlex.split(example.partition(" | ")[0])
    assert name == command
    calls.COMMANDS[command].make_context(command, words)


def test_as_a_plugin_of_kubectl_it_is_called_as_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/kubectl-finetune", "list", "--help"])
    with pytest.raises(SystemExit):
        main()
    assert "Usage: kubectl finetune list" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--install-completion", "--show-completion"])
def test_as_a_plugin_of_kubectl_it_leaves_the_completion_of_kubectl_alone(
    option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    shown = []
    for argument in (option, "--help"):
        monkeypatch.setattr(sys, "argv", ["/usr/local/bin/kubectl-finetune", argument])
        with pytest.raises(SystemExit) as exited:
            main()
        shown.append((exited.value.code, *capsys.readouterr()))
    (code, out, err), (_, helped, _) = shown
    assert (code, out, list(tmp_path.iterdir())) == (2, "", [])
    assert "kubectl completes its plugin by itself" in err
    assert option not in helped


def test_bash_completes_a_command_with_the_script_that_it_is_shown(tmp_path: Path) -> None:
    program = (
        'eval "$(lorafinetune --show-completion bash)" && complete -p lorafinetune > complete && '
        "COMP_WORDS=(lorafinetune su) COMP_CWORD=1 && _lorafinetune_completion lorafinetune && "
        'echo "${COMPREPLY[@]}"'
    )
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    shown = subprocess.check_output(
        ["/bin/bash", "--norc", "-c", program], text=True, cwd=tmp_path, env=os.environ | {"PATH": path}
    )
    assert shown == "suspend\n"
    assert " -F _lorafinetune_completion lorafinetune\n" in (tmp_path / "complete").read_text()


HELP = {
    "what stands in brackets": ("chat", "(pip install '.[train]')"),
    "lines that were broken in the source as one paragraph": (
        "validate",
        "with line and field, in the operator's own words. With -o json it is",
    ),
}


@pytest.mark.parametrize("sentence", HELP)
def test_help_shows(sentence: str, lorafinetune: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    command, shown = HELP[sentence]
    monkeypatch.setenv("COLUMNS", "110")
    assert shown in lorafinetune(command, "--help")[1]


COMPLETIONS = {
    "a command": (["su"], ["suspend"]),
    "a reason": (["explain", "Dataset"], ["DatasetInvalid", "DatasetNotFound"]),
    "no run, where there is no cluster": (["watch", "t"], []),
    "a stage": (["logs", "tune", "--stage", "t"], ["train"]),
}


@pytest.mark.parametrize("sentence", COMPLETIONS)
def test_the_shell_is_offered(
    sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words, offered = COMPLETIONS[sentence]
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    assert completer(monkeypatch, capsys)(*words) == [*offered, ":4"]


def test_the_shell_does_not_wait_for_a_server_that_is_silent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        (tmp_path / "config").write_text(kubeconfig(url, b"", "token"))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        begun = time.monotonic()
        assert completer(monkeypatch, capsys)("fetch", "t") == [":4"]
        silent.settimeout(0)
        silent.accept()[0].close()
    assert time.monotonic() - begun < ANSWER_SECONDS


@pytest.mark.parametrize("closing", [signal.SIGPIPE, signal.SIGINT], ids=["a closed pipe", "Ctrl-C"])
def test_a_reader_that_leaves_and_a_person_who_interrupts_see_no_traceback(
    closing: signal.Signals, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "tune.yaml")
    command = [str(Path(sys.executable).with_name("lorafinetune")), "validate", str(tmp_path / "tune.yaml")]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout
    assert child.stderr
    with (tmp_path / "tune.yaml").open("w") as file:
        if closing is signal.SIGINT:
            child.send_signal(closing)
            child.wait(30)
        else:
            child.stdout.close()
            file.write(yaml.safe_dump(document()))
    assert child.wait(30) == (0 if closing is signal.SIGPIPE else 130)
    assert child.stderr.read() == b""
    for pipe in (child.stdout, child.stderr):
        pipe.close()


@pytest.mark.parametrize(
    "arguments", [("validate", "nothing.yaml"), ("--version",)], ids=lambda them: them[0]
)
def test_where_nothing_can_be_written_the_exit_code_still_says_what_it_is(arguments: tuple[str, ...]) -> None:
    program = [str(Path(sys.executable).with_name("lorafinetune")), *arguments]
    with Path("/dev/full").open("w") as full:
        assert subprocess.run(program, stdout=full, stderr=full, check=False).returncode == 64


@pytest.mark.parametrize("imported", ["logging", "typer", "pydantic", "lorafinetune.cli.program"])
@pytest.mark.parametrize(
    "call",
    [("lorafinetune", "validate", "-"), ("kubectl_complete-finetune", "watch", "t")],
    ids=lambda call: call[0],
)
def test_a_person_can_interrupt_what_still_starts(call: tuple[str, ...], imported: str) -> None:
    """Each tells what it imports to a pipe that is soon full, and waits there until it is interrupted."""
    program = [sys.executable, "-X", "importtime", str(Path(sys.executable).with_name(call[0])), *call[1:]]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        program, bufsize=0, stdin=pipe, stdout=pipe, stderr=pipe, pipesize=PIPE_BYTES
    ) as child:
        assert child.stderr
        while child.stderr.readline().rpartition(b"|")[2].strip().decode() != imported:
            assert child.poll() is None
        child.send_signal(signal.SIGINT)
        told = child.stderr.read()
        assert (child.wait(30), b"Traceback" in told) == (130, False), told


@pytest.mark.parametrize(
    ("environment", "is_coloured"),
    [
        pytest.param({"NO_COLOR": ""}, True, id="as it is"),
        pytest.param({"NO_COLOR": "1"}, False, id="with NO_COLOR"),
    ],
)
def test_a_terminal_is_coloured(environment: dict[str, str], is_coloured: bool) -> None:
    terminal, own_end = pty.openpty()
    program = [sys.executable, "-c", "from lorafinetune.cli import main; main()", "validate", "nothing.yaml"]
    told = {"TERM": "xterm-256color", **environment}
    subprocess.run(program, stdout=own_end, stderr=own_end, env=os.environ | told, check=False)
    os.close(own_end)
    with open(terminal, "rb") as screen:
        shown = screen.read1()
    assert b"nothing.yaml" in shown
    assert (b"\x1b[" in shown) == is_coloured


def test_explain_says_what_to_do(lorafinetune: Command) -> None:
    code, out, _ = lorafinetune("explain", "datasetinvalid")
    assert code == 0
    facts = Reason.DATASET_INVALID.facts
    assert [facts.when in out, facts.hint in out, facts.retry.meaning in out] == [True] * 3


def test_explain_lists_all_reasons(lorafinetune: Command) -> None:
    assert [line.split()[0] for line in lorafinetune("explain")[1].splitlines()] == list(Reason)
    assert [each["reason"] for each in json.loads(lorafinetune("explain", "-o", "json")[1])] == list(Reason)


def test_explain_guesses_what_was_meant(lorafinetune: Command) -> None:
    code, _, err = lorafinetune("explain", "DatasetInvalit")
    assert (code, err) == (
        64,
        "ConfigInvalid: there is no reason DatasetInvalit. Did you mean DatasetInvalid?\n",
    )


def test_validate_says_all_that_is_wrong(lorafinetune: Command, write: Callable[[Any], Path]) -> None:
    spec = {"model": {"source": "file:///m"}, "training": {"extraArgs": {"output_dir": "/x"}}}
    code, _, err = lorafinetune("validate", write(document(spec)))
    assert (code, [line.split(": ")[1:3] for line in err.splitlines()]) == (
        64,
        [["ConfigInvalid", "spec.model.source"], ["ConfigInvalid", "spec.training.extraArgs.output_dir"]],
    )


def test_a_file_comes_from_standard_input(
    lorafinetune: Command, write: Callable[[Any], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_of_files, "STANDARD_INPUT", write(document()))
    assert lorafinetune("validate", "-") == (0, "-: LoRAFineTune tune is valid\n", "")


def test_an_unknown_command_ends_with_a_sentence(lorafinetune: Command) -> None:
    code, _, err = lorafinetune("trian")
    assert (code, "No such command 'trian'" in err) == (2, True)


FORMLESS = {
    "no names but of runs": ("explain", "name"),
    "no names of what was fetched": ("fetch", "name"),
    "no columns of a run that has ended": ("run", "wide"),
    "no more columns where there is no list": ("suspend", "wide"),
    "no columns of faults": ("validate", "wide"),
}


@pytest.mark.parametrize("sentence", FORMLESS)
def test_a_form_is_refused_that_a_command_does_not_have(sentence: str, lorafinetune: Command) -> None:
    command, form = FORMLESS[sentence]
    code, out, err = lorafinetune(command, *calls.there(command)[1:], *calls.here(command)[1:], "-o", form)
    assert (code, out) == (2, "")
    assert f"'{form}' is not one of" in err


CHOICES = [
    ("logs", "--stage"),
    *(
        (command, each.opts[0])
        for command, known in calls.COMMANDS.items()
        for each in known.params
        if isinstance(each.default, Enum)
    ),
]
"""Commands, and those of their options that take one of several words."""


@pytest.mark.parametrize(("command", "option"), CHOICES)
def test_a_choice_that_there_is_not_is_refused_in_one_sentence(
    command: str, option: str, lorafinetune: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, out, err = lorafinetune(command, option, "nothing")
    assert (code, out) == (2, "")
    assert re.search(rf"Invalid value for '{option}'[^:]*: 'nothing' is not one of '", err), err


def test_run_names_the_file_of_a_secret_that_is_missing(
    lorafinetune: Command, write: Callable[[Any], Path], tmp_path: Path
) -> None:
    file = write(document())
    code, _, err = lorafinetune("run", file, "--s3", "--runs", tmp_path / "runs", "--secrets", tmp_path)
    assert code == 64
    assert err.startswith(
        f"CredentialsInvalid: Secret s3 has no key AWS_ACCESS_KEY_ID: there is no file {tmp_path}/s3/"
    )
