"""LLaMA-Factory's own encoding of conversations: slow, and the reference for ours.

Importing this module imports torch, transformers and LLaMA-Factory, which takes long.
"""

import copy
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final

import numpy as np
from llamafactory.data.processor import SupervisedDatasetProcessor

from lorafinetune_stages.prepare.conversation import Conversation
from lorafinetune_stages.prepare.labels import LabelledRows, TruncatedTurns, keep
from lorafinetune_stages.prepare.truncation import Turn

MEDIA: Final = ("_images", "_videos", "_audios")


class Reference:
    """template: LLaMA-Factory's."""

    def __init__(self, template: Any, tokenizer: Any, processor: Any, data_args: Any) -> None:
        self._tokenizer = tokenizer
        self._turns: list[list[Turn]] = []
        self._cutoff: int = data_args.cutoff_len
        self._last_first: bool = data_args.mask_history
        self._ending = 1 if template.efficient_eos else 0
        self._encode_turns = template.encode_multiturn
        noting = copy.copy(template)
        noting.encode_multiturn = self._note_turns
        self._processor = SupervisedDatasetProcessor(
            template=noting, tokenizer=tokenizer, processor=processor, data_args=data_args
        )

    def encode(self, conversations: Sequence[Conversation]) -> LabelledRows:
        self._turns.clear()
        columns = self._processor.preprocess_dataset(_aligned(conversations))
        tokens, labels = columns["input_ids"], columns["labels"]
        ends = np.array(list(accumulate(map(len, tokens))), np.int64)
        whole = [sum(map(sum, turns)) + self._ending for turns in self._turns]
        cuts = {index: self._cut(index) for index, size in enumerate(whole) if size > self._cutoff}
        answers = [sum(answer for _, answer in turns) for turns in self._turns]
        return LabelledRows(_joined(tokens), _joined(labels), ends, whole, answers, cuts)

    def whole(self, conversation: Conversation) -> list[int]:
        """All tokens of a conversation, nothing cut off."""
        messages = [{"role": turn.role, "content": turn.content} for turn in conversation.turns]
        self._processor.template.mm_plugin.process_messages(messages, [], [], [], self._processor.processor)
        pairs = self._encode_turns(self._tokenizer, messages, conversation.system, conversation.tools)
        return [token for prompt, answer in pairs for token in (*prompt, *answer)]

    def _cut(self, index: int) -> TruncatedTurns:
        turns = self._turns[index]
        return TruncatedTurns(turns, keep(turns, self._cutoff - self._ending))

    def _note_turns(self, *arguments: Any) -> Any:
        """LLaMA-Factory cuts without a word: the lengths are noted before it does."""
        pairs = self._encode_turns(*arguments)
        turns = [(len(prompt), len(answer)) for prompt, answer in pairs]
        self._turns.append(turns[::-1] if self._last_first else turns)
        return pairs


def _joined(rows: Sequence[Sequence[int]]) -> Any:
    return np.array([token for row in rows for token in row], np.int32)


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
