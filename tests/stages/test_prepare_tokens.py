"""Tokens and labels of every template that LLaMA-Factory has, held against its own processor.

Most tokenizers are trained here, and stand in for those of Qwen, Llama 3 and GLM-4: they split, normalise and
merge in the same ways, and know the same special tokens, but only a few words. What shows that our tokens are
LLaMA-Factory's is tried with the real ones of Qwen and Llama 3 too.
"""

import copy
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from lorafinetune_stages.prepare.bytepairs import ONE_DIGIT, THREE_DIGITS
from lorafinetune_stages.prepare.conversation import Conversation, Role, Turn
from searching import examples
from stages.peer import GLM_TOKENS, llama3, qwen3
from stages.prepare_builders import EMOLLM, Bench

pytestmark = pytest.mark.model

SPECIAL = [
    *GLM_TOKENS,
    "<|im_start|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS = json.dumps([{"name": "weather", "description": "of a city", "parameters": PARAMETERS}])
CALL = '{"name": "weather", "arguments": {"city": "Oslo"}}'


def split_by(pattern: str) -> Any:
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


@dataclass(frozen=True)
class Kind:
    """A way of making tokens. fast: whether tiktoken can take the tokenizer's place."""

    splitting: Any
    normaliser: Any = None
    fast: bool = True


KINDS: Mapping[str, Kind] = {
    "as SmolLM2": Kind(pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "as Qwen": Kind(split_by(ONE_DIGIT), normalizers.NFC()),
    "as Llama 3 and GLM-4": Kind(split_by(THREE_DIGITS)),
    "as none that is known": Kind(pre_tokenizers.ByteLevel(add_prefix_space=True), fast=False),
}

REAL: Mapping[str, Callable[[], Any]] = {"of Qwen3 itself": qwen3, "of Llama 3 itself": llama3}


@cache
def known(kind: str) -> Any:
    return REAL[kind]() if kind in REAL else trained(kind)


def trained(kind: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = KINDS[kind].splitting
    tokenizer.decoder = decoders.ByteLevel()
    if KINDS[kind].normaliser:
        tokenizer.normalizer = KINDS[kind].normaliser
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1024, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    text = (EMOLLM / "ruozhiba_raw.jsonl").read_text(encoding="utf-8")
    tokenizer.train_from_iterator(text.splitlines()[:100], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<sop>", eos_token="<|im_end|>")


LLAMA_CHAT = (
    "{% set told = messages[0].role == 'system' %}{{ bos_token }}"
    "<|start_header_id|>system<|end_header_id|>\n\n"
    "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
    "{% if told %}{{ messages[0].content }}{% endif %}<|eot_id|>"
    "{% for item in messages[told | int:] %}"
    "<|start_header_id|>{{ item.role }}<|end_header_id|>\n\n{{ item.content }}<|eot_id|>{% endfor %}"
)
"""As since Llama 3.1: dates before every system prompt, also before none."""


def test_dates_in_the_system_prompts_of_the_model_s_own_template_are_a_warning() -> None:
    """Not an error, though the template was inferred: of Llama 3 they are known."""
    from llamafactory.hparams import DataArguments

    from lorafinetune_stages.prepare.preflight import Toolkit
    from lorafinetune_stages.prepare.template_comparison import fit_template

    tokenizer = copy.deepcopy(known("as Llama 3 and GLM-4"))
    tokenizer.chat_template = LLAMA_CHAT
    _, fit = fit_template("llama3", True, Toolkit(DataArguments(template="llama3"), tokenizer, None), ())
    assert fit.warnings == ["the model's own template begins system prompts with dates, llama3 does not"]
    assert fit.default_system.startswith("have no system prompt: llama3 gives them another than")


def test_qwen3_s_own_template_is_the_one_that_is_inferred_for_it_with_tools_too() -> None:
    from llamafactory.hparams import DataArguments

    from lorafinetune_stages.prepare.examples import Example
    from lorafinetune_stages.prepare.preflight import Toolkit
    from lorafinetune_stages.prepare.template_comparison import fit_template
    from lorafinetune_stages.prepare.templates import infer_template

    tokenizer = qwen3()
    assert infer_template({"model_type": "qwen3"}, tokenizer.chat_template) == "qwen3"
    toolkit = Toolkit(DataArguments(template="qwen3"), tokenizer, None)
    calling = Conversation((Turn("user", "W?"), Turn("assistant", "Wet.")), "Be brief.", TOOL)
    _, fit = fit_template("qwen3", True, toolkit, [Example("row 1", calling)])
    assert (fit.differs, fit.warnings) == (False, [])


TOOL = json.dumps([{"name": "weather", "description": "of a city", "parameters": {"type": "object"}}])


@dataclass(frozen=True)
class Both:
    """Our way, and LLaMA-Factory's, of making tokens for one template."""

    ours: Any
    peer: Any

    def compare(self, conversations: Sequence[Conversation]) -> None:
        expected = self.peer.preprocess_dataset(
            {
                "_prompt": [_messages(row.turns[:-1]) for row in conversations],
                "_response": [_messages(row.turns[-1:]) for row in conversations],
                "_system": [row.system for row in conversations],
                "_tools": [row.tools for row in conversations],
                **{name: [None] * len(conversations) for name in ("_images", "_videos", "_audios")},
            }
        )
        found = self.ours.encode(conversations)
        assert [row.tokens.tolist() for row in found] == expected["input_ids"]
        assert [row.labels.tolist() for row in found] == expected["labels"]


def _messages(turns: Sequence[Turn]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def both(template: str, kind: str, **arguments: Any) -> Both:
    """Raises ValueError for a template that can't be used like this."""
    from llamafactory.data.processor import SupervisedDatasetProcessor
    from llamafactory.data.template import TEMPLATES, get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments

    from lorafinetune_stages.prepare.tokeniser import Tokeniser

    tokenizer = copy.deepcopy(known(kind))
    data_args = DataArguments(template=template, **arguments)
    made = copy.copy(get_template_and_fix_tokenizer(tokenizer, data_args))
    assert made is not TEMPLATES[template]
    peer = SupervisedDatasetProcessor(template=made, tokenizer=tokenizer, processor=None, data_args=data_args)
    return Both(Tokeniser(made, tokenizer, None, data_args), peer)


@cache
def remembered(template: str, kind: str, arguments: tuple[tuple[str, Any], ...]) -> Both:
    return both(template, kind, **dict(arguments))


def talk(*texts: str, system: str = "") -> Conversation:
    roles: tuple[Role, Role] = ("user", "assistant")
    return Conversation(tuple(Turn(roles[index % 2], text) for index, text in enumerate(texts)), system)


ROWS = (
    talk(
        "你好", "<think>\nwell\n</think>\n\n你好🐳", "2", "no", "I'm  12345", "ok\n", system="你是心理咨询师"
    ),
    talk("{{content}} {{idx}} {{system}}", "e\u0301 é"),
    talk("x" * 300, "y z " * 100, "w" * 10, "v " * 150),
)
TOOL_ROW = Conversation(
    (
        Turn("user", "W?"),
        Turn("function", CALL),
        Turn("observation", '{"rain": 1}'),
        Turn("assistant", "Wet."),
    ),
    "Use tools.",
    TOOLS,
)


def template_names() -> list[str]:
    from lorafinetune_stages.prepare.templates import known_templates

    return sorted(known_templates())


@pytest.mark.filterwarnings("default")
def test_every_template_of_llama_factory_is_followed_without_its_encoding() -> None:
    """Left out are those for images, which ask for a processor, and those with tokens that are not here."""
    left_out = []
    for name in template_names():
        pair = both(name, "as SmolLM2", cutoff_len=256)
        if pair.ours.is_fast:
            pair.compare(ROWS)
        else:
            left_out.append(name)
    assert len(template_names()) - len(left_out) > 65
    assert not {"glm4", "qwen", "llama3", "smollm2", "qwen3"}.intersection(left_out)


FAMILIES = (
    ("smollm2", "as SmolLM2"),
    ("qwen", "as Qwen"),
    ("qwen", "of Qwen3 itself"),
    ("qwen3", "of Qwen3 itself"),
    ("llama3", "as Llama 3 and GLM-4"),
    ("llama3", "of Llama 3 itself"),
    ("glm4", "as Llama 3 and GLM-4"),
)


@pytest.mark.parametrize(("template", "kind"), FAMILIES)
def test_every_row_of_the_real_data_has_llama_factory_s_tokens(
    template: str, kind: str, tmp_path: Path
) -> None:
    """Role play of several turns with system prompts, and single turns without: some are cut."""
    bench = Bench(tmp_path)
    for name in ("aiwei.json", "self_cognition_EmoLLM.json", "ruozhiba_raw.jsonl"):
        bench.add((EMOLLM / name).read_bytes(), name)
    rows = bench.conversations()
    assert len(rows) == 1600 + 85 + 240
    pair = both(template, kind, cutoff_len=2048)
    assert pair.ours.is_fast
    pair.compare(rows)


def called(arguments: Any, *more: Any) -> Conversation:
    calls = [{"name": "weather", "arguments": value} for value in (arguments, *more)]
    function = Turn("function", json.dumps(calls if more else calls[0]))
    return replace(TOOL_ROW, turns=(TOOL_ROW.turns[0], function, *TOOL_ROW.turns[2:]))


def described(**parameter: Any) -> Conversation:
    tool = {"name": "weather", "parameters": {"properties": {"city": parameter}}}
    return replace(TOOL_ROW, tools=json.dumps([tool]))


def required(names: Any) -> Conversation:
    tool = {"name": "weather", "parameters": {"properties": {"city": {}}, "required": names}}
    return replace(TOOL_ROW, tools=json.dumps([tool]))


ODD_TOOLS = {
    "what all of them take": TOOL_ROW,
    "two calls at once": called({}, {}),
    "a text for arguments": called("Oslo"),
    "a list for arguments": called(["Oslo"]),
    "null for arguments": called(None),
    "a call inside of an argument": called({"city": "<tool_call>Oslo</tool_call>"}),
    "numbers to choose from": described(enum=[1, 2]),
    "true for what is to choose from": described(enum=True),
    "a text for the kind of items": described(items="string"),
    "null for what is required": required(None),
    "a number for what is required": required(1),
}
NEEDED_TOKENS = {"chatglm3", "yuan"}
"""Templates that write tokens which the tokenizers here lack."""


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("sentence", ODD_TOOLS)
def test_a_row_is_bad_exactly_where_llama_factory_s_template_raises_on_its_tools(sentence: str) -> None:
    from lorafinetune_stages.prepare.tool_support import can_write

    differing = []
    for name in sorted({*template_names()} - NEEDED_TOKENS):
        pair = remembered(name, "as SmolLM2", (("cutoff_len", 2048),))
        if pair.ours.is_fast and can_write(pair.ours.template, ODD_TOOLS[sentence]) != encodes(
            pair.ours, ODD_TOOLS[sentence]
        ):
            differing.append(name)
    assert differing == []


def encodes(tokeniser: Any, row: Conversation) -> bool:
    try:
        tokeniser.encode([row])
    except Exception:  # each template has its own
        return False
    return True


WORDS = st.sampled_from(
    ["12345", "I'll ", "\n\n", "你好", "é", "🐳", " ông", "<think>", "</think>", "{{content}}", "\ue000"]
)
"""Among them a token of Llama 3 for which tiktoken is not asked, as one of its parts ranks behind it."""
TEXTS = st.lists(st.one_of(WORDS, st.text(st.characters(codec="utf-8"), max_size=8)), max_size=30).map(
    "".join
)
TURNS = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    """With or without history, system prompt and tools."""
    if draw(st.integers(0, 5)) == 0:
        return TOOL_ROW
    texts = [text for turn in draw(TURNS) for text in turn]
    return talk(*texts, system=draw(st.one_of(st.just(""), TEXTS)))


LEARNED: Sequence[dict[str, Any]] = [{}, {"mask_history": True}, {"train_on_prompt": True}]


@pytest.mark.parametrize("learned", LEARNED, ids=["answers", "the last answer", "prompts, too"])
@pytest.mark.parametrize(("template", "kind"), FAMILIES)
def test_tools_system_prompts_and_history_have_llama_factory_s_labels(
    template: str, kind: str, learned: dict[str, Any]
) -> None:
    if template == "glm4" and "train_on_prompt" in learned:
        pytest.skip("LLaMA-Factory learns no prompts with glm4")
    for cutoff in (256, 4096):
        pair = remembered(template, kind, (("cutoff_len", cutoff), *learned.items()))
        assert pair.ours.is_fast
        pair.compare((*ROWS, TOOL_ROW, replace(TOOL_ROW, system="")))


@settings(max_examples=examples(40), suppress_health_check=list(HealthCheck))
@given(
    template=st.sampled_from(["glm4", "qwen", "llama3", "smollm2", "qwen3", "llama2", "chatml"]),
    kind=st.sampled_from(sorted(KINDS)),
    cutoff=st.sampled_from([16, 64, 2048]),
    learned=st.sampled_from(LEARNED),
    rows=st.lists(conversations(), min_size=1, max_size=3),
)
def test_any_conversation_has_llama_factory_s_tokens(
    template: str, kind: str, cutoff: int, learned: dict[str, Any], rows: list[Conversation]
) -> None:
    if template == "glm4" and learned:  # LLaMA-Factory learns no prompts with it
        learned = LEARNED[1]
    pair = remembered(template, kind, (("cutoff_len", cutoff), *learned.items()))
    pair.ours.prove(rows)
    assert pair.ours.is_fast, "what is cut is told otherwise than by LLaMA-Factory's own encoding"
    pair.compare(rows)


@settings(max_examples=examples(40), suppress_health_check=list(HealthCheck))
@given(
    family=st.sampled_from([family for family in FAMILIES if family[1] in REAL]),
    rows=st.lists(conversations(), min_size=1, max_size=3),
)
def test_any_conversation_has_llama_factory_s_tokens_with_real_vocabularies(
    family: tuple[str, str], rows: list[Conversation]
) -> None:
    pair = remembered(*family, (("cutoff_len", 64),))
    assert pair.ours.is_fast
    pair.compare(rows)


@cache
def replaced(kind: str) -> Any:
    from lorafinetune_stages.prepare.bytepairs import find_byte_pairs

    return find_byte_pairs(known(kind))


def test_a_tokenizer_that_is_not_known_makes_its_own_tokens() -> None:
    assert {name: replaced(name) is not None for name in (*KINDS, *REAL)} == {
        **{name: kind.fast for name, kind in KINDS.items()},
        **dict.fromkeys(REAL, True),
    }


@pytest.mark.parametrize(
    ("kind", "tokens"),
    [
        pytest.param("of Qwen3 itself", 151_643, id="Qwen"),
        pytest.param("of Llama 3 itself", 128_000, id="Llama 3"),
    ],
)
def test_every_token_of_a_real_vocabulary_is_made_the_same_way(kind: str, tokens: int) -> None:
    """Those that are texts, each by itself and eight in a row."""
    exact, pairs = known(kind).backend_tokenizer, replaced(kind)
    assert exact.get_vocab_size(with_added_tokens=False) == tokens
    texts = [exact.decode([token]) for token in range(tokens)]
    texts = [text for text in texts if "\ufffd" not in text and pairs.covers(text)]
    assert len(texts) > 0.98 * tokens
    rows = ["".join(texts[start : start + 8]) for start in range(0, len(texts), 8)]
    texts += filter(pairs.covers, rows)
    expected = [encoding.ids for encoding in exact.encode_batch(texts, add_special_tokens=False)]
    made, sizes = pairs.encode(texts)
    assert made.tolist() == [token for ids in expected for token in ids]
    assert sizes.tolist() == list(map(len, expected))


@pytest.mark.parametrize("kind", [*REAL, "as SmolLM2"])
def test_plain_texts_are_encoded_the_fast_way(kind: str) -> None:
    from llamafactory.hparams import DataArguments

    from lorafinetune_stages.prepare.blocks import TextTokeniser

    tokenizer = copy.deepcopy(known(kind))
    tokenizer.eos_token = tokenizer.eos_token or "<|im_end|>"
    assert TextTokeniser(tokenizer, DataArguments(template="qwen", cutoff_len=64)).is_fast


def test_a_template_that_looks_into_its_tokens_is_left_to_llama_factory() -> None:
    from llamafactory.data.template import TEMPLATES, Template
    from llamafactory.hparams import DataArguments

    from lorafinetune_stages.prepare.tokeniser import Tokeniser

    class Shortening(Template):  # type: ignore[misc]  # LLaMA-Factory is not typed
        def encode_multiturn(self, *arguments: Any) -> Any:
            return [(prompt[:-1], answer) for prompt, answer in super().encode_multiturn(*arguments)]

    template = Shortening(**vars(TEMPLATES["qwen"]))
    tokeniser = Tokeniser(template, known("as Qwen"), None, DataArguments(template="qwen"))
    assert not tokeniser.is_fast
    assert len(tokeniser.encode(ROWS)) == len(ROWS)


def test_tokens_that_differ_end_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if LLaMA-Factory's rules had changed, the labels come out otherwise."""
    pair = both("qwen", "as Qwen")
    fast = pair.ours._fast
    otherwise = dataclasses.replace(fast, rules=dataclasses.replace(fast.rules, prompts_too=True))
    monkeypatch.setattr(pair.ours, "_fast", otherwise)
    pair.ours.prove(ROWS)
    assert not pair.ours.is_fast
    pair.compare(ROWS)
