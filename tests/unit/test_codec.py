"""What is accepted comes back as it was; what is refused is told in words, all of it, each thing once."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import document, resource
from lorafinetune.api.codec import MOST_PROBLEMS, InvalidResourceError, decode
from lorafinetune.api.values import BUCKETS
from searching import examples
from strategies import documents, specs, spoiled, statuses

KIND = {"apiVersion": "lorafinetune.dev/v1alpha1", "kind": "LoRAFineTune"}
WHOLE = documents(specs(), statuses())
JARGON = re.compile(r"Input should|constrained|tuple|dict|pydantic|literal|NoneType|\^|\\")

FEW = settings(max_examples=examples(25))


def problems(value: dict[str, Any]) -> list[str]:
    with pytest.raises(InvalidResourceError) as refused:
        decode(value)
    return [str(problem) for problem in refused.value.problems]


SENTENCES: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown field with a near name": (
        {"training": {"lernRate": "1e-4"}},
        "spec.training.lernRate: unknown field (did you mean learningRate?)",
    ),
    "an unknown field in other letters": (
        {"training": {"batch_size": 8}},
        "spec.training.batch_size: unknown field (did you mean batchSize?)",
    ),
    "an unknown field that is like no other": (
        {"storage": {"retries": 3}},
        "spec.storage.retries: unknown field (known: connection, uri)",
    ),
    "an unknown field in a list": (
        {"datasets": [{"source": "s3://data/a.json", "formt": "auto"}]},
        "spec.datasets[0].formt: unknown field (did you mean format?)",
    ),
    "an unknown field that would colour a terminal": (
        {"storage": {"\x1b[31m": 1}},
        r"spec.storage.\x1b[31m: unknown field (known: connection, uri)",
    ),
    "a required field that is missing": (
        {"storage": {"uri": None}},
        "spec.storage.uri: is required (`s3://BUCKET/PREFIX`, or, in local runs only, `file://PATH`. The "
        "place belongs to this namespace. Once the model is there, another place needs another resource: "
        "what was made stays where it is.)",
    ),
    "a number where a decimal string is wanted": (
        {"training": {"epochs": 10}},
        'spec.training.epochs: must be a string, not 10 (quote it: "10")',
    ),
    "a float where a decimal string is wanted": (
        {"training": {"learningRate": 0.0001}},
        'spec.training.learningRate: must be a string, not 0.0001 (quote it: "0.0001")',
    ),
    "a boolean where a string is wanted": (
        {"datasets": [{"source": "s3://data/a.json", "system": True}]},
        'spec.datasets[0].system: must be a string, not true (quote it: "true")',
    ),
    "a quoted number": (
        {"training": {"seed": "42"}},
        'spec.training.seed: must be a whole number, not "42" (remove the quotes: 42)',
    ),
    "a quoted number where a word may be": (
        {"training": {"checkpoint": {"every": "50"}}},
        "spec.training.checkpoint.every: must be a whole number of steps, epoch, or minutes like 10m, "
        'not "50" (remove the quotes: 50)',
    ),
    "a quoted boolean": (
        {"training": {"trainOnPrompt": "true"}},
        'spec.training.trainOnPrompt: must be true or false, not "true" (remove the quotes: true)',
    ),
    "a word that is no boolean": (
        {"suspend": "later"},
        'spec.suspend: must be true or false, not "later"',
    ),
    "a number with a point where a whole one is wanted": (
        {"training": {"seed": 1.5}},
        "spec.training.seed: must be a whole number, not 1.5",
    ),
    "a boolean where a number is wanted": (
        {"training": {"seed": True}},
        "spec.training.seed: must be a whole number, not true",
    ),
    "a number where an object is wanted": (
        {"training": {"lora": 8}},
        "spec.training.lora: must be an object, not 8",
    ),
    "an object where a list is wanted": (
        {"datasets": {"source": "s3://data/a.json"}},
        "spec.datasets: must be a list, not an object",
    ),
    "a string where a list is wanted": (
        {"training": {"lora": {"targets": "all"}}},
        'spec.training.lora.targets: must be a list, not "all"',
    ),
    "a null in a list": (
        {"training": {"lora": {"targets": [None]}}},
        "spec.training.lora.targets[0]: must be a string, not null",
    ),
    "a list where a number or a word is wanted": (
        {"training": {"checkpoint": {"keep": [2]}}},
        "spec.training.checkpoint.keep: must be a whole number or all, not a list",
    ),
    "a number below its range": (
        {"training": {"batchSize": 0}},
        "spec.training.batchSize: must be at least 1, not 0",
    ),
    "a number above its range": (
        {"training": {"lora": {"rank": 5000}}},
        "spec.training.lora.rank: must be at most 1024, not 5000",
    ),
    "a number far above every range": (
        {"training": {"seed": 10**30}},
        f"spec.training.seed: must be at most 2147483647, not {10**30}",
    ),
    "a misspelt option": (
        {"training": {"scheduler": "cosin"}},
        "spec.training.scheduler: must be one of cosine, linear, constant, constant_with_warmup, not "
        '"cosin" (did you mean cosine?)',
    ),
    "an option that is like no other": (
        {"training": {"precision": "int4"}},
        'spec.training.precision: must be one of auto, bf16, fp16, fp32, fp8, not "int4"',
    ),
    "a decimal that is none": (
        {"training": {"epochs": "ten"}},
        'spec.training.epochs: must be a number like "3", "0.5" or "1e-4", not "ten"',
    ),
    "a share above one": (
        {"training": {"warmupRatio": "9e-0"}},
        'spec.training.warmupRatio: must be a number from 0 to 1, like "0.1", not "9e-0"',
    ),
    "a source without a scheme": (
        {"model": {"source": "owner/model"}},
        "spec.model.source: must be hf://OWNER/NAME, modelscope://OWNER/NAME, s3://BUCKET/PREFIX or "
        'file://PATH, not "owner/model"',
    ),
    "a bucket whose name is too short": (
        {"datasets": [{"source": "s3://b/k.jsonl"}]},
        "spec.datasets[0].source: must be s3://BUCKET/KEY, s3://BUCKET/PREFIX/, hf://OWNER/NAME[/FILE], "
        "modelscope://OWNER/NAME[/FILE], https://HOST/FILE without user, query or fragment, or file://PATH, "
        f'not "s3://b/k.jsonl" ({BUCKETS})',
    ),
    "a bucket in capitals": (
        {"model": {"source": "s3://My_Bucket/x"}},
        "spec.model.source: must be hf://OWNER/NAME, modelscope://OWNER/NAME, s3://BUCKET/PREFIX or "
        f'file://PATH, not "s3://My_Bucket/x" ({BUCKETS})',
    ),
    "a good bucket with a key that is none": (
        {"export": {"merged": {}, "publish": [{"to": "s3://models//tuned"}]}},
        "spec.export.publish[0].to: must be hf://OWNER/NAME, modelscope://OWNER/NAME or s3://BUCKET/PREFIX, "
        'not "s3://models//tuned"',
    ),
    "a quoted number of more digits than any": (
        {"training": {"seed": "9" * 5000}},
        f'spec.training.seed: must be a whole number, not "{"9" * 60}…"',
    ),
    "a name in capitals": (
        {"storage": {"connection": "Store"}},
        'spec.storage.connection: must be a name of lowercase letters, digits and -, not "Store"',
    ),
    "a quantity in a unit that Kubernetes has not": (
        {"resources": {"train": {"gpu": {"memory": "24GB"}}}},
        'spec.resources.train.gpu.memory: must be a quantity like 8, 500m or 64Gi, not "24GB"',
    ),
    "a value that is long and odd": (
        {"storage": {"uri": "s3://\x1b[2J" + "x" * 100}},
        r'spec.storage.uri: must be s3://BUCKET/PREFIX or file://PATH, not "s3://\x1b[2J'
        + "x" * 51
        + f'…" ({BUCKETS})',
    ),
    "a text that is too long": (
        {"datasets": [{"source": "s3://data/a.json", "system": "é" * 9000}]},
        "spec.datasets[0].system: must have at most 8192 characters, not 9000",
    ),
    "a text that is empty": (
        {"datasets": [{"source": "s3://data/a.json", "columns": {"prompt": ""}}]},
        "spec.datasets[0].columns.prompt: must not be empty",
    ),
    "a list that is empty": ({"datasets": []}, "spec.datasets: must not be empty"),
    "a list that is too long": (
        {"datasets": [{"source": "s3://data/a.json"}] * 33},
        "spec.datasets: must have at most 32 items, not 33",
    ),
    "a map that is too large": (
        {"training": {"extraArgs": {f"a{n}": "1" for n in range(33)}}},
        "spec.training.extraArgs: must have at most 32 entries, not 33",
    ),
    "two items of one name": (
        {"connections": [{"name": "store"}, {"name": "hub"}, {"name": "store"}]},
        'spec.connections[2]: repeats the name "store" of item 0',
    ),
}


@pytest.mark.parametrize("sentence", SENTENCES)
def test_it_refuses(sentence: str) -> None:
    spec, message = SENTENCES[sentence]
    assert problems(document(spec)) == [message]


def test_it_refuses_a_misspelt_field_of_metadata() -> None:
    assert problems(document(labls={})) == ["metadata.labls: unknown field (did you mean labels?)"]


def test_it_refuses_a_number_as_an_annotation() -> None:
    expected = 'metadata.annotations.a: must be a string, not 1 (quote it: "1")'
    assert problems(document(annotations={"a": 1})) == [expected]


def test_it_passes_over_metadata_that_nobody_reads() -> None:
    assert decode(document(labels={"a": "b"}, managedFields=[{"odd": None}])) == resource()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(
            {"kind": "Job", "apiVersion": "batch/v1", "spec": {"template": {}}},
            [
                "apiVersion: must be lorafinetune.dev/v1alpha1, not batch/v1",
                "kind: must be LoRAFineTune, not Job",
            ],
            id="another kind is told by nothing else",
        ),
        pytest.param(
            KIND | {"kind": "LoraFinetune"},
            ["kind: must be LoRAFineTune, not LoraFinetune"],
            id="a misspelt kind",
        ),
        pytest.param(
            {"model_name_or_path": "x", "kind": 3, "apiVersion": None},
            [
                "apiVersion: is required (apiVersion: lorafinetune.dev/v1alpha1)",
                "kind: must be LoRAFineTune, not 3",
            ],
            id="a file of another program",
        ),
        pytest.param(
            KIND,
            [
                "metadata: is required (Name, namespace, labels and annotations.)",
                "spec: is required (What is wanted.)",
            ],
            id="nothing but a kind",
        ),
    ],
)
def test_it_says_what_it_was_given(value: dict[str, Any], expected: list[str]) -> None:
    assert problems(value) == expected


def test_it_tells_every_problem_once() -> None:
    spec = {
        "model": {"source": "owner/model", "sorce": "x"},
        "training": {"epochs": 10, "maxSteps": "5", "lora": {"rank": 0, "alpha": 0}},
        "export": {"publish": [{"to": "hf://a/b"}]},
    }
    assert problems(document(spec)) == [
        "spec.model.sorce: unknown field (did you mean source?)",
        "spec.model.source: must be hf://OWNER/NAME, modelscope://OWNER/NAME, s3://BUCKET/PREFIX or "
        'file://PATH, not "owner/model"',
        "spec.training.lora.rank: must be at least 1, not 0",
        "spec.training.lora.alpha: must be at least 1, not 0",
        'spec.training.epochs: must be a string, not 10 (quote it: "10")',
        'spec.training.maxSteps: must be a whole number, not "5" (remove the quotes: 5)',
        "spec.training: give epochs or maxSteps, not both",
        "spec.export.publish: publish needs merged",
    ]


def test_it_stops_telling_after_the_first_hundred() -> None:
    assert len(problems(document({f"field{n}": 1 for n in range(10_000)}))) == MOST_PROBLEMS


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param(
            {"training": {"evaluation": {"everySteps": 5}}},
            "spec.training.evaluation: give one of fraction, count and dataset",
            id="an evaluation of nothing",
        ),
        pytest.param(
            {"training": {"evaluation": {"gate": {"mustImproveBy": "0.02"}}}},
            "spec.training.evaluation: give one of fraction, count and dataset",
            id="a gate without held-out rows",
        ),
        pytest.param(
            {"training": {"evaluation": {"count": 5, "gate": {"mustImproveBy": 0.02}}}},
            'spec.training.evaluation.gate.mustImproveBy: must be a string, not 0.02 (quote it: "0.02")',
            id="a gate of a float",
        ),
        pytest.param(
            {"training": {"evaluation": {"count": 5, "gate": {"mustImproveBy": "-0.1"}}}},
            "spec.training.evaluation.gate.mustImproveBy: must be a number like "
            '"3", "0.5" or "1e-4", not "-0.1"',
            id="a gate for what is worse",
        ),
        pytest.param(
            {"training": {"evaluation": {"count": 5, "gate": {"metric": "accuracy", "mustImproveBy": "1"}}}},
            'spec.training.evaluation.gate.metric: must be one of evalLoss, not "accuracy"',
            id="a gate of what nobody measures",
        ),
        pytest.param(
            {"training": {"evaluation": {"count": 5, "gate": {}}}},
            "spec.training.evaluation.gate.mustImproveBy: is required (By how much it must be below the "
            'base\'s, in nats per learned token or per pair: `"0.02"`.)',
            id="a gate that asks for nothing",
        ),
        pytest.param(
            {"training": {"checkpoint": {"select": "best"}}},
            "spec.training.checkpoint.select: select: best needs evaluation: it goes by the loss on held-out "
            "rows",
            id="the best of what is not evaluated",
        ),
        pytest.param(
            {"training": {"checkpoint": {"earlyStopping": {"patience": 3}}}},
            "spec.training.checkpoint.earlyStopping: earlyStopping needs evaluation: it goes by the loss on "
            "held-out rows",
            id="a training that is to stop early, and is not evaluated",
        ),
        pytest.param(
            {"training": {"evaluation": {"count": 5}, "checkpoint": {"earlyStopping": {}}}},
            "spec.training.checkpoint.earlyStopping.patience: is required (The training ends after this many "
            "evaluations in a row without an improvement. It is complete then.)",
            id="early stopping without patience",
        ),
        pytest.param(
            {"training": {"evaluation": {"fraction": "0.1", "count": 5}}},
            "spec.training.evaluation: give one of fraction, count and dataset",
            id="an evaluation of two things",
        ),
        pytest.param(
            {"training": {"evaluation": {"dataset": "test"}}},
            "spec.training.evaluation.dataset: names no dataset of spec.datasets",
            id="an evaluation on a dataset that is not there",
        ),
        pytest.param(
            {
                "datasets": [{"source": "s3://raw/b.json", "name": "test"}],
                "training": {"evaluation": {"dataset": "test", "groupBy": "prompt"}},
            },
            "spec.training.evaluation.groupBy: groupBy needs fraction or count",
            id="groups of a dataset that is whole",
        ),
        pytest.param(
            {"datasets": [{"source": "s3://raw/b.json", "name": "a"}] * 2},
            "spec.datasets: two datasets have the same name",
            id="two datasets of one name",
        ),
        pytest.param(
            {"datasets": [{"source": "s3://raw/b.json", "weight": "2"}]},
            "spec.datasets: a dataset's weight needs training.sampling: proportional",
            id="a weight that nothing looks at",
        ),
        pytest.param(
            {
                "datasets": [{"source": "s3://raw/b.json", "weight": "0.0"}],
                "training": {"sampling": "proportional"},
            },
            "spec.datasets[0].weight: weight must be above 0",
            id="no weight",
        ),
        pytest.param(
            {"datasets": [{"source": "https://files.example/b.json", "connection": "store"}]},
            "spec.datasets[0].connection: an https:// source has no connection: it is fetched without "
            "credentials",
            id="credentials for a web server",
        ),
        pytest.param(
            {"storage": {"uri": "s3://bucket/runs/../other"}},
            "spec.storage.uri: has the part . or ..: write the path that is meant",
            id="a store outside of its prefix",
        ),
        pytest.param(
            {"export": {"merged": {}, "publish": [{"to": "s3://bucket/./a"}]}},
            "spec.export.publish[0].to: has the part . or ..: write the path that is meant",
            id="a publish target outside of its prefix",
        ),
        pytest.param(
            {"resources": {"train": {"gpu": {"count": 3}}}},
            "spec.resources.train.gpu.count: must divide training.batchSize, the rows of a step, which GPUs "
            "share: change one of the two",
            id="GPUs that can't share a step",
        ),
        pytest.param(
            {"training": {"batchSize": 2}, "resources": {"train": {"gpu": {"count": 4}}}},
            "spec.resources.train.gpu.count: must divide training.batchSize, the rows of a step, which GPUs "
            "share: change one of the two",
            id="more GPUs than rows in a step",
        ),
        pytest.param(
            {"resources": {"train": {"gpu": {"count": 4}, "nodes": 4}}},
            "spec.resources.train.nodes: nodes times gpu.count must divide training.batchSize, the rows of a "
            "step, which all share: change one of them",
            id="nodes whose GPUs can't share a step",
        ),
        pytest.param(
            {"resources": {"train": {"sharding": "fsdp2"}}},
            "spec.resources.train.sharding: fsdp2 splits the base over several GPUs: ask for more than one, "
            "or set it to none",
            id="a base split over one GPU",
        ),
        pytest.param(
            {
                "training": {"quantization": "nf4"},
                "resources": {"train": {"gpu": {"count": 2}, "sharding": "fsdp2"}},
            },
            "spec.resources.train.sharding: fsdp2 does not go with quantization: nf4, precision: fp8 or "
            "lora.variant: dora: change one",
            id="a base in 4 bits that is split",
        ),
        pytest.param(
            {"resources": {"train": {"gpu": {"count": 0}, "nodes": 3}}},
            "spec.resources.train.nodes: nodes times gpu.count must divide training.batchSize, the rows of a "
            "step, which all share: change one of them",
            id="nodes whose processors can't share a step",
        ),
        pytest.param(
            {"training": {"packing": "tokens"}},
            "spec.training.packing: packing: tokens needs batchTokens, the tokens of an optimizer step",
            id="steps of tokens without their number",
        ),
        pytest.param(
            {"training": {"batchTokens": 4096}},
            "spec.training.batchTokens: batchTokens needs packing: tokens",
            id="a number of tokens without steps of them",
        ),
        pytest.param(
            {"training": {"packing": "tokens", "batchTokens": 4096, "batchSize": 8}},
            "spec.training.batchSize: give batchSize or batchTokens, not both: a step has so many "
            "conversations, or so many tokens",
            id="two sizes of a step",
        ),
        pytest.param(
            {"training": {"packing": "tokens", "batchTokens": 2000}},
            "spec.training.batchTokens: batchTokens must be at least cutoffLength: a conversation stays "
            "whole",
            id="a step that the longest conversation does not fit",
        ),
        pytest.param(
            {"training": {"objective": "dpo", "packing": "tokens", "batchTokens": 4096}},
            "spec.training.packing: packing: tokens does not go with objective: dpo, whose pairs are padded",
            id="pairs in steps of tokens",
        ),
    ],
)
def test_rules(spec: dict[str, Any], expected: str) -> None:
    assert problems(document(spec)) == [expected]


ADDRESSES = {
    "a file": ("https://files.example/rows.jsonl", True),
    "a file in folders, at a port": ("https://files.example:8443/a/b/rows.jsonl", True),
    "a file with a name in Chinese": ("https://files.example/单轮.json", True),
    "the same, as browsers copy it": ("https://files.example/%E5%8D%95%E8%BD%AE.json", True),
    "a host alone": ("https://files.example", False),
    "a folder": ("https://files.example/a/", False),
    "no TLS": ("http://files.example/rows.jsonl", False),
    "a user": ("https://user:secret@files.example/rows.jsonl", False),
    "a query, which may be a signature": ("https://files.example/rows.jsonl?X-Amz-Signature=0", False),
    "a fragment": ("https://files.example/rows.jsonl#1", False),
    "a host in capitals, which would be another key": ("https://Files.example/rows.jsonl", False),
    "a part of a host that is empty": ("https://files..example/rows.jsonl", False),
    "a part of a host that is too long": (f"https://{'a' * 64}.example/rows.jsonl", False),
    "port 0": ("https://files.example:0/rows.jsonl", False),
    "a space": ("https://files.example/two words.jsonl", False),
}


@pytest.mark.parametrize("sentence", ADDRESSES)
def test_an_address_of_a_dataset(sentence: str) -> None:
    source, is_one = ADDRESSES[sentence]
    value = document({"datasets": [{"source": source}]})
    if is_one:
        assert decode(value).spec.datasets[0].source == source
    else:
        assert [problem.partition(":")[0] for problem in problems(value)] == ["spec.datasets[0].source"]


def test_an_unknown_field_does_not_hide_a_broken_rule() -> None:
    assert problems(document({"training": {"maxSteps": 5, "bogus": 1}})) == [
        "spec.training.bogus: unknown field (known: batchSize, batchTokens, checkpoint, cutoffLength, "
        "deduplicate, dpo, epochs, evaluation, extraArgs, learnFrom, learningRate, lora, maxGradNorm, "
        "maxSamples, maxSteps, objective, packing, precision, quantization, sampling, scheduler, seed, "
        "trainOnPrompt, warmupRatio, weightDecay)",
        "spec.training: give epochs or maxSteps, not both",
    ]


def test_null_is_absent() -> None:
    spec = document()["spec"]
    given = document() | {"spec": spec | {"suspend": None, "activeDeadlineSeconds": None}}
    assert decode(given) == resource()


def test_a_whole_number_may_be_written_with_a_point() -> None:
    assert resource({"training": {"seed": 7.0, "checkpoint": {"every": 10.0}}}) == resource(
        {"training": {"seed": 7, "checkpoint": {"every": 10}}}
    )


def test_decoding_leaves_what_it_was_given_as_it_was() -> None:
    given = document({"training": {"seed": 7.0}})
    decode(given)
    assert given == document({"training": {"seed": 7.0}})


@FEW
@given(WHOLE)
def test_what_is_encoded_is_decoded_to_the_same(value: dict[str, Any]) -> None:
    decoded = decode(value)
    assert decode(decoded.encode()) == decoded


@FEW
@given(spoiled(WHOLE))
def test_messages_are_in_plain_words(value: dict[str, Any]) -> None:
    messages: list[str] = []
    try:
        decode(value)
    except InvalidResourceError as invalid:
        messages = [problem.message.split(", not ")[0] for problem in invalid.problems]
    assert [message for message in messages if JARGON.search(message)] == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@FEW
@given(st.dictionaries(st.sampled_from(["metadata", "spec", "status", "x"]), JSON))
def test_it_takes_or_refuses_whatever_it_is_given(value: dict[str, Any]) -> None:
    with pytest.raises(InvalidResourceError):
        decode(value | KIND)
