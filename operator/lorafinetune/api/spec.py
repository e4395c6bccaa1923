"""What a person writes: the `spec` of a LoRAFineTune.

One declaration per field yields the CRD, the decoder and the reference page. A default that shapes
a result stands here, so it is fixed when the resource is admitted.
"""

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from lorafinetune.api.types import (
    INT_OR_STRING,
    DecimalString,
    Fraction,
    Label,
    LabelValue,
    Line,
    Model,
    Quantity,
    Rule,
    Seconds,
    Subdomain,
    form,
    keyed_by,
    list_map,
)

MODEL_SOURCE = r"^((hf|modelscope)://[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^/\x00-\x1f]+)*|file://[^\x00-\x1f]+)$"
HOST = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*(:[1-9][0-9]{0,4})?"
DATASET_SOURCE = rf"^((hf|modelscope)://[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+(/[^/\x00-\x1f]+)*|s3://[a-z0-9][a-z0-9.-]{{1,61}}[a-z0-9](/[^/\x00-\x1f]+)+/?|https://{HOST}(/[^/?#\x00-\x20]+)+|file://[^\x00-\x1f]+)$"
STORAGE_URI = r"^(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_.=-]+)*|file://[^\x00-\x1f]+)$"
PUBLISH_TARGET = r"^((hf|modelscope)://[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^/\x00-\x1f]+)*)$"

Column = Annotated[str, Field(min_length=1, max_length=128)]
Revision = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]*$", max_length=128),
    form("the name of a branch or tag, or a commit"),
]
Samples = Annotated[int, Field(ge=1, le=1_000_000_000)]
Objective = Literal["sft", "dpo", "pt"]
BATCH_SIZE: Final = 8
"""Rows of an optimizer step where nobody says how many, or how many tokens."""
RESOURCE_NAME = r"^[a-z0-9]([a-z0-9./-]*[a-z0-9])?$"
RESOURCE_NAME_FORM = "the name of a resource, like cpu or nvidia.com/gpu"
ResourceName = Annotated[str, Field(pattern=RESOURCE_NAME, max_length=128), form(RESOURCE_NAME_FORM)]
Quantities = Annotated[dict[str, Quantity], Field(max_length=16)]


def _plain(field: str) -> Rule:
    """A client may resolve `..`, and so reach another prefix or bucket."""
    return Rule(
        f"self.{field}.startsWith('file://') || !self.{field}.matches('/[.][.]?(/|$)')",
        "has the part . or ..: write the path that is meant",
        f".{field}",
    )


class SecretReference(Model):
    """A Secret of the resource's own namespace. There is no `namespace` field, on purpose."""

    name: Subdomain
    """Name of the Secret."""


class Connection(Model):
    """How to reach a store, a hub or a tracker, and with whose credentials."""

    name: Label
    """Name by which sources, storage, publish targets and trackers refer to this connection."""
    endpoint: (
        Annotated[
            str,
            Field(pattern=r"^https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~/-]*)?$", max_length=253),
            form("an http:// or https:// URL without user, query or fragment"),
        ]
        | None
    ) = None
    """URL of an S3-compatible server or of a hub's mirror. Absent: the public one. An edit reads and moves
    nothing again: for other files at a source, change the annotation `lorafinetune.dev/refresh` too."""
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]+$", max_length=32), form("a region like us-east-1")] = (
        "us-east-1"
    )
    """Region of the S3 bucket."""
    addressing: Literal["path", "virtual"] = "path"
    """Where the bucket's name stands in an S3 URL."""
    secret_ref: SecretReference | None = None
    """Secret with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and optional AWS_SESSION_TOKEN for S3, with
    `token` for a hub or a tracker, or with `username` and `password` for MLflow. Absent: the identity of the
    pod's service account, or anonymous."""


class BaseModelSource(Model):
    """The pretrained model that is tuned."""

    rules: ClassVar = (_plain("source"),)

    source: Annotated[
        str,
        Field(pattern=MODEL_SOURCE, max_length=512),
        form("hf://OWNER/NAME, modelscope://OWNER/NAME, s3://BUCKET/PREFIX or file://PATH"),
    ]
    """`hf://OWNER/NAME`, `modelscope://OWNER/NAME`, `s3://BUCKET/PREFIX`, or, in local runs only,
    `file://PATH`."""
    revision: Revision | None = None
    """Branch, tag or commit of a hub's repository; resolved to a commit once, which is kept."""
    template: (
        Annotated[
            str, Field(pattern=r"^[a-z0-9_.-]+$", max_length=64), form("a template's name, like glm4 or qwen")
        ]
        | None
    ) = None
    """LLaMA-Factory's name of the chat template. Absent: inferred from the model, and refused when it
    can't be."""
    connection: Label | None = None
    """Connection used to fetch the model."""


class Columns(Model):
    """Names of the columns, where they differ from the format's own."""

    prompt: Column | None = None
    """The human turn (`instruction` in alpaca, `prompt` in singleTurn and preference, `input` in
    multiTurn)."""
    query: Column | None = None
    """Text appended to the human turn (`input` in alpaca and preference)."""
    response: Column | None = None
    """The answer (`output` in alpaca and multiTurn, `completion` in singleTurn, `chosen` in preference)."""
    rejected: Column | None = None
    """The answer to which the other one is preferred (`rejected` in preference)."""
    text: Column | None = None
    """The whole of a plain text (`text` in text)."""
    history: Column | None = None
    """Earlier turns as pairs (`history` in alpaca and preference)."""
    messages: Column | None = None
    """The list of turns (`conversations`, `messages`, `conversation`)."""
    system: Column | None = None
    """The row's own system prompt (`system`)."""
    tools: Column | None = None
    """Tool descriptions (`tools` in sharegpt, openai and preference)."""


class Replace(Model):
    """One pattern, and what stands in place of its matches."""

    pattern: Annotated[str, Field(min_length=1, max_length=512)]
    """Regular expression in RE2's syntax, which has flags like `(?i)`, but no look-around."""
    replacement: Annotated[str, Field(max_length=256)] = ""
    """Plain text in place of every match. Absent: the match is removed."""


class Clean(Model):
    """Cleaning of the answers, or of plain texts, in this order. Prompts are never touched."""

    remove: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=128)], ...], Field(max_length=32)
    ] = ()
    """Texts that are removed wherever they occur."""
    drop_intro_line: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """An answer that contains this text is stripped, loses its first line, and is stripped again."""
    replace: Annotated[tuple[Replace, ...], Field(max_length=16)] | None = None
    """Patterns that are replaced, one after the other, each in time linear in the length of the answer."""


class Dataset(Model):
    """One dataset; datasets are merged in the order of the list."""

    rules: ClassVar = (
        _plain("source"),
        Rule("self.onBadRow == 'skip' || !has(self.maxBadFraction)", "maxBadFraction needs onBadRow: skip"),
        Rule("!has(self.weight) || double(self.weight) > 0.0", "weight must be above 0", ".weight"),
        Rule(
            "!has(self.connection) || !self.source.startsWith('https://')",
            "an https:// source has no connection: it is fetched without credentials",
            ".connection",
        ),
    )

    name: Label | None = None
    """Name by which `training.evaluation.dataset` refers to this dataset."""
    source: Annotated[
        str,
        Field(pattern=DATASET_SOURCE, max_length=1024),
        form(
            "s3://BUCKET/KEY, s3://BUCKET/PREFIX/, hf://OWNER/NAME[/FILE], modelscope://OWNER/NAME[/FILE], "
            "https://HOST/FILE without user, query or fragment, or file://PATH"
        ),
    ]
    """`s3://BUCKET/KEY` (a file, or a prefix that ends in `/`), `hf://OWNER/NAME[/FILE]`,
    `modelscope://OWNER/NAME[/FILE]`, `https://HOST/FILE` where the installation allows the host, or, in local
    runs only, `file://PATH`."""
    revision: Revision | None = None
    """Branch, tag or commit of a hub's repository."""
    connection: Label | None = None
    """Connection used to fetch the dataset."""
    format: Literal[
        "auto", "alpaca", "sharegpt", "openai", "singleTurn", "multiTurn", "preference", "text"
    ] = "auto"
    """Shape of the rows. `auto` recognises it, or refuses and says what it saw. `preference` is for
    `training.objective: dpo` alone, `text` for `pt`, and the others for `sft`."""
    columns: Columns = Columns()
    """Names of the columns, where they differ from the format's own."""
    system: Annotated[str, Field(min_length=1, max_length=8192)] | None = None
    """System prompt that replaces the rows' own. Absent: a row's own is kept."""
    clean: Clean = Clean()
    """Cleaning of the answers."""
    max_samples: Samples | None = None
    """Only the first N rows are used."""
    weight: DecimalString | None = None
    """With `training.sampling: proportional`: the dataset's share is its rows times this number, like
    `"2"` or `"0.5"`; absent means 1. No row is taken twice, so the share of the others shrinks."""
    on_bad_row: Literal["fail", "skip"] = "fail"
    """What a row that can't be learned from does: fails the run, or is left out and counted."""
    max_bad_fraction: Fraction | None = None
    """With `onBadRow: skip`: the run fails when more than this share of the rows is bad."""


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


class Gate(Model):
    """By how much the tuned model must be better than its base, before anything is made of it."""

    metric: Literal["evalLoss"] = "evalLoss"
    """What is compared: the loss of what would be exported on the held-out rows, with the base's on the same
    rows."""
    must_improve_by: DecimalString
    """By how much it must be below the base's, in nats per learned token or per pair: `"0.02"`."""


class Evaluation(Model):
    """Evaluation on rows that are held out of training."""

    rules: ClassVar = (
        Rule(
            "[has(self.fraction), has(self.count), has(self.dataset)].exists_one(given, given)",
            "give one of fraction, count and dataset",
        ),
        Rule(
            "!has(self.fraction) || (double(self.fraction) > 0.0 && double(self.fraction) < 1.0)",
            "fraction must be above 0, and below 1",
            ".fraction",
        ),
        Rule("!has(self.groupBy) || !has(self.dataset)", "groupBy needs fraction or count", ".groupBy"),
    )

    fraction: Fraction | None = None
    """Share of the rows that is held out."""
    count: Samples | None = None
    """Number of rows that are held out."""
    dataset: Label | None = None
    """Name of the dataset whose rows are held out, all of them; none of them counts as a sample."""
    group_by: Literal["prompt"] | None = None
    """`prompt`: rows with equal prompts are held out together or not at all. Absent: each for itself; how
    many are on both sides is counted in any case."""
    every_steps: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    """Optimizer steps between two evaluations."""
    gate: Gate | None = None
    """Export and publish only a model that passes. To edit it trains nothing again. Absent: every model."""


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
    """How strongly the model is held to its base: with a small number it may leave it farther behind."""


class EarlyStopping(Model):
    """Ends a training whose loss on the held-out rows does not get lower any more."""

    patience: Annotated[int, Field(ge=1, le=1000)]
    """The training ends after so many evaluations in a row that are no improvement. It is complete then."""
    min_improvement: DecimalString = "0"
    """An evaluation is an improvement where its loss is lower by more than this than at the last improvement,
    in nats per learned token or per pair: `"0.005"`. The first evaluation is one."""


EVERY_PATTERN: Final = "^(epoch|[1-9][0-9]{0,3}m)$"


class Checkpoint(Model):
    """When the state of a training is saved to the store, and how many states are kept there."""

    every: Annotated[
        Annotated[int, Field(ge=1, le=1_000_000)]
        | Annotated[str, Field(pattern=EVERY_PATTERN, max_length=5)],
        INT_OR_STRING,
        form("a whole number of steps, epoch, or minutes like 10m"),
    ] = "epoch"
    """Optimizer steps between two checkpoints, `epoch`, or minutes: `10m`. One is sent to the store while the
    training goes on, which waits only where the next one is due before that is done."""
    keep: Annotated[Annotated[int, Field(ge=1, le=1000)] | Literal["all"], INT_OR_STRING] = 2
    """How many of the newest checkpoints are kept, or `all`."""
    select: Literal["last", "best"] = "last"
    """Which adapter is the training's: that of the last step, or that of the evaluation with the lowest loss
    on the held-out rows, which is kept apart from the checkpoints. `best` needs `training.evaluation`."""
    early_stopping: EarlyStopping | None = None
    """Ends the training before its last step. It needs `training.evaluation`. Absent: nothing does."""


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
    are not compiled. Evaluation is on that base but for the last one, which is on the unquantised base, like
    the export."""
    precision: Literal["auto", "bf16", "fp16", "fp32", "fp8"] = "auto"
    """Arithmetic of the forward and backward pass. `auto` is bf16, decided without looking at the
    card. `fp8` is bf16 too, but for the products of the base's frozen layers: faster on cards of compute
    capability 8.9 and newer, and less exact; evaluation is in it but for the last one, which is on the
    unquantised base, like the export. Adapter and optimizer are fp32 always."""
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
    """Longest conversation in tokens, of a pair with either answer; with `objective: pt`, the length of
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
    """Further arguments by LLaMA-Factory's own names, from an allow-list."""


class Merged(Model):
    """The adapter merged into the base model."""

    max_shard_size: Annotated[
        str, Field(pattern=r"^[1-9][0-9]{0,4}(MB|GB)$", max_length=7), form("a size like 500MB or 2GB")
    ] = "2GB"
    """Largest safetensors file."""
    checkpoint: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Optimizer step of a checkpoint that the training has kept, whose adapter is merged in place of the
    training's result; nothing is trained again. Losses, `evaluation.gate` and the kept adapter stay those of
    the result."""


class Publish(Model):
    """One place to publish the merged model to."""

    rules: ClassVar = (_plain("to"),)

    to: Annotated[
        str,
        Field(pattern=PUBLISH_TARGET, max_length=512),
        form("hf://OWNER/NAME, modelscope://OWNER/NAME or s3://BUCKET/PREFIX"),
    ]
    """`hf://OWNER/NAME`, `modelscope://OWNER/NAME` or `s3://BUCKET/PREFIX`. A hub's repository is made where
    it is missing, and gets one commit; what it holds beside the weights and under other names stays. Its NAME
    must be one that the licence of the base allows, where we know of a rule: Llama 3 and later, GLM-4."""
    connection: Label | None = None
    """Connection with the credentials of the target; a hub's token needs the right to write."""
    visibility: Literal["private", "public"] = "private"
    """Visibility of a hub's repository that is created; one that is there keeps its own."""


class Tracker(Model):
    """One experiment tracker that is told of the run."""

    rules: ClassVar = (
        Rule(
            "self.name == 'mlflow' ? has(self.experiment) : !has(self.experiment)",
            "experiment is where mlflow has the run: mlflow needs it, and no other tracker has it",
            ".experiment",
        ),
        Rule(
            "self.name == 'wandb' ? has(self.project) : !has(self.project) && !has(self.entity)",
            "project and entity are where wandb has the run: wandb needs a project, no other tracker has one",
            ".project",
        ),
        Rule(
            "self.name != 'mlflow' || has(self.connection)",
            "mlflow needs a connection, with the endpoint of its server",
            ".connection",
        ),
        Rule(
            "self.name != 'wandb' || has(self.connection)",
            "wandb needs a connection, with the Secret that has its key",
            ".connection",
        ),
        Rule(
            "self.name != 'tensorboard' || !has(self.connection)",
            "tensorboard has no connection: what it reads lies in the store",
            ".connection",
        ),
    )

    name: Literal["tensorboard", "mlflow", "wandb"]
    """`tensorboard`: event files in the store, in the folder `tensorboard` beside the page about the run.
    `mlflow`: a run on an MLflow server. `wandb`: a run at Weights & Biases, or on a server of its kind."""
    experiment: (
        Annotated[
            str,
            Field(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=250),
            form("the name of an experiment, in one line"),
        ]
        | None
    ) = None
    """MLflow's experiment, which is made where it is missing."""
    entity: (
        Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=64), form("the name of a user or team")]
        | None
    ) = None
    """The user or team of W&B whose project it is. Absent: the one that the key belongs to."""
    project: (
        Annotated[
            str,
            Field(pattern=r"^[A-Za-z0-9_.-]+$", max_length=128),
            form("the name of a project, of letters, digits, -, _ and ."),
        ]
        | None
    ) = None
    """W&B's project, which is made where it is missing."""
    connection: Label | None = None
    """Connection with the `endpoint` of the server, which may be absent for `wandb`, and with a Secret where
    the server asks for one."""


class ConfigMapTarget(Model):
    """A ConfigMap that says where the outputs are, for those that consume them."""

    name: Subdomain
    """Name of the ConfigMap, in the resource's namespace. One of the name that is there, and is not the
    resource's own, is left alone."""


class Export(Model):
    """What is made of the adapter, which is always kept."""

    rules: ClassVar = (
        Rule(
            "!has(self.publish) || size(self.publish) == 0 || has(self.merged)",
            "publish needs merged",
            ".publish",
        ),
    )

    merged: Merged | None = None
    """Merge the adapter into the base model. Absent: the adapter alone."""
    publish: Annotated[tuple[Publish, ...], list_map("to"), Field(max_length=8)] = ()
    """Where the merged model is published to."""
    trackers: Annotated[tuple[Tracker, ...], list_map("name"), Field(max_length=3)] | None = None
    """Experiment trackers that are told of the run once its training is done: curves, hyperparameters, the
    result and where it is. One that can't be told is a warning, and fails no run. Absent: none."""
    config_map: ConfigMapTarget | None = None
    """Keep a ConfigMap with the URIs and digests of the outputs once the run is complete. Absent: none. A
    local run makes none."""


class Storage(Model):
    """Where every stage leaves its output."""

    rules: ClassVar = (_plain("uri"),)

    uri: Annotated[str, Field(pattern=STORAGE_URI, max_length=512), form("s3://BUCKET/PREFIX or file://PATH")]
    """`s3://BUCKET/PREFIX`, or, in local runs only, `file://PATH`. It belongs to this namespace. Once the
    model is there, another place needs another resource: what was made stays where it is."""
    connection: Label | None = None
    """Connection of the store."""


class StageResources(Model):
    """Compute resources of one stage's pod."""

    rules: ClassVar = (
        keyed_by(RESOURCE_NAME, 128, RESOURCE_NAME_FORM, "self.requests", ".requests"),
        keyed_by(RESOURCE_NAME, 128, RESOURCE_NAME_FORM, "self.limits", ".limits"),
    )

    requests: Quantities = {}
    """What the pod asks for, like `{cpu: "8", memory: 64Gi}`."""
    limits: Quantities = {}
    """What the pod may not exceed."""
    scratch: Quantity = "50Gi"
    """Largest size of the pod's scratch directory."""


class Gpu(Model):
    """GPUs of the training."""

    count: Annotated[int, Field(ge=0, le=1024)] = 1
    """Number of GPUs of one node, which share every step; 0 trains on the CPU. It must divide
    `training.batchSize`, not `batchTokens`, and changes no result but for the order in which floats are added
    and what dropout drops."""
    resource_name: ResourceName = "nvidia.com/gpu"
    """Name of the extended resource."""
    memory: Quantity | None = None
    """Memory of one card, to prove before the run that the training fits."""


class TrainResources(StageResources):
    """Compute resources of the training's pods, which alone ask for GPUs."""

    gpu: Gpu = Gpu()
    """GPUs of the training."""
    nodes: Annotated[int, Field(ge=1, le=64)] = 1
    """Number of pods of the training, each with `gpu.count` GPUs, or on the CPU where that is 0, and each
    with these requests and limits. All share every step: `training.batchSize` must be a multiple of nodes
    times GPUs. It changes no result but as `gpu.count` does. Where one pod is lost all end, and go on
    together from the last checkpoint. `lorafinetune run` trains on one machine, whatever this says."""
    sharding: Literal["none", "fsdp2"] = "none"
    """`fsdp2` splits the layers of the frozen base over all GPUs of the training, for a model that does not
    fit one card: each is gathered while it computes. It changes no result but as `gpu.count` does, and costs
    speed. It does not go with `quantization: nf4`, `precision: fp8` or `lora.variant: dora`."""
    termination_grace_period_seconds: Annotated[int, Field(ge=10, le=3600)] = 120
    """Time to save a checkpoint when the pod is asked to leave."""


class Resources(Model):
    """Compute resources by stage."""

    download: StageResources = StageResources()
    """Resources of the download."""
    prepare: StageResources = StageResources()
    """Resources of the preparation."""
    train: TrainResources = TrainResources()
    """Resources of the training."""
    export: StageResources = StageResources()
    """Resources of the export."""


class Toleration(Model):
    """A taint that the pods tolerate."""

    key: Annotated[str, Field(max_length=316)] | None = None
    """Key of the taint. Absent, with `Exists`: every taint."""
    operator: Literal["Exists", "Equal"] = "Equal"
    """How the taint's value is compared."""
    value: LabelValue | None = None
    """Value of the taint, with `Equal`."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint. Absent: every effect."""
    toleration_seconds: Annotated[int, Field(ge=0, le=31_536_000)] | None = None
    """How long a `NoExecute` taint is tolerated."""


class ImagePullSecret(SecretReference):
    """A Secret to pull images with."""


class Scheduling(Model):
    """Where and with what standing the pods run."""

    rules: ClassVar = (
        keyed_by(
            r"^([a-z0-9.-]+/)?[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$",
            316,
            "the name of a label, like kubernetes.io/arch",
            "self.nodeSelector",
            ".nodeSelector",
        ),
    )

    queue_name: Label | None = None
    """Kueue's LocalQueue for the training."""
    priority_class_name: Subdomain | None = None
    """PriorityClass of the training's pod."""
    node_selector: Annotated[
        dict[Annotated[str, Field(max_length=316)], LabelValue],
        Field(max_length=16),
    ] = {}
    """Labels of the nodes that the training's pod may run on."""
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=16)] = ()
    """Taints that the training's pod tolerates."""
    service_account_name: Subdomain | None = None
    """ServiceAccount of every pod. Absent: the namespace's default."""
    image_pull_secrets: Annotated[tuple[ImagePullSecret, ...], list_map("name"), Field(max_length=8)] = ()
    """Secrets to pull the images with."""


def _known_connection(holder: str, path: str) -> Rule:
    known = "self.connections.exists(c, c.name == {})"
    return Rule(
        f"!has({holder}.connection) || " + known.format(f"{holder}.connection"),
        "names a connection that is not in spec.connections",
        path,
    )


class LoRAFineTuneSpec(Model):
    """The desired fine-tuning."""

    rules: ClassVar = (
        _known_connection("self.model", ".model.connection"),
        _known_connection("self.storage", ".storage.connection"),
        Rule(
            "self.datasets.all(d, !has(d.connection) || self.connections.exists(c, c.name == d.connection))",
            "a dataset names a connection that is not in spec.connections",
            ".datasets",
        ),
        Rule(
            "self.export.publish.all(p, !has(p.connection) || "
            "self.connections.exists(c, c.name == p.connection))",
            "a publish target names a connection that is not in spec.connections",
            ".export.publish",
        ),
        Rule(
            "!has(self.export.trackers) || self.export.trackers.all(t, !has(t.connection) || "
            "self.connections.exists(c, c.name == t.connection))",
            "a tracker names a connection that is not in spec.connections",
            ".export.trackers",
        ),
        Rule(
            "!has(self.export.trackers) || self.export.trackers.all(t, t.name != 'mlflow' || "
            "!has(t.connection) || self.connections.all(c, c.name != t.connection || has(c.endpoint)))",
            "mlflow's connection has no endpoint: give it the address of the server",
            ".export.trackers",
        ),
        Rule(
            "self.datasets.all(d, !has(d.name) || "
            "self.datasets.exists_one(e, has(e.name) && e.name == d.name))",
            "two datasets have the same name",
            ".datasets",
        ),
        Rule(
            "self.datasets.all(d, d.format == 'auto' || self.training.objective == "
            "(d.format == 'preference' ? 'dpo' : (d.format == 'text' ? 'pt' : 'sft')))",
            "a format does not go with training.objective: preference is for dpo, text for pt, "
            "and every other for sft",
            ".datasets",
        ),
        Rule(
            "self.training.objective != 'pt' || !self.datasets.exists(d, has(d.system))",
            "a dataset's system does not go with training.objective: pt, whose texts have no system prompt",
            ".datasets",
        ),
        Rule(
            "self.training.sampling == 'proportional' || !self.datasets.exists(d, has(d.weight))",
            "a dataset's weight needs training.sampling: proportional",
            ".datasets",
        ),
        Rule(
            "!has(self.training.evaluation) || !has(self.training.evaluation.dataset) || "
            "self.datasets.exists(d, has(d.name) && d.name == self.training.evaluation.dataset)",
            "names no dataset of spec.datasets",
            ".training.evaluation.dataset",
        ),
        Rule(
            "self.resources.train.gpu.count <= 1 || has(self.training.batchTokens) || "
            f"(has(self.training.batchSize) ? self.training.batchSize : {BATCH_SIZE}) % "
            "self.resources.train.gpu.count == 0",
            "must divide training.batchSize, the rows of a step, which GPUs share: change one of the two",
            ".resources.train.gpu.count",
        ),
        Rule(
            "self.resources.train.gpu.count <= 1 || self.training.objective != 'dpo'",
            "objective: dpo trains on one GPU: set it to 1",
            ".resources.train.gpu.count",
        ),
        Rule(
            "self.resources.train.nodes <= 1 || has(self.training.batchTokens) || "
            f"(has(self.training.batchSize) ? self.training.batchSize : {BATCH_SIZE}) % "
            "(self.resources.train.nodes * (self.resources.train.gpu.count > 1 ? "
            "self.resources.train.gpu.count : 1)) == 0",
            "nodes times gpu.count must divide training.batchSize, the rows of a step, which all share: "
            "change one of them",
            ".resources.train.nodes",
        ),
        Rule(
            "self.resources.train.sharding == 'none' || "
            "self.resources.train.nodes * self.resources.train.gpu.count > 1",
            "fsdp2 splits the base over several GPUs: ask for more than one, or set it to none",
            ".resources.train.sharding",
        ),
        Rule(
            "self.resources.train.sharding == 'none' || (self.training.quantization == 'none' && "
            "self.training.precision != 'fp8' && self.training.lora.variant != 'dora')",
            "fsdp2 does not go with quantization: nf4, precision: fp8 or lora.variant: dora: change one",
            ".resources.train.sharding",
        ),
        Rule(
            "self.resources.train.nodes <= 1 || self.training.objective != 'dpo'",
            "objective: dpo trains on one node: set it to 1",
            ".resources.train.nodes",
        ),
    )

    connections: Annotated[tuple[Connection, ...], list_map("name"), Field(max_length=8)] = ()
    """Stores, hubs and trackers; the only place where Secrets are named."""
    model: BaseModelSource
    """The pretrained model that is tuned."""
    datasets: Annotated[tuple[Dataset, ...], Field(min_length=1, max_length=32)]
    """Datasets, merged in this order."""
    training: Training
    """Hyperparameters."""
    export: Export = Export()
    """What is made of the adapter, which is always kept."""
    storage: Storage
    """Where every stage leaves its output."""
    resources: Resources = Resources()
    """Compute resources by stage."""
    scheduling: Scheduling = Scheduling()
    """Where and with what standing the pods run."""
    active_deadline_seconds: Seconds | None = None
    """Longest time that one stage's attempt may take."""
    suspend: bool = False
    """Stop after a checkpoint, and stay stopped."""
    max_retries: Annotated[int, Field(ge=0, le=100)] = 3
    """How often one stage is tried again after a failure that may pass. Preemptions don't count, nor does an
    attempt at the training that left a newer checkpoint than those before it."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=31_536_000)] | None = None
    """Removes Jobs this long after the end, never the resource itself."""
