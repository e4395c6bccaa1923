"""Cleaning of answers, held against the recipe's own steps."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorafinetune.api.spec import Clean
from lorafinetune_stages.prepare.cleaning import clean
from lorafinetune_stages.prepare.conversation import Conversation, Turn

RECIPE = Clean(remove=("🐳",), drop_intro_line="好，我是")


def cleaned(answer: str, rules: Clean = RECIPE) -> str:
    return clean(Conversation((Turn("user", "q"), Turn("assistant", answer))), rules).turns[1].content


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param("a🐳b🐳", "ab", id="the whale is removed wherever it is"),
        pytest.param("你好，我是EmoLLM。\n请坐。", "请坐。", id="an introduction loses its line"),
        pytest.param("\n 你好，我是EmoLLM。\n\n请坐。\n", "请坐。", id="and is stripped before and after"),
        pytest.param(
            "请坐。\n你好，我是EmoLLM。", "你好，我是EmoLLM。", id="the first line goes in any case"
        ),
        pytest.param("你好，我是EmoLLM。", "你好，我是EmoLLM。", id="an answer of one line keeps it"),
        pytest.param("好，🐳我是小艾\n是的", "是的", id="texts are removed first"),
        pytest.param(" 请坐。\n再说。 ", " 请坐。\n再说。 ", id="another answer is not stripped"),
    ],
)
def test_answers_are_cleaned_as_the_recipe_does_it(answer: str, expected: str) -> None:
    assert cleaned(answer) == expected


def test_without_rules_nothing_is_changed() -> None:
    assert cleaned(" 🐳 好，我是\nx", Clean()) == " 🐳 好，我是\nx"


def test_every_answer_is_cleaned_and_nothing_else() -> None:
    turns = (
        Turn("user", "🐳"),
        Turn("function", "🐳"),
        Turn("observation", "🐳"),
        Turn("assistant", "🐳a"),
        Turn("user", "🐳"),
        Turn("assistant", "b🐳"),
    )
    conversation = clean(Conversation(turns, system="🐳", tools="🐳"), RECIPE)
    assert [turn.content for turn in conversation.turns] == ["🐳", "🐳", "🐳", "a", "🐳", "b"]
    assert (conversation.system, conversation.tools) == ("🐳", "🐳")


def by_hand(output: str) -> str:
    """The recipe's own steps."""
    output = output.replace("🐳", "")
    if "好，我是" in output:
        output = output.strip()
        output = re.sub(r"^[^\n]+\n", "", output)
        output = output.strip()
    return output


@given(st.lists(st.sampled_from(["🐳", "好，", "我是", "\n", " ", "a", "你好，我是"])).map("".join))
def test_cleaning_equals_the_recipe_on_any_answer(answer: str) -> None:
    assert cleaned(answer) == by_hand(answer)


@given(
    st.lists(
        st.tuples(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8"))), min_size=1
    )
)
def test_a_conversation_survives_the_scratch_file(pairs: list[tuple[str, str]]) -> None:
    turns = tuple(turn for q, a in pairs for turn in (Turn("user", q), Turn("assistant", a)))
    conversation = Conversation(turns, system=pairs[0][0], tools=pairs[0][1])
    line = conversation.encode()
    assert Conversation.decode(line) == conversation
    assert not {b"\n", b"\t"} & {bytes([byte]) for byte in line}
