"""Cleaning of answers, held against the recipe's own steps."""

import re
from tempfile import TemporaryFile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorafinetune.api.datasets import Clean, Replace
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.prepare.cleaning import Cleaner
from lorafinetune_stages.prepare.conversation import Conversation, Turn
from lorafinetune_stages.prepare.rowfile import RowFile

RECIPE = Clean(remove=("🐳",), drop_intro_line="好，我是")


def cleaned(answer: str, rules: Clean = RECIPE) -> str:
    conversation = Conversation((Turn("user", "q"), Turn("assistant", answer)))
    return Cleaner(rules, "clean").clean(conversation).turns[1].content


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
    conversation = Cleaner(RECIPE, "clean").clean(Conversation(turns, system="🐳", tools="🐳"))
    assert [turn.content for turn in conversation.turns] == ["🐳", "🐳", "🐳", "a", "🐳", "b"]
    assert (conversation.system, conversation.tools) == ("🐳", "🐳")


def patterns(*pairs: tuple[str, str]) -> Clean:
    return Clean(replace=tuple(Replace(pattern=pattern, replacement=text) for pattern, text in pairs))


@pytest.mark.parametrize(
    ("answer", "rules", "expected"),
    [
        pytest.param("a  b   c", patterns((r" {2,}", " ")), "a b c", id="every match is replaced"),
        pytest.param("你好（笑）。（鞠躬）", patterns(("（[^）]*）", "")), "你好。", id="of any script"),
        pytest.param("Ab", patterns(("(?i)a", "x"), ("x", "y")), "yb", id="one after the other"),
        pytest.param("ab", patterns(("(a)(b)", r"\2\1")), r"\2\1", id="the replacement is plain text"),
        pytest.param("ab", patterns(("x*", "-")), "-a-b-", id="empty matches"),
        pytest.param(
            "a" * 50_000 + "!", patterns(("(a+)+$", "")), "a" * 50_000 + "!", id="what explodes elsewhere"
        ),
    ],
)
def test_patterns_are_replaced(answer: str, rules: Clean, expected: str) -> None:
    assert cleaned(answer, rules) == expected


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        pytest.param("a(", "missing ): a(", id="open"),
        pytest.param("(?=a)b", "invalid perl operator: (?=", id="look-around"),
        pytest.param("(.{1,1000}){1,1000}", "invalid repetition size: {1,1000}", id="too large"),
    ],
)
def test_a_pattern_that_is_none_is_refused_by_its_field(pattern: str, why: str) -> None:
    with pytest.raises(StageError) as caught:
        Cleaner(patterns(("a", ""), (pattern, "")), "datasets[3].clean")
    assert caught.value.reason is Reason.CONFIG_INVALID
    assert caught.value.message == (
        f"datasets[3].clean.replace[1].pattern: is no regular expression of RE2: {why}"
    )


def test_matches_that_add_up_to_too_much_time_end_the_run() -> None:
    times = iter(range(100))
    cleaner = Cleaner(patterns(("a", "b")), "datasets[0].clean", clock=lambda: float(next(times)))
    conversation = Conversation((Turn("user", "q"), Turn("assistant", "a" * 9)))
    with pytest.raises(StageError) as caught:
        cleaner.clean(conversation)
    assert caught.value.message == (
        "datasets[0].clean.replace[0].pattern: takes more than 5 s for an answer of 9 characters"
    )


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
    with TemporaryFile(buffering=0) as scratch:
        rows = RowFile(scratch)
        rows.append(conversation.pack("a:1"))
        assert [*map(Conversation.unpack, rows.read([0]))] == [("a:1", conversation)]
