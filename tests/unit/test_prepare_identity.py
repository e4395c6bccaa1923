"""What a default system prompt says of the assistant, against what the answers say."""

import pytest

from lorafinetune_stages.prepare.conversation import Conversation, Turn
from lorafinetune_stages.prepare.identity import contradiction, told_name

SMOLLM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face."


@pytest.mark.parametrize(
    ("system", "name"),
    [
        pytest.param(SMOLLM, "SmolLM", id="SmolLM2's"),
        pytest.param(
            "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.", "Qwen", id="Qwen's"
        ),
        pytest.param("You are a helpful assistant.", "", id="one without a name"),
        pytest.param("", "", id="none"),
    ],
)
def test_the_name_that_a_prompt_gives(system: str, name: str) -> None:
    assert told_name(system) == name


def rows(*answers: str, system: str = "") -> list[Conversation]:
    return [Conversation((Turn("user", "你是谁"), Turn("assistant", answer)), system) for answer in answers]


WARNING = (
    "3 rows without a system prompt answer as EmoLLM, but the default system prompt of smollm2 "
    "says SmolLM: set datasets[].system"
)


@pytest.mark.parametrize(
    ("conversations", "warning"),
    [
        pytest.param(rows("您好，我是EmoLLM。", "我叫 EmoLLM", "I am EmoLLM."), WARNING, id="another name"),
        pytest.param(
            rows("我叫艾薇，很高兴认识你。", "你好，我的名字是艾薇。", "我叫艾薇"),
            WARNING.replace("EmoLLM", "艾薇"),
            id="another name in Chinese",
        ),
        pytest.param(rows("我是学生，", "我是学生。", "我是学生"), "", id="what somebody is, and no name"),
        pytest.param(rows("我是SmolLM", "I'm SmolLM", "My name is SmolLM"), "", id="the same name"),
        pytest.param(rows("I am EmoLLM.", "I'm glad."), "", id="too few to say"),
        pytest.param(rows("I am EmoLLM." * 5), "", id="one row that repeats itself"),
        pytest.param(
            rows(*["I am EmoLLM."] * 9, system="You are EmoLLM."), "", id="rows with their own prompt"
        ),
        pytest.param([], "", id="no rows"),
    ],
)
def test_a_warning_where_the_answers_contradict_it(conversations: list[Conversation], warning: str) -> None:
    assert contradiction("smollm2", SMOLLM, conversations) == warning


def test_a_prompt_without_a_name_contradicts_nothing() -> None:
    assert contradiction("llama3", "You are a helpful assistant.", rows(*["I am EmoLLM."] * 9)) == ""
