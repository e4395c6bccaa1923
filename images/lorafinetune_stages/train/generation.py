"""What the base and the tuned model say to held-out prompts, side by side, for a person to read.

Answers are greedy, and the training's seed draws the prompts, so the same training has the same answers. They
are made after the last step and use no random number. The result does not depend on them, so a failure here
is only a warning.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Any, Final

import torch
from torch import Tensor
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from lorafinetune.api.training import Training
from lorafinetune.contract.answers import CUT, MOST_ANSWERS, MOST_CHARACTERS, Answer, Answers
from lorafinetune_stages.train.evaluation import compilation_off, mixed_precision
from lorafinetune_stages.train.packing import IGNORED, PADDING
from lorafinetune_stages.train.plan import TrainingPlan
from lorafinetune_stages.train.process_group import ALONE, ProcessGroup

log = logging.getLogger(__name__)

MOST_TOKENS: Final = 128
SECONDS: Final = 60.0
"""For all answers of both."""
MOST_LOOKED_AT: Final = 256
"""Rows, until enough have a prompt."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Question:
    """One prompt and the answer that is known to it, in tokens."""

    prompt: list[int]
    expected: list[int]


@dataclass(frozen=True)
class Generated:
    """tokens: without those that end an answer. ended: whether it came to its end."""

    tokens: list[int]
    ended: bool

    @property
    def is_any(self) -> bool:
        return self.ended or bool(self.tokens)


def answers(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    training: Training,
    plan: TrainingPlan,
    stopped: Callable[[], bool],
    group: ProcessGroup = ALONE,
    clock: Callable[[], float] = time.monotonic,
) -> Answers | None:
    """None where no row has a prompt, where `stopped` says so on the way, and where it fails. model: a
    PeftModel, whose base is the one that the adapter is shipped for, or the same in 4 bits. group: ranks that
    answer together, as they must where the base is split over them."""
    asked = questions(rows, training.seed)
    if not asked:
        return None
    room = plan.fit.pack_tokens or plan.fit.micro_batch * training.cutoff_length
    try:
        pair = _Pair(model, tokenizer, training.cutoff_length, stopped, group, clock)
        with _speaking(model, plan):
            found = pair.answers(list(_batches(asked, room)))
    except Exception as problem:  # the training is done, and is not lost for want of some answers
        log.warning("there are no answers to held-out prompts: %s", problem)
        return None
    if len(found) < len(asked):
        log.warning("there was time for %d of %d answers to held-out prompts", len(found), len(asked))
    told = Answers(asked=len(asked), tokens=MOST_TOKENS, quantized=plan.nf4, answers=tuple(found))
    return None if stopped() else told


def questions(rows: Sequence[Row], seed: int) -> list[Question]:
    """The same ones for a seed, the shortest first."""
    order = Random(seed).sample(range(len(rows)), min(len(rows), MOST_LOOKED_AT))  # noqa: S311 - no secret
    found = filter(None, (question(rows[at]) for at in order))
    return sorted(islice(found, MOST_ANSWERS), key=lambda each: len(each.prompt))


def question(row: Row) -> Question | None:
    """The last answer of a conversation, or of a pair the chosen one, and what is before it; None where
    nothing is, as in plain texts."""
    side = "" if "labels" in row else "chosen_"
    tokens, labels = list(row[f"{side}input_ids"]), list(row[f"{side}labels"])
    end = 1 + max((at for at, label in enumerate(labels) if label != IGNORED), default=-1)
    start = 1 + max((at for at, label in enumerate(labels[:end]) if label == IGNORED), default=-1)
    return Question(tokens[:start], tokens[start:end]) if 0 < start < end else None


def _batches(questions: Sequence[Question], room: int) -> Iterator[list[Question]]:
    """Of as many as the memory has room for, in tokens. questions: the shortest first."""
    batch: list[Question] = []
    for each in questions:
        if batch and (len(batch) + 1) * (len(each.prompt) + MOST_TOKENS) > room:
            yield batch
            batch = []
        batch.append(each)
    yield batch


@contextmanager
def _speaking(model: Any, plan: TrainingPlan) -> Iterator[None]:
    """While this is entered, the model can generate. Its own configuration of that counts for nothing: it
    may ask for samples or beams. Nor does our attention, which has no mask for padding, and no cache."""
    base, was_training = model.get_base_model(), model.training
    own, attention = base.generation_config, base.config._attn_implementation
    base.generation_config = GenerationConfig()
    if plan.optimizations:
        base.set_attn_implementation("sdpa")
    model.eval()
    try:
        with compilation_off(plan), mixed_precision(plan, model.device):
            yield
    finally:
        model.train(was_training)
        base.generation_config = own
        if plan.optimizations:
            base.set_attn_implementation(attention)


class _Pair:
    """The base and the tuned model. room: tokens of the longest conversation that they know."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        room: int,
        stopped: Callable[[], bool],
        group: ProcessGroup,
        clock: Callable[[], float],
    ) -> None:
        self._model = model
        self._base = model.get_base_model()
        self._tokenizer = tokenizer
        self._ends = _ends(self._base, tokenizer)
        self._room = room
        self._stopped = stopped
        self._group = group
        self._clock = clock
        self._until = clock() + SECONDS

    def answers(self, batches: Sequence[Sequence[Question]]) -> list[Answer]:
        """Of those to which both have said anything."""
        found = []
        for done, batch in enumerate(batches):
            turns = 2 * (len(batches) - done)
            base, tuned = self._say(batch, turns, tuned=False), self._say(batch, turns - 1, tuned=True)
            said = zip(batch, base, tuned, strict=True)
            found += [self._answer(*each) for each in said if each[1].is_any and each[2].is_any]
        return found

    def _say(self, batch: Sequence[Question], turns: int, tuned: bool) -> list[Generated]:
        """turns: that are left, among which the time is shared."""
        until = self._clock() + (self._until - self._clock()) / turns
        prompts = [each.prompt for each in batch]
        with nullcontext() if tuned else self._model.disable_adapter():
            said = self._continued(
                prompts, lambda: self._group.any(self._stopped() or self._clock() >= until)
            )
        return [self._ended(tokens) for tokens in said]

    def _continued(self, prompts: Sequence[list[int]], is_over: Callable[[], bool]) -> list[list[int]]:
        """What is said to the prompts; nothing where it is over already."""
        longest = max(map(len, prompts))
        most = min(MOST_TOKENS, self._room - longest)
        if most < 1 or is_over():
            return [[] for _ in prompts]
        missing = [longest - len(prompt) for prompt in prompts]
        padded = [[PADDING] * count + prompt for count, prompt in zip(missing, prompts, strict=True)]
        seen = [[0] * count + [1] * (longest - count) for count in missing]
        said = self._base.generate(
            input_ids=torch.tensor(padded, device=self._base.device),
            attention_mask=torch.tensor(seen, device=self._base.device),
            generation_config=GenerationConfig(
                max_new_tokens=most,
                do_sample=False,
                use_cache=True,
                eos_token_id=self._ends or None,
                pad_token_id=PADDING,
            ),
            stopping_criteria=StoppingCriteriaList([_Over(is_over)]),
        )
        found: list[list[int]] = said[:, longest:].tolist()
        return found

    def _ended(self, tokens: list[int]) -> Generated:
        end = next((at for at, token in enumerate(tokens) if token in self._ends), None)
        return Generated(tokens[:end], end is not None)

    def _answer(self, question: Question, base: Generated, tuned: Generated) -> Answer:
        prompt = str(self._tokenizer.decode(question.prompt))
        if len(prompt) > MOST_CHARACTERS:
            prompt = CUT + prompt[1 - MOST_CHARACTERS :]
        return Answer(
            prompt=prompt,
            expected=self._text(Generated(question.expected, ended=True)),
            base=self._text(base),
            tuned=self._text(tuned),
        )

    def _text(self, generated: Generated) -> str:
        text = str(self._tokenizer.decode(generated.tokens, skip_special_tokens=True)).strip()
        if generated.ended and len(text) <= MOST_CHARACTERS:
            return text
        return text[: MOST_CHARACTERS - 1] + CUT


def _ends(base: Any, tokenizer: Any) -> list[int]:
    """Tokens that end an answer, by the base and by the template."""
    own = base.generation_config.eos_token_id
    known = [*(own if isinstance(own, list) else [own]), tokenizer.eos_token_id]
    return sorted({token for token in known if token is not None})


class _Over(StoppingCriteria):  # type: ignore[misc]  # transformers is not typed
    """Asked after every token."""

    def __init__(self, is_over: Callable[[], bool]) -> None:
        self._is_over = is_over

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        return torch.full((len(input_ids),), self._is_over(), device=input_ids.device)
