"""The estimate of a training's memory beside what it takes: `python -m bench.memory`.

On a GPU the peak of real optimizer steps with random weights: packed ones as the train stage takes them,
padded ones through transformers' trainer. A cap on the allocator stands in for a smaller card, so what does
not fit fails. Without a GPU, small models, and the bytes that the forward pass keeps for the way back.
"""

import gc
import sys
import tempfile
from collections.abc import Sequence
from typing import Any, Final

import torch
from transformers import Trainer, TrainingArguments, default_data_collator

from bench.memory.cases import CASES, SHAPES, Case, adapted, flat, in_4_bits, network
from bench.memory.counted import on_cpu
from bench.results import Row, write_results
from lorafinetune.contract.memory import GIB, RESERVE, MemorySettings, StepCut, choose, usable
from lorafinetune_stages.shape import measure
from lorafinetune_stages.train.collator import Collator
from lorafinetune_stages.train.loss import chunk_loss
from lorafinetune_stages.train.optimizations import Optimizations, apply

STEPS: Final = 2


def main(numbers: Sequence[str]) -> None:
    """numbers: of the cases on a GPU; all by default. The results are written after each."""
    if not torch.cuda.is_available():
        write_results("activations", list(on_cpu()))
        return
    rows, cases = list[Row](), [CASES[int(number)] for number in numbers] or CASES
    pairs = all(case.spec.objective == "dpo" for case in cases)
    for case in cases:
        rows.append(peak(case))
        if pairs:
            write_results("memory_pairs", rows)
        else:
            write_results("memory", rows)
        torch.compiler.reset()
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(1.0)


def peak(case: Case) -> Row:
    """The estimate and the peak of the cut that is chosen for the card that a cap stands in for.

    Raises torch.OutOfMemoryError where that does not fit.
    """
    shape = measure(network(case.model, "meta", torch.bfloat16), case.spec.lora)
    optimizations = case.optimizations
    settings = MemorySettings.of(
        case.spec, packed=optimizations is not None, compiled=bool(optimizations and optimizations.compiled)
    )
    cut = choose(shape, settings, (case.tokens,), case.rows, usable(case.card * GIB))
    if cut is None:
        raise SystemExit(f"{case} has no cut that fits")
    before = torch.cuda.memory_allocated()
    model = loaded(case, cut.gradient_checkpointing)
    cap(case.card)
    torch.cuda.reset_peak_memory_stats()
    if optimizations:
        train_packed(case, cut, model, optimizations)
    else:
        train_padded(case, cut, model)
    return row(case, cut, torch.cuda.max_memory_allocated() - before)


def cap(card: int) -> None:
    """card: GiB of the one that this one stands in for, from here on. A base is made on the whole card, since
    one in 4 bits is made of one in bf16."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, (card * GIB - RESERVE) / total))


def row(case: Case, cut: StepCut, measured: int) -> Row:
    estimated = cut.estimate.total
    return {
        "model": case.model,
        "settings": ", ".join(f"{name} {value}" for name, value in flat(case.training)) or "as by default",
        "card GiB": case.card,
        "tokens in a pass": cut.tokens,
        "checkpointing": "yes" if cut.gradient_checkpointing else "no",
        "estimate GiB": round(estimated / GIB, 2),
        "measured GiB": round(measured / GIB, 2),
        "estimate over measured %": round(100 * (estimated / measured - 1), 1),
    }


def loaded(case: Case, checkpointing: bool) -> Any:
    base = network(case.model, "cuda", case.dtype)
    if case.spec.quantization == "nf4":
        base = in_4_bits(base)
    if checkpointing:
        base.gradient_checkpointing_enable({"use_reentrant": True})
        base.enable_input_require_grads()
    return adapted(base, case.spec.lora)


def random_rows(case: Case, steps: int) -> list[dict[str, torch.Tensor]]:
    ids = torch.randint(0, SHAPES[case.model]["vocab_size"], (case.rows * steps, case.tokens))
    return [{"input_ids": row, "labels": row, "attention_mask": torch.ones_like(row)} for row in ids]


def train_packed(case: Case, cut: StepCut, model: Any, optimizations: Optimizations) -> None:
    """Optimizer steps as the train stage takes them, pack by pack."""
    from lorafinetune_stages.train.packed_trainer import pack_nats  # imports LLaMA-Factory

    apply(optimizations, model)
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, fused=True)
    each = torch.compile(chunk_loss, dynamic=True) if optimizations.compiled else chunk_loss
    rows = [{name: row.tolist() for name, row in rows.items()} for rows in random_rows(case, 1)]
    batch = Collator(cut.tokens, optimizations.multiple)(rows)
    for _ in range(STEPS):
        for pack in batch["passes"]:
            given = {name: value.cuda() if torch.is_tensor(value) else value for name, value in pack.items()}
            with torch.autocast("cuda", case.dtype, enabled=case.dtype != torch.float32):
                nats = pack_nats(model.get_base_model(), given, optimizations, each)
            (nats / batch["learned"]).backward()
        optimizer.step()
        optimizer.zero_grad()


def random_pairs(case: Case, steps: int) -> list[dict[str, torch.Tensor]]:
    """Of each row both sides, with the chosen answer and with the rejected one."""
    rows = random_rows(case, 2 * steps)
    return [
        {name: torch.stack([chosen[name], rejected[name]]) for name in chosen}
        for chosen, rejected in zip(rows[::2], rows[1::2], strict=True)
    ]


def side_by_side(pairs: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The chosen sides of a batch, then the rejected ones, as LLaMA-Factory has them."""
    return {name: torch.stack([pair[name] for pair in pairs], dim=1).flatten(0, 1) for name in pairs[0]}


def train_padded(case: Case, cut: StepCut, model: Any) -> None:
    """Optimizer steps as LLaMA-Factory's trainer takes them."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=STEPS,
            per_device_train_batch_size=cut.micro_batch,
            gradient_accumulation_steps=cut.accumulation,
            bf16=case.dtype == torch.bfloat16,
            fp16=case.dtype == torch.float16,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        if case.spec.objective == "dpo":
            train_on_pairs(case, arguments, model)
        else:
            rows = random_rows(case, STEPS)
            Trainer(model, arguments, train_dataset=rows, data_collator=default_data_collator).train()


def train_on_pairs(case: Case, arguments: TrainingArguments, model: Any) -> None:
    from llamafactory.hparams import FinetuningArguments

    from lorafinetune_stages.train.pair_trainer import PairTrainer

    wanted = FinetuningArguments(stage="dpo", pref_loss="sigmoid")
    given = {"args": arguments, "tokenizer": None, "data_collator": side_by_side}
    pairs = random_pairs(case, STEPS)
    PairTrainer(model, None, wanted, None, train_dataset=pairs, **given).train()


if __name__ == "__main__":
    main(sys.argv[1:])
