"""From raw rows to the tokenised dataset, against LLaMA-Factory's own way: `python -m bench.prepare`.

Every measurement is a process of its own, in which everything is imported and the tokenizer loaded before the
clock starts; ours then reads, checks and merges rows, proves the tokenizer, encodes, saves, and packs. Both
use the real SmolLM2 tokenizer, the same size of a pack, and as many processes. Ours are kept to as many
processors, too. LLaMA-Factory packs as it encodes, and ours when the rows are saved: what is packed is their
numbers.

With `--megabytes 5120` for the memory of a large input: that takes 20 GB of disk and half an hour. What else
the machine does can slow one measurement and not the next: with `--times 3` each of the others is the middle
one of three, which takes a quarter of an hour.
"""

import argparse
import importlib
import json
import multiprocessing
import os
import random
import re
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from bench.results import Row, write_results
from lorafinetune.api.datasets import Clean, Dataset
from lorafinetune_stages.prepare.corpus import Corpus
from lorafinetune_stages.prepare.findings import Findings
from lorafinetune_stages.prepare.merger import Merger
from lorafinetune_stages.prepare.output import ONLY_SHARD, TRAIN
from lorafinetune_stages.prepare.texts import Texts
from lorafinetune_stages.store import ignore_progress
from stages.peer import smollm2
from stages.prepare_builders import json_lines, listed_as

EMOLLM: Final = Path(__file__).parents[2] / "samples" / "data" / "emollm"
MEBIBYTE: Final = 2**20
PROCESSES: Final = (1, 2)
SHORT_ROWS: Final = 100_000
SHORT_CHARACTERS: Final = 16
TEMPLATE: Final = "smollm2"
CUTOFF: Final = 2048
BOUND_SECONDS: Final = 3000
ALPACA: Final = {"format": "alpaca"}
CLEANED: Final = {"clean": Clean(remove=("🐳",), drop_intro_line="好，我是")}
"""As the recipe's own answers are."""
PEER_COLUMNS: Final = {
    "prompt": "instruction",
    "query": "input",
    "response": "output",
    "system": "system",
    "history": "history",
}


@dataclass(frozen=True)
class Rows:
    """spec: how the resource describes the file. converted: the same rows in the format that the peer can
    read, without cleaning."""

    name: str
    path: Path
    count: int
    spec: Mapping[str, Any] = field(default_factory=lambda: ALPACA)
    converted: Path | None = None


@dataclass(frozen=True)
class Task:
    """One measurement."""

    what: str
    rows: Rows
    processes: int
    folder: Path

    @property
    def path(self) -> Path:
        return self.rows.converted if self.what == "peer" and self.rows.converted else self.rows.path


@dataclass(frozen=True)
class Cost:
    """growth_mb: of the first process, over what it had when the clock started. peak_mb: of the largest.
    files_mb: pages of mapped files, most of them libraries', that the first one has at the end; the system
    takes them back if memory is short."""

    seconds: float
    cpu_seconds: float
    growth_mb: float
    peak_mb: float
    files_mb: float


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--megabytes", type=int, default=64, help="of the generated rows that show the memory of reading"
    )
    parser.add_argument("--times", type=int, default=1, help="that each is measured; the middle one is shown")
    options = parser.parse_args()
    megabytes, times = options.megabytes, options.times
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "model"
        model.mkdir()
        for file, data in smollm2().items():
            (model / file).write_bytes(data)
        for tried in sets(folder):
            rows += compare(tried, folder, times)
        large = write_large(folder / "large.jsonl", megabytes)
        rows += measure_each("reading", large, folder, times)
        rows += measure_each("ours", large, folder, 1)
    write_results("prepare", rows)


def sets(folder: Path) -> list[Rows]:
    """Those that both read."""
    lines = write_rows("aiwei.json as alpaca, in lines", folder / "aiwei.jsonl", long_rows())
    whole = replace(lines, name="aiwei.json", path=EMOLLM / "aiwei.json", spec={}, converted=lines.path)
    return [
        whole,
        replace(whole, name="aiwei.json, cleaned", spec=CLEANED),
        lines,
        write_rows(f"{SHORT_ROWS} short rows", folder / "short.jsonl", short_rows(beginning)),
        write_rows(f"{SHORT_ROWS} that hardly repeat", folder / "parts.jsonl", short_rows(any_part)),
    ]


def compare(tried: Rows, folder: Path, times: int) -> list[Row]:
    """LLaMA-Factory and ours, in turn."""
    rows = []
    for processes in PROCESSES:
        tasks = [Task(what, tried, processes, folder) for what in ("peer", "ours")]
        peer, ours = map(middle, zip(*([*map(measure, tasks)] for _ in range(times)), strict=True))
        rows += [describe(tasks[0], "peer: LLaMA-Factory", peer, None)]
        rows += [describe(tasks[1], "ours", ours, peer)]
    return rows


def measure_each(what: str, tried: Rows, folder: Path, times: int) -> list[Row]:
    told = {"ours": "ours", "reading": "read and check"}[what]
    rows = []
    for processes in PROCESSES:
        task = Task(what, tried, processes, folder)
        rows.append(describe(task, told, middle([measure(task) for _ in range(times)]), None))
    return rows


def middle(costs: Sequence[Cost]) -> Cost:
    """By the seconds; of two, the slower one."""
    return sorted(costs, key=lambda cost: cost.seconds)[len(costs) // 2]


def describe(task: Task, what: str, cost: Cost, peer: Cost | None) -> Row:
    return {
        "rows": task.rows.name,
        "what": what,
        "processes": task.processes,
        "rows/s": round(task.rows.count / cost.seconds),
        "MB/s": round(task.path.stat().st_size / 1e6 / cost.seconds, 1),
        "× the peer": round(peer.seconds / cost.seconds, 1) if peer else "",
        "CPU s": round(cost.cpu_seconds, 1),
        "memory grows by MB": round(cost.growth_mb),
        "peak MB": round(cost.peak_mb),
        "of files MB": round(cost.files_mb),
    }


def measure(task: Task) -> Cost:
    """Runs it in a fresh process."""
    with tempfile.TemporaryDirectory(dir=task.folder) as scratch:
        fresh = replace(task, folder=Path(scratch))
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(perform, fresh, task.folder / "model").result(BOUND_SECONDS)


def perform(task: Task, model: Path) -> Cost:
    if task.what != "peer":
        os.sched_setaffinity(0, [*os.sched_getaffinity(0)][: task.processes])
    work = WAYS[task.what](task, model)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, began, used = resident_mb(), time.perf_counter(), cpu_seconds()
    work()
    seconds, cpu = time.perf_counter() - began, cpu_seconds() - used
    peak = resident_mb("VmHWM")
    others = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return Cost(seconds, cpu, peak - before, max(peak, others), resident_mb("RssFile"))


def peer(task: Task, model: Path) -> Callable[[], None]:
    """LLaMA-Factory reads the same rows as its alpaca format."""
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    info = {"rows": {"file_name": str(task.path), "columns": PEER_COLUMNS}}
    (task.folder / "dataset_info.json").write_text(json.dumps(info))
    more = {
        "dataset": "rows",
        "dataset_dir": str(task.folder),
        "preprocessing_num_workers": task.processes,
        "neat_packing": True,
    }
    model_args, data_args, training_args, *_ = get_train_args(arguments(task, model) | more)
    tokenizer = load_tokenizer(model_args)["tokenizer"]
    template = get_template_and_fix_tokenizer(tokenizer, data_args)
    return lambda: get_dataset(
        template, model_args, data_args, training_args, stage="sft", tokenizer=tokenizer
    )["train_dataset"].save_to_disk(task.folder / "dataset")


def ours(task: Task, model: Path) -> Callable[[], None]:
    from llamafactory.data import get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    from lorafinetune_stages.prepare.conversation_builder import ConversationBuilder
    from lorafinetune_stages.prepare.packs import count_packs
    from lorafinetune_stages.prepare.tokeniser import Tokeniser

    model_args, data_args, *_ = get_train_args(arguments(task, model) | {"dataset": "rows"})
    tokenizer = load_tokenizer(model_args)["tokenizer"]
    template = get_template_and_fix_tokenizer(tokenizer, data_args)

    def prepare() -> None:
        with corpus_of(task) as (corpus, findings):
            tokeniser = Tokeniser(template, tokenizer, None, data_args)
            builder = ConversationBuilder(corpus, findings, task.folder, ignore_progress, tokeniser)
            summary = builder.write_split(TRAIN, range(len(corpus)))
            builder.save([TRAIN], task.folder / "dataset", "0" * 16)
            count_packs(task.folder / "dataset" / TRAIN / ONLY_SHARD, CUTOFF, 0, ignore_progress)
            if not tokeniser.is_fast or summary.rows != len(corpus):
                raise RuntimeError("not every row was encoded the short way")

    return prepare


def reading(task: Task, model: Path) -> Callable[[], None]:
    """Reading, checking and merging alone."""
    importlib.import_module("lorafinetune_stages.prepare.fast_path")  # as the corpus where it reads lines

    def read() -> None:
        with corpus_of(task):
            pass

    return read


@contextmanager
def corpus_of(task: Task) -> Iterator[tuple[Corpus, Findings]]:
    """The rows, read, checked and merged."""
    path = task.path
    dataset = Dataset(source=f"s3://bench/{path.name}", **task.rows.spec)
    findings = Findings([dataset])
    root = task.folder / "files"
    (root / "0").mkdir(parents=True)
    (root / "0" / path.name).symlink_to(path)
    with Corpus(task.folder / "corpus") as corpus:
        texts = Texts({"<|im_start|>", "<|im_end|>", "<|endoftext|>"})
        merger = Merger(corpus, findings, texts, root, ignore_progress)
        merger.merge([listed_as(dataset, {path.name: path.stat().st_size})])
        findings.judge()
        yield corpus, findings


def arguments(task: Task, model: Path) -> dict[str, Any]:
    return {
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "model_name_or_path": str(model),
        "cache_dir": str(task.folder / "cache"),
        "output_dir": str(task.folder / "output"),
        "report_to": "none",
        "use_cpu": True,
        "template": TEMPLATE,
        "cutoff_len": CUTOFF,
    }


def long_rows() -> list[dict[str, Any]]:
    """The conversations of aiwei.json, as alpaca rows with history."""
    rows = []
    for item in json.loads((EMOLLM / "aiwei.json").read_text(encoding="utf-8")):
        *earlier, last = item["conversation"]
        history = [[turn["input"], turn["output"]] for turn in earlier]
        system = item["conversation"][0]["system"]
        rows.append(row(last["input"], last["output"], system, history))
    return rows


def short_rows(cut: Callable[[random.Random, str], str]) -> list[dict[str, Any]]:
    """One turn, of a few characters out of aiwei.json."""
    data = json.loads((EMOLLM / "aiwei.json").read_text(encoding="utf-8"))
    texts = [turn[who] for item in data for turn in item["conversation"] for who in ("input", "output")]
    pick = random.Random("short rows")
    pairs = (pick.choices(texts, k=2) for _ in range(SHORT_ROWS))
    return [row(cut(pick, asked), cut(pick, said), "", []) for asked, said in pairs]


def beginning(_: random.Random, text: str) -> str:
    """Each of some thousands comes again and again, as questions and labels do."""
    return text[:SHORT_CHARACTERS]


def any_part(pick: random.Random, text: str) -> str:
    start = pick.randrange(max(1, len(text) - SHORT_CHARACTERS))
    return text[start : start + SHORT_CHARACTERS]


def row(asked: str, said: str, system: str, history: list[list[str]]) -> dict[str, Any]:
    return {"instruction": asked, "input": "", "output": said, "system": system, "history": history}


def write_rows(name: str, path: Path, rows: Sequence[dict[str, Any]]) -> Rows:
    path.write_bytes(json_lines(rows))
    return Rows(name, path, len(rows))


def write_large(path: Path, megabytes: int) -> Rows:
    """Rows as those of aiwei.json, each with a number in it, until there are so many."""
    rows, number = long_rows(), 0
    with path.open("wb") as file:
        while file.tell() < megabytes * MEBIBYTE:
            number += 1
            varied = rows[number % len(rows)]
            file.write(json_lines([varied | {"instruction": f"{number} {varied['instruction']}"}]))
    return Rows(f"{megabytes} MiB", path, number)


def resident_mb(name: str = "VmRSS") -> float:
    """VmRSS: what the process holds now. VmHWM: the most that it has held. RssFile: mapped files alone."""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def cpu_seconds() -> float:
    """Of this process, and of those that it started and that have ended."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


WAYS: Final[dict[str, Callable[[Task, Path], Callable[[], None]]]] = {
    "peer": peer,
    "ours": ours,
    "reading": reading,
}


if __name__ == "__main__":
    main()
