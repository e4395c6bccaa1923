"""A store as download and prepare leave it, with a tiny model that trains in a second, and the arguments
of train and export that go with it.

The tiny model is a real LLaMA with random weights; its tokenizer knows bytes and the marks of a chat.
"""

import json
import os
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Final

from builders import merged
from lorafinetune.api.datasets import Dataset
from lorafinetune.api.exports import Export
from lorafinetune.api.sources import BaseModelSource, Storage
from lorafinetune.api.spec import LoRAFineTuneSpec
from lorafinetune.api.status import DatasetStatus, ModelStatus, StageName
from lorafinetune.api.training import Training
from lorafinetune.contract import keys
from lorafinetune.contract.arguments import ANSWERS, COMPARED, ExportArguments, TrainArguments, place
from lorafinetune.contract.memory import KEPT_LENGTHS
from lorafinetune.contract.outcome import ExportResult, Progress, TrainResult
from lorafinetune.core.training import render
from lorafinetune_stages import export, train
from lorafinetune_stages.prepare.output import Prepared
from lorafinetune_stages.progress import Reporter
from lorafinetune_stages.runtime import Context
from lorafinetune_stages.store import Store
from lorafinetune_stages.store.directory import DirectoryStore
from lorafinetune_stages.store.manifest import Manifest, commit_manifest, read_manifest
from lorafinetune_stages.store.transfer import upload_tree
from lorafinetune_stages.train.states import states_at

STORE: Final = "s3://bucket/runs"
MODEL: Final = "hf://example/tiny"
COMMIT: Final = "c0ffee"
PROGRESS: Final = "progress.json"
PREPARED: Final = keys.digest("prepared")
MARKS: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
VOCABULARY: Final = 256 + len(MARKS)
PROMPT_TOKENS: Final = 5
BOUND_SECONDS: Final = 120
ROWS: Final = 10
"""With a batch of 4: three optimizer steps in an epoch, the last one of half a batch."""

TRAINING: Final[Mapping[str, Any]] = {
    "lora": {"rank": 4, "alpha": 8, "dropout": "0.1"},
    "epochs": "2",
    "learningRate": "1e-2",
    "cutoffLength": 32,
    "batchSize": 4,
}
"""Short, with what makes a resume hard: dropout, and an epoch's end."""

OVERFITTING: Final[Mapping[str, Any]] = {
    "epochs": "4",
    "learningRate": "5e-2",
    "scheduler": "constant",
    "evaluation": {"fraction": "0.2", "everySteps": 1},
    "checkpoint": {"every": 1, "keep": "all"},
}
"""Twelve steps: with the rows of `partly_known` held out, the loss on them is lowest after step 4."""

Row = Mapping[str, list[int]]


class Interrupting(Reporter):
    """Has this process sent SIGTERM when a step is reported, or when an activity begins."""

    def __init__(self, path: Path, moment: int | str) -> None:
        super().__init__("train", path)
        self._moment = moment

    def begin(self, activity: str, total: int | None, unit: str, done: int = 0) -> None:
        super().begin(activity, total, unit, done)
        self._interrupt(activity)

    def update(self, **changes: object) -> None:
        super().update(**changes)
        self._interrupt(changes.get("done"))

    def _interrupt(self, moment: object) -> None:
        if moment == self._moment:
            os.kill(os.getpid(), signal.SIGTERM)


@dataclass(frozen=True)
class World:
    """One store, and the arguments of one training in it."""

    root: Path
    store: DirectoryStore
    arguments: TrainArguments

    def training(self, **fields: Any) -> "World":
        """Another training on the same model and rows. fields: over those of TRAINING."""
        return replace(self, arguments=train_arguments(self.store, self.arguments.model, fields))

    def train(self, **changes: Any) -> TrainResult:
        """Runs the stage in a fresh scratch directory. changes: of the arguments."""
        return train.run(self.arguments.model_copy(update=changes), self._context(self._reporter("train")))

    def interrupted_train(self, moment: int | str) -> TrainResult:
        """Runs the stage, and asks it to stop at a step or an activity."""
        return self.train_with(Interrupting(self.root / PROGRESS, moment))

    def train_with(self, reporter: Reporter) -> TrainResult:
        return train.run(self.arguments, self._context(reporter))

    def copy(self, root: Path) -> "World":
        """The same store and arguments in another place, with no training finished."""
        shutil.copytree(self.store.root, stand_in(root).root)
        copied = replace(self, root=root, store=stand_in(root))
        (copied.place / "manifest.json").unlink(missing_ok=True)
        return copied

    def export(self, wanted: Export, trained: str = "") -> ExportResult:
        arguments = ExportArguments(
            storage=self.arguments.storage,
            model=self.arguments.model,
            trained=trained or self.arguments.key,
            export=wanted,
        )
        return export.run(arguments, self._context(self._reporter("export")))

    @property
    def place(self) -> Path:
        """The directory of the training's output."""
        return self.store.root / place("trainings", self.arguments.key)

    def checkpoints(self) -> list[int]:
        """Steps of the complete checkpoints."""
        return self.complete("checkpoints")

    def complete(self, kind: str) -> list[int]:
        """Steps of the states of that kind which have a manifest."""
        states = states_at(self.store, f"{place('trainings', self.arguments.key)}/{kind}")
        return sorted({state.step for state, is_complete in states.items() if is_complete})

    def state(self, step: int, kind: str = "checkpoints") -> Path:
        """The directory in which the newest attempt left that of a step."""
        states = states_at(self.store, f"{place('trainings', self.arguments.key)}/{kind}")
        return self.place / kind / next(state.path for state in states if state.step == step)

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of the log without their timings, which no two runs have in common."""
        lines = (self.place / "metrics.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        return [{name: row[name] for name in row if name != "tokens_per_second"} for row in rows]

    def compared(self) -> dict[str, Any]:
        """What each held-out row costs the base and the tuned model."""
        assert COMPARED in [file.path for file in self.manifest().files]
        found: dict[str, Any] = json.loads((self.place / COMPARED).read_text())
        return found

    def answers(self) -> dict[str, Any]:
        """What the base and the tuned model answered."""
        found: dict[str, Any] = json.loads((self.place / ANSWERS).read_text())
        return found

    def manifest(self) -> Manifest:
        found = read_manifest(self.store, place("trainings", self.arguments.key))
        assert found is not None
        return found

    def progress(self) -> Progress:
        return Progress.model_validate_json((self.root / PROGRESS).read_text())

    def _reporter(self, stage: StageName) -> Reporter:
        return Reporter(stage, self.root / PROGRESS)

    def _context(self, reporter: Reporter) -> Context:
        candidates = (self.root / f"scratch-{number}" for number in count())
        scratch = next(path for path in candidates if not path.exists())
        scratch.mkdir()
        return Context(self.store, scratch, reporter)


def wait_for_checkpoint(made: World, step: int) -> None:
    """Until that of a step is complete, which is sent while the training goes on."""
    deadline = time.monotonic() + BOUND_SECONDS
    while step not in made.checkpoints():
        assert time.monotonic() < deadline, "no checkpoint is sent"
        time.sleep(0.01)


def world(
    root: Path,
    model: Path | None = None,
    rows: Sequence[Row] = (),
    held_out: Sequence[Row] = (),
    **fields: Any,
) -> World:
    """A store below `root`. model: directory of another base model. fields: over those of TRAINING."""
    store = stand_in(root)
    base = put_model(store, model or tiny_model(root / "tiny"))
    held_out = held_out or random_rows(3, seed=1)
    put_dataset(store, root / "dataset", rows or random_rows(ROWS), held_out)
    return World(root, store, train_arguments(store, base, fields))


def stand_in(root: Path) -> DirectoryStore:
    """The directory below `root / "buckets"` that stands in for the store."""
    return DirectoryStore(root / "buckets" / STORE.removeprefix("s3://"), STORE)


def train_arguments(store: Store, model: ModelStatus, fields: Mapping[str, Any]) -> TrainArguments:
    """With a key that the fields shape, as prepare makes it."""
    training = Training.decode(merged(TRAINING, fields))
    spec = LoRAFineTuneSpec(
        model=BaseModelSource(source=model.source),
        datasets=(Dataset(source="s3://data/rows.json"),),
        training=training,
        storage=Storage(uri=store.uri),
    )
    reads = {"prepared": PREPARED, "model": model.digest}
    return TrainArguments(
        storage=spec.storage,
        model=model,
        key=keys.key("train", {"training": training.encode()}, reads),
        prepared=PREPARED,
        training=training,
        config=render(spec),
        gpus=0,
    )


def put_model(store: Store, directory: Path, source: str = MODEL) -> ModelStatus:
    where = place("models", keys.source_key(source, COMMIT))
    files = upload_tree(store, directory, where)
    key = keys.source_key(source, COMMIT)
    manifest = commit_manifest(store, where, "models", key, files, {}, None)
    return ModelStatus(source=source, revision=COMMIT, digest=manifest.digest, bytes=manifest.bytes)


def put_dataset(store: Store, scratch: Path, rows: Sequence[Row], held_out: Sequence[Row] = ()) -> None:
    """A prepared dataset under PREPARED."""
    from datasets import Dataset as Rows
    from datasets import DatasetDict

    splits = {"train": rows} | ({"validation": held_out} if held_out else {})
    dataset = DatasetDict({name: Rows.from_list(list(split)) for name, split in splits.items()})
    dataset.save_to_disk(scratch / "dataset")
    where = place("prepared", PREPARED)
    files = upload_tree(store, scratch, where)

    def values(column: str) -> list[list[int]]:
        """Of a column, or of the two that pairs have in its place."""
        return [row[name] for row in rows for name in row if name.endswith(column)]

    status = DatasetStatus(
        rows=len(rows),
        eval_rows=len(held_out),
        tokens=sum(map(len, values("input_ids"))),
        learned_tokens=sum(label >= 0 for labels in values("labels") for label in labels),
        digest=keys.digest([dict(row) for row in rows]),
        report=f"{store.uri}/{where}/report.md",
    )
    longest = sorted(map(len, values("input_ids")), reverse=True)[:KEPT_LENGTHS]
    facts = Prepared(template="smollm2", dataset=status, longest=tuple(longest))
    commit_manifest(store, where, "prepared", PREPARED, files, {}, facts.encode())


def random_rows(number: int, seed: int = 0, longest: int = 24) -> list[Row]:
    """Conversations of different lengths: a prompt that is not learned, and an answer that is."""
    random = Random(seed)
    return [_row(random, random.randint(PROMPT_TOKENS + 2, longest)) for _ in range(number)]


def partly_known() -> list[Row]:
    """Rows to hold out, of which one is trained on: the loss on them falls first, and then it rises."""
    return [*random_rows(1), *random_rows(2, seed=1)]


def own_words(model: Path, number: int, length: int = 16) -> list[Row]:
    """Conversations whose answers are the model's own: it has little to learn. model: its directory."""
    import torch
    from transformers import LlamaForCausalLM

    speaker = LlamaForCausalLM.from_pretrained(model)
    prompts = torch.tensor([row["input_ids"][:PROMPT_TOKENS] for row in random_rows(number)])
    said = speaker.generate(prompts, do_sample=False, min_new_tokens=length, max_new_tokens=length)
    return [_learned_after_prompt(tokens) for tokens in said.tolist()]


def random_pairs(number: int, seed: int = 0, longest: int = 24) -> list[Row]:
    """A prompt with a chosen answer and a rejected one, each of a length of its own."""
    random = Random(seed)
    pairs: list[Row] = []
    for _ in range(number):
        chosen, rejected = (_row(random, random.randint(PROMPT_TOKENS + 2, longest)) for _ in range(2))
        prompt = chosen["input_ids"][:PROMPT_TOKENS]
        rejected["input_ids"][:PROMPT_TOKENS] = prompt
        sides = (("chosen", chosen), ("rejected", rejected))
        pair: dict[str, Any] = {f"{side}_{name}": row[name] for side, row in sides for name in row}
        pairs.append(pair | dict.fromkeys(("images", "videos", "audios")))
    return pairs


def random_texts(number: int, seed: int = 0, length: int = 24) -> list[Row]:
    """Rows of one length, of which every token is learned."""
    random = Random(seed)
    tokens = [[random.randrange(VOCABULARY) for _ in range(length)] for _ in range(number)]
    return [{"input_ids": row, "attention_mask": [1] * length, "labels": row} for row in tokens]


def _row(random: Random, length: int) -> Row:
    return _learned_after_prompt([random.randrange(VOCABULARY) for _ in range(length)])


def _learned_after_prompt(tokens: list[int]) -> Row:
    labels = [-100] * PROMPT_TOKENS + tokens[PROMPT_TOKENS:]
    return {"input_ids": tokens, "attention_mask": [1] * len(tokens), "labels": labels}


def tiny_model(directory: Path, **config: Any) -> Path:
    """Saves a LLaMA of two layers with random weights in bf16. config: over the usual shape."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
        "initializer_range": 0.2,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(**(shape | config))).to(torch.bfloat16)
    model.save_pretrained(directory)
    save_tokenizer(directory)
    return directory


def save_tokenizer(directory: Path) -> None:
    """A tokenizer of bytes and of the marks of a chat."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    marks = [{"id": number, "content": mark, "special": True} for number, mark in enumerate(MARKS)]
    usual = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    vocabulary = {token: number for number, token in enumerate([*MARKS, *bytes_to_unicode().values()])}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [mark | usual for mark in marks],
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": MARKS[1],
        "eos_token": MARKS[2],
        "pad_token": MARKS[2],
    }
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False))
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    (directory / "chat_template.jinja").write_text("{{ messages }}")
    (directory / "LICENSE").write_text("do as you like")
    (directory / "README.md").write_text("the base's own card")
