"""The base and the tuned model answer held-out prompts after the last step, and disturb nothing by it."""

import json
from collections.abc import Callable
from itertools import count, repeat
from pathlib import Path
from typing import Any

import pytest

from builders import merged
from lorafinetune.api.reasons import Reason
from lorafinetune.api.training import Training
from lorafinetune.contract.answers import CUT, MOST_CHARACTERS, Answers
from lorafinetune.contract.arguments import ANSWERS
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.train.fit import Fit
from lorafinetune_stages.train.plan import TrainingPlan
from stages.train_builders import (
    OVERFITTING,
    PROGRESS,
    PROMPT_TOKENS,
    ROWS,
    TRAINING,
    Interrupting,
    Row,
    World,
    random_pairs,
    random_rows,
    random_texts,
    tiny_model,
    world,
)

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]

ACTIVITY = "answering held-out prompts"
EVALUATION: dict[str, Any] = {"evaluation": {"fraction": "0.2", "everySteps": 3}}


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A training that was evaluated on more rows than are asked for."""
    made = world(tmp_path_factory.mktemp("asked"), held_out=random_rows(12, seed=1), **EVALUATION)
    made.train()
    return made


def kept(made: World) -> Answers:
    assert ANSWERS in [file.path for file in made.manifest().files]
    return Answers.decode(json.loads((made.place / ANSWERS).read_text()))


def test_both_answer_to_eight_held_out_prompts(asked: World) -> None:
    told = kept(asked)
    assert (told.asked, len(told.answers), told.tokens, told.quantized) == (8, 8, 128, False)
    assert any(each.base != each.tuned for each in told.answers)
    assert all(each.prompt and each.expected and each.base for each in told.answers)


def test_another_store_has_the_same_ones(asked: World, tmp_path: Path) -> None:
    again = asked.copy(tmp_path)
    again.store.delete(f"trainings/{again.arguments.key}")
    again.train()
    assert kept(again) == kept(asked)


def test_what_goes_on_from_a_checkpoint_has_the_same_ones(asked: World, tmp_path: Path) -> None:
    again = asked.copy(tmp_path)
    assert again.checkpoints()
    assert again.train().resumes == 1
    assert kept(again) == kept(asked)


def test_a_request_to_stop_ends_it_and_the_same_ones_are_made_later(asked: World, tmp_path: Path) -> None:
    again = asked.copy(tmp_path)
    with pytest.raises(StageError) as stopped:
        again.train_with(Interrupting(tmp_path / PROGRESS, ACTIVITY))
    assert stopped.value.reason is Reason.PREEMPTED
    assert again.train().adapter.digest == adapter_of(asked)
    assert kept(again) == kept(asked)


def test_what_fails_is_a_warning_and_the_result_is_whole(
    asked: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from transformers import GenerationMixin

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of memory")

    again = asked.copy(tmp_path)
    monkeypatch.setattr(GenerationMixin, "generate", fail)
    assert again.train().adapter.digest == adapter_of(asked)
    assert "there are no answers to held-out prompts: out of memory" in caplog.text
    assert ANSWERS not in [file.path for file in again.manifest().files]


def adapter_of(made: World) -> str:
    result = made.manifest().result
    assert result
    digest: str = result["adapter"]["digest"]
    return digest


MADE: dict[str, tuple[dict[str, Any], int]] = {
    "conversations that are padded": ({"packing": "none"}, 3),
    "the best of several adapters": ({**OVERFITTING, "checkpoint": {"select": "best"}}, 3),
    "a training that is stopped early": (
        {**OVERFITTING, "checkpoint": {"earlyStopping": {"patience": 1}}},
        3,
    ),
    "pairs, by their chosen answer": (
        {
            "rows": random_pairs(ROWS),
            "held_out": random_pairs(3, seed=1),
            "lora": {"dropout": "0"},
            "objective": "dpo",
        },
        3,
    ),
    "plain texts, which have no prompts": (
        {"rows": random_texts(ROWS), "held_out": random_texts(3), "objective": "pt"},
        0,
    ),
}


@pytest.mark.parametrize("sentence", MADE)
def test_answers_of(sentence: str, tmp_path: Path) -> None:
    fields, number = MADE[sentence]
    made = world(tmp_path, **{**EVALUATION, **fields})
    made.train()
    if number:
        assert len(kept(made).answers) == number
    else:
        assert ANSWERS not in [file.path for file in made.manifest().files]


Pair = tuple[Any, Any]
ROOMS = {"all at once": 4096, "one after the other": 1}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A tuned model that is in training, and its tokenizer."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoTokenizer, LlamaForCausalLM

    directory = tiny_model(tmp_path_factory.mktemp("tiny"))
    base = LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32)
    base.generation_config.update(do_sample=True, num_beams=4, repetition_penalty=9.0, max_length=7)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, lora_dropout=0.5)
        return get_peft_model(base, config).train(), AutoTokenizer.from_pretrained(directory)


def ask(pair: Pair, rows: list[Row], room: int = 4096, **given: Any) -> Answers | None:
    from lorafinetune_stages.train.generation import answers

    training = Training.decode(merged(TRAINING, {"cutoffLength": given.pop("cutoff", 32)}))
    plan = TrainingPlan(Fit(1, 1, False, room))
    return answers(*pair, rows, training, plan, given.pop("stopped", lambda: False), **given)


def own_answer(pair: Pair, prompt: list[int], tokens: int) -> str:
    """Token by token, without a cache and alone."""
    import torch

    model, tokenizer = pair
    model.eval()
    said = list(prompt)
    with torch.no_grad():
        for _ in range(tokens):
            said.append(int(model(torch.tensor([said])).logits[0, -1].argmax()))
            if said[-1] == tokenizer.eos_token_id:
                break
    model.train()
    ended = said[-1] == tokenizer.eos_token_id
    text: str = tokenizer.decode(said[len(prompt) :], skip_special_tokens=True).strip()
    return text if ended else text + CUT


@pytest.mark.parametrize("room", ROOMS.values(), ids=ROOMS)
def test_they_are_the_most_likely_tokens_whatever_the_base_is_configured_to(pair: Pair, room: int) -> None:
    rows = random_rows(4, seed=2)
    told = ask(pair, rows, room)
    model, tokenizer = pair
    prompts = [list(row["input_ids"][:PROMPT_TOKENS]) for row in rows]
    tuned = {own_answer(pair, prompt, 32 - PROMPT_TOKENS) for prompt in prompts}
    with model.disable_adapter():
        base = {own_answer(pair, prompt, 32 - PROMPT_TOKENS) for prompt in prompts}
    assert told
    assert {each.tuned for each in told.answers} == tuned
    assert {each.base for each in told.answers} == base != tuned
    assert {each.prompt for each in told.answers} == {tokenizer.decode(prompt) for prompt in prompts}


def test_nothing_is_changed_by_them(pair: Pair) -> None:
    import torch

    model, _ = pair
    before = torch.random.get_rng_state()
    own = model.get_base_model().generation_config
    assert ask(pair, random_rows(4))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert model.training
    assert model.get_base_model().generation_config is own
    assert all("lora_" not in name or each.requires_grad for name, each in model.named_parameters())


def ticking(seconds: float) -> Callable[[], float]:
    """A clock that is so much later each time it is asked."""
    return map(float.__mul__, map(float, count()), repeat(seconds)).__next__


def test_time_that_is_short_is_shared_and_what_is_said_by_then_is_told(pair: Pair) -> None:
    told, whole = ask(pair, random_rows(4), room=1, clock=ticking(1.0)), ask(pair, random_rows(4))
    assert told
    assert whole
    assert (told.asked, len(told.answers)) == (4, 4)
    for short, long in zip(told.answers, whole.answers, strict=True):
        for side in ("base", "tuned"):
            said, wanted = getattr(short, side), getattr(long, side)
            assert said == wanted or (said.endswith(CUT) and len(said) < len(wanted))
    assert told != whole


def test_what_there_is_no_time_for_is_left_out_and_said(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    told = ask(pair, random_rows(4), room=1, clock=ticking(20.0))
    assert told
    assert (told.asked, len(told.answers)) == (4, 0)
    assert "there was time for 0 of 4 answers to held-out prompts" in caplog.text


def test_a_request_to_stop_is_heard_after_every_token(pair: Pair) -> None:
    heard: list[bool] = []

    def stopped() -> bool:
        heard.append(True)
        return len(heard) > 3

    assert ask(pair, random_rows(4), room=1, stopped=stopped) is None
    assert len(heard) < 20


def test_a_text_has_a_bound(pair: Pair) -> None:
    long = [random_rows(1, longest=7)[0]["input_ids"][0]] * 5000
    row = {"input_ids": [*long, *long], "attention_mask": [1] * 10000, "labels": [-100] * 5000 + long}
    (answer,) = (ask(pair, [row], cutoff=5001) or Answers(asked=0, tokens=0)).answers
    assert (len(answer.prompt), answer.prompt[0]) == (MOST_CHARACTERS, CUT)
    assert (len(answer.expected), answer.expected[-1]) == (MOST_CHARACTERS, CUT)


QUESTIONS: dict[str, tuple[Row, tuple[list[int], list[int]] | None]] = {
    "a conversation is asked for its last answer": (
        {"input_ids": [1, 2, 3, 4, 5], "labels": [-100, 2, -100, 4, 5]},
        ([1, 2, 3], [4, 5]),
    ),
    "what is not learned behind it is none of it": (
        {"input_ids": [1, 2, 3, 4], "labels": [-100, 2, 3, -100]},
        ([1], [2, 3]),
    ),
    "a pair is asked for the chosen answer": (
        {"chosen_input_ids": [1, 2], "chosen_labels": [-100, 2], "rejected_labels": [-100, 3]},
        ([1], [2]),
    ),
    "a text has no prompt": ({"input_ids": [1, 2], "labels": [1, 2]}, None),
    "a row of which nothing is learned has no answer": ({"input_ids": [1], "labels": [-100]}, None),
    "a row without a token has neither": ({"input_ids": [], "labels": []}, None),
}


@pytest.mark.parametrize("sentence", QUESTIONS)
def test_question(sentence: str) -> None:
    from lorafinetune_stages.train.generation import Question, question

    row, expected = QUESTIONS[sentence]
    assert question(row) == (Question(*expected) if expected else None)
