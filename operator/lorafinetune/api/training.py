"""The hyperparameters of a LoRAFineTune, and its checkpoints."""

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from lorafinetune.api.datasets import Samples
from lorafinetune.api.evaluation import Evaluation
from lorafinetune.api.types import INT_OR_STRING, DecimalString, Fraction, Line, Model, Rule, form, keyed_by

Objective = Literal["sft", "dpo", "pt"]
BATCH_SIZE: Final = 8
"""Rows of an optimizer step where nobody says how many, or how many tokens."""


class Lora(Model):
    """The low-rank adapter."""

    rank: Annotated[int, Field(ge=1, le=1024)] = 8
    """Rank of the adapter's matrices."""
    alpha: Annotated[int, Field(ge=1, le=8192)] = 16
    """Scale: the update is multiplied by alpha / rank (alpha / sqrt(rank) with rslora)."""
    dropout: Fraction = "0"
    """Dropout on the adapter's input."""
    targets: Annotated[
        tuple[
            Annotated[
                str,
                Field(pattern=r"^[A-Za-z0-9_.]+$", max_length=64),
                form("the name of a layer, like q_proj, or all"),
            ],
            ...,
        ],
        Field(min_length=1, max_length=32),
    ] = ("all",)
    """Names of the linear layers that get an adapter; `all` means every one but the output head."""
    variant: Literal["lora", "rslora", "dora"] = "lora"
    """Plain LoRA, rank-stabilised LoRA, or weight-decomposed LoRA."""


class Dpo(Model):
    """What direct preference optimisation needs beside pairs of answers."""

    rules: ClassVar = (
        Rule(
            "double(self.beta) > 0.0 && double(self.beta) <= 100.0",
            "beta must be above 0, and at most 100",
            ".beta",
        ),
    )

    beta: DecimalString = "0.1"
    """How strongly the model is held to its base: the smaller, the farther it may move away."""


class EarlyStopping(Model):
    """Ends a training whose loss on the held-out rows does not get lower any more."""

    patience: Annotated[int, Field(ge=1, le=1000)]
    """The training ends after this many evaluations in a row without an improvement. It is complete then."""
    min_improvement: DecimalString = "0"
    """An evaluation is an improvement if its loss is lower than at the last improvement by more than this, in
    nats per learned token or per pair: `"0.005"`. The first evaluation is one."""


EVERY_PATTERN: Final = "^(epoch|[1-9][0-9]{0,3}m)$"


class Checkpoint(Model):
    """When the state of a training is saved to the store, and how many states are kept there."""

    every: Annotated[
        Annotated[int, Field(ge=1, le=1_000_000)]
        | Annotated[str, Field(pattern=EVERY_PATTERN, max_length=5)],
        INT_OR_STRING,
        form("a whole number of steps, epoch, or minutes like 10m"),
    ] = "epoch"
    """Optimizer steps between two checkpoints, `epoch`, or minutes: `10m`. A checkpoint is sent to the store
    while the training goes on; the training waits only if the next one is due before that is done."""
    keep: Annotated[Annotated[int, Field(ge=1, le=1000)] | Literal["all"], INT_OR_STRING] = 2
    """How many of the newest checkpoints are kept, or `all`."""
    select: Literal["last", "best"] = "last"
    """Which adapter is the training's: that of the last step, or that of the evaluation with the lowest loss
    on the held-out rows, which is kept apart from the checkpoints. `best` needs `training.evaluation`."""
    early_stopping: EarlyStopping | None = None
    """Ends the training before its last step. It needs `training.evaluation`. Absent: no early stopping."""


class Training(Model):
    """Hyperparameters. Batch size and learning rate mean the same on any number of GPUs."""

    rules: ClassVar = (
        Rule("!(has(self.epochs) && has(self.maxSteps))", "give epochs or maxSteps, not both"),
        Rule("has(self.epochs) || has(self.maxSteps)", "give epochs or maxSteps"),
        Rule(
            "double(self.learningRate) > 0.0 && double(self.learningRate) <= 1.0",
            "learningRate must be above 0, and at most 1",
            ".learningRate",
        ),
        Rule(
            "!has(self.epochs) || (double(self.epochs) > 0.0 && double(self.epochs) <= 1000000.0)",
            "epochs must be above 0, and at most 1000000",
            ".epochs",
        ),
        Rule(
            "self.precision != 'fp8' || self.lora.variant != 'dora'",
            "fp8 does not go with lora.variant: dora, which needs the weights as they are",
            ".precision",
        ),
        Rule(
            "self.precision != 'fp8' || self.packing != 'none'",
            "fp8 needs packing: auto or tokens",
            ".precision",
        ),
        Rule(
            "self.quantization == 'none' || self.precision in ['auto', 'bf16', 'fp16']",
            "nf4 computes in bf16 or fp16: it does not go with precision: fp8 or fp32",
            ".quantization",
        ),
        Rule(
            "self.quantization == 'none' || self.lora.variant != 'dora'",
            "nf4 does not go with lora.variant: dora, which LLaMA-Factory trains on no quantised base",
            ".quantization",
        ),
        Rule(
            "self.packing != 'tokens' || has(self.batchTokens)",
            "packing: tokens needs batchTokens, the tokens of an optimizer step",
            ".packing",
        ),
        Rule(
            "self.packing == 'tokens' || !has(self.batchTokens)",
            "batchTokens needs packing: tokens",
            ".batchTokens",
        ),
        Rule(
            "!has(self.batchTokens) || !has(self.batchSize)",
            "give batchSize or batchTokens, not both: a step has so many conversations, or so many tokens",
            ".batchSize",
        ),
        Rule(
            "!has(self.batchTokens) || self.batchTokens >= self.cutoffLength",
            "batchTokens must be at least cutoffLength: a conversation stays whole",
            ".batchTokens",
        ),
        Rule(
            "self.objective != 'dpo' || self.packing != 'tokens'",
            "packing: tokens does not go with objective: dpo, whose pairs are padded",
            ".packing",
        ),
        Rule(
            "self.objective != 'dpo' || self.precision != 'fp8'",
            "fp8 does not go with objective: dpo",
            ".precision",
        ),
        Rule("self.objective == 'dpo' || !has(self.dpo)", "dpo needs objective: dpo", ".dpo"),
        Rule(
            "self.objective != 'dpo' || double(self.lora.dropout) == 0.0",
            "objective: dpo computes without dropout: leave it out",
            ".lora.dropout",
        ),
        Rule(
            "self.objective == 'sft' || self.learnFrom == 'allTurns'",
            "lastTurn needs objective: sft: a pair is of last answers, and a text is learned whole",
            ".learnFrom",
        ),
        Rule(
            "self.learnFrom == 'allTurns' || !self.trainOnPrompt",
            "trainOnPrompt learns from all turns: it does not go with learnFrom: lastTurn",
            ".trainOnPrompt",
        ),
        Rule(
            "self.objective == 'sft' || !self.trainOnPrompt",
            "trainOnPrompt needs objective: sft",
            ".trainOnPrompt",
        ),
        Rule(
            "self.objective != 'pt' || !has(self.evaluation) || !has(self.evaluation.groupBy)",
            "groupBy does not go with objective: pt, whose texts have no prompt",
            ".evaluation.groupBy",
        ),
        Rule(
            "self.checkpoint.select == 'last' || has(self.evaluation)",
            "select: best needs evaluation: it goes by the loss on held-out rows",
            ".checkpoint.select",
        ),
        Rule(
            "!has(self.checkpoint.earlyStopping) || has(self.evaluation)",
            "earlyStopping needs evaluation: it goes by the loss on held-out rows",
            ".checkpoint.earlyStopping",
        ),
        keyed_by(
            "^[a-z0-9_]+$", 64, "an argument's name, like neftune_noise_alpha", "self.extraArgs", ".extraArgs"
        ),
    )

    objective: Objective = "sft"
    """What is learned: the answers of conversations (`sft`), the preference of one answer over another
    (`dpo`), or all of plain texts (`pt`), which are put one after another and cut into rows of
    `cutoffLength` tokens."""
    dpo: Dpo | None = None
    """With `objective: dpo`. Absent: its defaults."""
    lora: Lora = Lora()
    """The low-rank adapter."""
    quantization: Literal["none", "nf4"] = "none"
    """How the frozen base is held while an adapter is trained on it. `nf4` (QLoRA): its linear layers in 4
    bits, and their scales in 8, for a card that the base does not fit otherwise. It is less exact, and layers
    are not compiled. Evaluations use that base, except the last one, which uses the unquantised base, like
    the export."""
    precision: Literal["auto", "bf16", "fp16", "fp32", "fp8"] = "auto"
    """Arithmetic of the forward and backward pass. `auto` is bf16, decided without looking at the
    card. `fp8` is bf16 except for the products of the base's frozen layers: faster on cards of compute
    capability 8.9 and newer, and less exact. Evaluations use it too, except the last one, which uses the
    unquantised base, like the export. Adapter and optimizer are always fp32."""
    epochs: DecimalString | None = None
    """Passes over the training rows, as a string: `"3"`, `"0.5"`."""
    max_steps: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    """Optimizer steps, in place of epochs."""
    learning_rate: DecimalString = "1e-4"
    """Peak learning rate, as a string: `"1e-4"`."""
    scheduler: Literal["cosine", "linear", "constant", "constant_with_warmup"] = "cosine"
    """Course of the learning rate after the warm-up."""
    warmup_ratio: Fraction = "0"
    """Share of the steps in which the learning rate rises from 0 to its peak."""
    weight_decay: Fraction = "0"
    """Weight decay of AdamW."""
    max_grad_norm: DecimalString = "1"
    """Gradients are scaled down to this norm."""
    cutoff_length: Annotated[int, Field(ge=16, le=1_048_576)] = 2048
    """Longest conversation in tokens (for a pair, with either answer); with `objective: pt`, the length of
    every row."""
    max_samples: Samples | None = None
    """Rows used after merging."""
    sampling: Literal["head", "shuffle", "proportional"] = "head"
    """Which rows `maxSamples` takes: the first of the merged list, a random choice, or a share of every
    dataset by its size and `weight`."""
    deduplicate: Literal["exact"] | None = None
    """`exact`: a row that equals an earlier one of any dataset, after cleaning, is left out. Absent: equal
    rows are counted, and kept."""
    batch_size: Annotated[int, Field(ge=1, le=65_536)] | None = None
    """Conversations, pairs or rows of text in one optimizer step, over all GPUs: a multiple of their
    number. Absent: 8, or, with `packing: tokens`, as many as `batchTokens` holds."""
    batch_tokens: Annotated[int, Field(ge=16, le=16_777_216)] | None = None
    """With `packing: tokens`: tokens in one optimizer step, over all GPUs, in place of `batchSize`; at least
    `cutoffLength`."""
    packing: Literal["auto", "none", "tokens"] = "auto"
    """How the conversations of a step share the passes over the model. `auto` puts them one after
    another without padding, and none sees another: the same order and the same loss. `none` pads them.
    The two draw dropout differently. With `neftune_noise_alpha`, another loss or `objective: dpo` they are
    padded always. `tokens` fills steps of `batchTokens` tokens with whole conversations, chosen from the
    whole set by `seed`; steps come in another order in every epoch, and are passed through the model as with
    `auto`. It learns from other steps, so its result is another."""
    learn_from: Literal["allTurns", "lastTurn"] = "allTurns"
    """Which answers of a conversation are learned."""
    train_on_prompt: bool = False
    """Whether prompts are learned too."""
    evaluation: Evaluation | None = None
    """Evaluation on held-out rows. Absent: none."""
    checkpoint: Checkpoint = Checkpoint()
    """Checkpoints in the store."""
    seed: Annotated[int, Field(ge=0, le=2_147_483_647)] = 42
    """Seed of the split, of sampling, of the order of the rows, of the adapter's start and of dropout."""
    extra_args: Annotated[dict[str, Line], Field(max_length=32)] = {}
    """Further arguments by LLaMA-Factory's own names, from a list of those that are allowed."""
