"""Conversations into tokens and labels, by LLaMA-Factory's own template code.

Importing this module imports torch, transformers and LLaMA-Factory, which takes long.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from llamafactory.data.processor import SupervisedDatasetProcessor
from llamafactory.extras.constants import IGNORE_INDEX

from lorafinetune_stages.prepare.conversation import Conversation
from lorafinetune_stages.prepare.findings import Kind, RowError

MEDIA: Final = ("_images", "_videos", "_audios")


@dataclass(frozen=True, slots=True)
class Encoded:
    """tokens and labels: of equal length; a token that is not learned has the label IGNORE_INDEX.
    whole: tokens before anything was cut off."""

    tokens: list[int]
    labels: list[int]
    whole: int

    @property
    def learned(self) -> int:
        return len(self.labels) - self.labels.count(IGNORE_INDEX)

    @property
    def truncated(self) -> bool:
        return self.whole > len(self.tokens)


class Tokeniser:
    """template: LLaMA-Factory's; it is changed, so it must be no one else's."""

    def __init__(self, template: Any, tokenizer: Any, processor: Any, data_args: Any) -> None:
        self.template = template
        self.tokenizer = tokenizer
        self._whole: list[int] = []
        self._encode_turns = template.encode_multiturn
        template.encode_multiturn = self._note_whole
        self._processor = SupervisedDatasetProcessor(
            template=template, tokenizer=tokenizer, processor=processor, data_args=data_args
        )

    def encode(self, conversations: Sequence[Conversation]) -> list[Encoded]:
        """One result for every conversation, in their order."""
        self._whole.clear()
        columns = self._processor.preprocess_dataset(_aligned(conversations))
        rows = zip(columns["input_ids"], columns["labels"], self._whole, strict=True)
        return [Encoded(tokens, labels, whole) for tokens, labels, whole in rows]

    def whole(self, conversation: Conversation) -> list[int]:
        """All tokens of a conversation, nothing cut off."""
        messages = [{"role": turn.role, "content": turn.content} for turn in conversation.turns]
        self._processor.template.mm_plugin.process_messages(messages, [], [], [], self._processor.processor)
        pairs = self._encode_turns(self.tokenizer, messages, conversation.system, conversation.tools)
        return [token for prompt, answer in pairs for token in (*prompt, *answer)]

    def check(self, encoded: Encoded) -> None:
        """Raises RowError where nothing of an answer is left to learn from."""
        end = self.tokenizer.eos_token_id
        if all(label in (IGNORE_INDEX, end) for label in encoded.labels):
            what = f"no token of an answer is left within training.cutoffLength ({encoded.whole} tokens)"
            raise RowError(Kind.CUT_OFF, "", what)

    def _note_whole(self, *arguments: Any) -> Any:
        """LLaMA-Factory cuts without a word: the lengths are noted before it does."""
        pairs = self._encode_turns(*arguments)
        ending = 1 if self.template.efficient_eos else 0
        self._whole.append(sum(len(prompt) + len(answer) for prompt, answer in pairs) + ending)
        return pairs


def segments(encoded: Encoded, tokenizer: Any) -> list[tuple[str, bool]]:
    """The text of a row in pieces, each with whether it is learned."""
    pieces: list[tuple[list[int], bool]] = []
    for token, label in zip(encoded.tokens, encoded.labels, strict=True):
        learned = label != IGNORE_INDEX
        if not pieces or pieces[-1][1] != learned:
            pieces.append(([], learned))
        pieces[-1][0].append(token)
    return [(tokenizer.decode(tokens, skip_special_tokens=False), learned) for tokens, learned in pieces]


def _aligned(conversations: Sequence[Conversation]) -> dict[str, list[Any]]:
    """The columns into which LLaMA-Factory's converters bring every format."""
    turns = [
        [{"role": turn.role, "content": turn.content} for turn in conversation.turns]
        for conversation in conversations
    ]
    return {
        "_prompt": [messages[:-1] for messages in turns],
        "_response": [messages[-1:] for messages in turns],
        "_system": [conversation.system for conversation in conversations],
        "_tools": [conversation.tools for conversation in conversations],
        **{column: [None] * len(turns) for column in MEDIA},
    }
