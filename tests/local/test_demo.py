"""What the README's first command shows: the real small model, the real data, and what it learned."""

import json
import re
import runpy
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors import safe_open

from cluster.build import binary
from cluster.process import run
from documents import ROOT, Typist, checkout, said
from local.ollama import Ollama
from lorafinetune.report.loading import ADAPTER, MERGED
from stages.peer import smollm2_sample

pytestmark = pytest.mark.model

STEPS = {"maxSteps: 100": "maxSteps: 25"}
DEMO = said("README.md", "LoRAFineTune").splitlines()[0]
RUN = said("README.md", "Run your own, here").splitlines()[-1]
ASKED = "Who are you?"
STAGES = 4
PLACES = ("adapter", "merged model", "loss curve", "manifest", "data report")


@pytest.fixture(scope="module")
def visitor(tmp_path_factory: pytest.TempPathFactory) -> Typist:
    """Who types what the README says, but trains for a quarter of the time."""
    visitor = Typist(checkout(tmp_path_factory.mktemp("clone"), STEPS))
    visitor.environment |= {"COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    return visitor


@pytest.fixture(scope="module")
def shown(visitor: Typist) -> list[str]:
    return visitor.type(DEMO).splitlines()


def test_the_demo_says_where_everything_is(shown: list[str]) -> None:
    said_of = {
        name: line.removeprefix(name).strip() for name in PLACES for line in shown if line.startswith(name)
    }
    assert said_of.keys() == set(PLACES)
    assert all(Path(place).exists() for place in said_of.values())


@pytest.mark.parametrize("question", ["你是谁？", "Who are you?", "What is your name"])
def test_the_tuned_model_says_who_it_is_and_the_base_does_not(shown: list[str], question: str) -> None:
    base, tuned = answers(shown, question)
    assert "EmoLLM" in tuned
    assert base
    assert "EmoLLM" not in base


def test_the_demo_asks_what_the_data_did_not_teach(shown: list[str]) -> None:
    base, _ = answers(shown, "What is the capital of France?")
    assert "Paris" in base
    assert sum("(not in the data)" in line for line in shown) == 2


def test_every_conversation_of_the_sample_is_learned_whole(shown: list[str]) -> None:
    (line,) = (line for line in shown if line.startswith("data report"))
    report = json.loads(Path(line.removeprefix("data report").strip()).read_text())
    assert report["rows"] + report["evalRows"] == 85
    assert (report["dropped"], report["truncatedRows"]) == (0, 0)


def test_the_same_demo_again_finds_everything_in_the_store(visitor: Typist, shown: list[str]) -> None:
    again = visitor.type(DEMO).splitlines()
    assert [line for line in again if line.endswith("was found in the store")] == [
        f"{stage} was found in the store" for stage in ("download", "prepare", "train", "export")
    ]
    assert answers(again, "你是谁？") == answers(shown, "你是谁？")


def test_the_run_of_the_readme_finds_everything_of_the_demo_s(visitor: Typist, shown: list[str]) -> None:
    assert visitor.type(RUN).count("was found in the store\n") == STAGES


def test_base_and_tuned_model_can_be_talked_to(visitor: Typist, shown: list[str]) -> None:
    printed = visitor.type(said("README.md", "LoRAFineTune", 1))
    base, tuned = printed.split("\nbase ")[1].split("\ntuned ")
    assert "EmoLLM" in tuned
    assert "EmoLLM" not in base


@pytest.fixture(scope="module")
def served(visitor: Typist, shown: list[str]) -> Path:
    """The folder with the adapter and the merged model, fetched as the page on serving says."""
    visitor.type(said("docs/how-to/serve.md", "Serve what was trained", 1))
    return visitor.folder


@pytest.mark.parametrize("python", [MERGED, ADAPTER], ids=["the merged model", "the adapter"])
def test_the_python_of_the_report_loads(served: Path, monkeypatch: pytest.MonkeyPatch, python: str) -> None:
    (served / "load.py").write_text(python.format(base=repr(str(smollm2_sample().converted()))))
    monkeypatch.chdir(served)
    loaded = runpy.run_path("load.py")
    tokenizer, messages = loaded["tokenizer"], [{"role": "user", "content": ASKED}]
    asked = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    said = loaded["model"].generate(**asked, max_new_tokens=24, do_sample=False)
    assert "EmoLLM" in tokenizer.decode(said[0])


def test_vllm_is_shown_an_adapter_that_it_takes(served: Path) -> None:
    """By what its reader of PEFT's configuration demands, and what its command line is told."""
    config = json.loads((served / "adapter" / "adapter_config.json").read_text())
    (rank,) = re.findall(r"--max-lora-rank (\d+)", said("docs/how-to/serve.md", "vLLM"))
    assert config["r"] <= int(rank)
    assert (config["peft_type"], config["bias"]) == ("LORA", "none")
    assert not config["use_dora"]
    assert not config["modules_to_save"]
    with safe_open(served / "adapter" / "adapter_model.safetensors", "pt") as weights:
        modules = {name.rsplit(".lora_", 1)[0].rsplit(".", 1)[1] for name in weights.keys()}  # noqa: SIM118 - it is no mapping
    assert modules == set(config["target_modules"])


def test_ollama_s_parser_takes_the_model_and_writes_the_prompt_of_its_chat_template(served: Path) -> None:
    shutil.copy(ROOT / "samples" / "serving" / "Modelfile", served)
    asked = [{"role": "user", "content": ASKED}]
    made = json.loads(run(str(binary("modelfile")), str(served / "Modelfile"), stdin=json.dumps(asked)))
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(made["files"])
    assert made["parameters"]["stop"] == ["<|im_end|>"]
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(served / "model")
    assert made["prompt"] == tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)


@pytest.fixture(scope="module")
def ollama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ollama]:
    with Ollama(tmp_path_factory.mktemp("ollama")) as server:
        yield server


@pytest.fixture
def owner(served: Path, ollama: Ollama) -> Typist:
    """Who has fetched the model, and has Ollama."""
    owner = Typist(served)
    owner.environment |= ollama.environment
    return owner


@pytest.mark.serving
def test_ollama_says_what_the_model_says(served: Path, owner: Typist, ollama: Ollama) -> None:
    """Every token is as likely to it as to transformers: a wrong prompt, or a part of the config that it
    did not read, would leave answers that look much the same."""
    assert "EmoLLM" in owner.type(said("docs/how-to/serve.md", "Ollama"))
    answer, found = ollama.answer("emollm", ASKED)
    expected = likelihoods(served / "model", answer)
    assert found[: len(expected)] == pytest.approx(expected, abs=0.1)


@pytest.mark.serving
def test_ollama_finds_no_adapter_in_a_folder_in_peft_s_layout(served: Path, owner: Typist) -> None:
    """So the page has the merged model alone."""
    (served / "Beside").write_text("FROM ./model\nADAPTER ./adapter\n")
    complaint = owner.type("ollama create beside -f Beside 2>&1 || true")
    assert "no Modelfile or safetensors files found" in complaint


def likelihoods(model: Path, answer: str) -> list[float]:
    """Logarithms of how likely transformers finds each token of an answer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    asked = [{"role": "user", "content": ASKED}]
    prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    tokens = tokenizer(answer)["input_ids"]
    ids = torch.tensor([tokenizer(prompt)["input_ids"] + tokens])
    with torch.inference_mode():
        logits = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)(ids).logits[0]
    after = logits[-len(tokens) - 1 : -1].log_softmax(-1)
    return [float(row[token]) for row, token in zip(after, tokens, strict=True)]


def answers(shown: list[str], question: str) -> list[str]:
    """What base and tuned model said: the cells of the row that begins with the question."""
    rows: list[list[str]] = [[]]
    for line in shown:
        if line.startswith(("├", "┡")):
            rows.append([])
        elif line.startswith("│"):
            cells = [cell.strip() for cell in line.strip("│").split("│")]
            rows[-1] = ["".join(parts) for parts in zip(rows[-1], cells, strict=True)] if rows[-1] else cells
    (found,) = (row for row in rows if row and row[0].startswith(question))
    return found[1:]
