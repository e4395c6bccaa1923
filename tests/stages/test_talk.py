"""A person asks the base model and the tuned one the same questions."""

import io
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lorafinetune_stages import talk
from stages.train_builders import tiny_model


def an_adapter(base: Path, directory: Path) -> Path:
    """An adapter that changes what the model says."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
        get_peft_model(LlamaForCausalLM.from_pretrained(base), config).save_pretrained(directory)
    return directory


def test_both_answer_and_each_stays_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tiny_model(tmp_path / "tiny")
    places = [str(base), str(an_adapter(base, tmp_path / "adapter"))]
    assert talk.main(["--tokens", "8", *places, "--", "Hi", "Hi"]) == 0
    told = blocks(capsys.readouterr().out)
    assert [who for who, _ in told] == ["you", "base", "tuned"] * 2
    assert told[:3] == told[3:]
    assert told[1][1] != told[2][1]
    monkeypatch.setattr("sys.stdin", io.StringIO("Hi\n\nAnd now?\n"))
    assert talk.main(["--tokens", "8", *places]) == 0
    typed = blocks(capsys.readouterr().out)
    assert typed[:2] == told[1:3]
    assert len(typed) == 4


@pytest.fixture
def talking(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The program as a person starts it, at whose standard input and output a test is."""
    base = tiny_model(tmp_path / "tiny")
    options = ["--tokens", "8", str(base), str(an_adapter(base, tmp_path / "adapter"))]
    command = [sys.executable, "-m", "lorafinetune_stages.talk", *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as program:
        yield program
        program.kill()


def test_a_person_who_interrupts_it_is_shown_no_traceback(talking: subprocess.Popen[str]) -> None:
    assert talking.stdin
    assert talking.stdout
    talking.stdin.write("Hi\n")
    talking.stdin.flush()
    assert any(line.startswith("tuned") for line in talking.stdout)
    talking.send_signal(signal.SIGINT)
    assert talking.wait() == 130
    assert "Traceback" not in said_beside(talking)


def test_a_reader_who_leaves_is_shown_no_traceback(talking: subprocess.Popen[str]) -> None:
    assert talking.stdin
    assert talking.stdout
    talking.stdout.close()
    talking.stdin.write("Hi\n")
    talking.stdin.close()
    assert talking.wait() == 0
    assert "Traceback" not in said_beside(talking)


def said_beside(program: subprocess.Popen[str]) -> str:
    assert program.stderr
    return program.stderr.read()


def test_a_model_that_is_damaged_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = tiny_model(tmp_path / "tiny")
    adapter = an_adapter(base, tmp_path / "adapter")
    for file in base.glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:100])
    assert talk.program([str(base), str(adapter), "Hi"]) == 64
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("ArtifactCorrupt: the models can't be loaded: ")
    assert told.err.count("\n") == 1


def test_without_a_chat_template_both_go_on_with_the_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tiny_model(tmp_path / "tiny")
    (base / "chat_template.jinja").unlink()
    adapter = an_adapter(base, tmp_path / "adapter")
    assert talk.main(["--tokens", "8", str(base), str(adapter), "--", "Once upon"]) == 0
    told = capsys.readouterr()
    assert [who for who, _ in blocks(told.out)] == ["you", "base", "tuned"]
    assert told.err == talk.COMPLETING


FAILING = {
    "a template that refuses": "{{ raise_exception('no system prompt.') }}",
    "a template that is broken": "{{",
}


@pytest.mark.parametrize("sentence", FAILING)
def test_what_fails_while_answering_is_one_line(
    sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tiny_model(tmp_path / "tiny")
    (base / "chat_template.jinja").write_text(FAILING[sentence])
    assert talk.program([str(base), str(an_adapter(base, tmp_path / "adapter")), "Hi"]) == 64
    told = capsys.readouterr()
    assert [who for who, _ in blocks(told.out)] == ["you"]
    assert told.err.startswith("NoAnswer: the models can't answer: ")
    assert told.err.count("\n") == 1
    assert ".." not in told.err


def blocks(printed: str) -> list[tuple[str, str]]:
    """Who said what: a line that begins with a name, and those that are indented below it."""
    found: list[tuple[str, str]] = []
    for line in printed.splitlines():
        if line[:7].strip():
            found.append((line[:7].strip(), line[7:]))
        else:
            found[-1] = (found[-1][0], f"{found[-1][1]}\n{line[7:]}")
    return found
