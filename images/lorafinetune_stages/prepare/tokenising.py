"""Conversations into tokens and labels, by LLaMA-Factory's own template code.

Importing this module imports torch, transformers and LLaMA-Factory, which takes long.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from llamafactory.data.processor import SupervisedDatasetProcessor
from llamafactory.data.processor.processor_utils import infer_seqlen
from llamafactory.extras.constants import IGNORE_INDEX

from lorafinetune_stages.prepare.conversation import Conversation
from lorafinetune_stages.prepare.cutting import Turn, check_kept

MEDIA: Final = ("_images", "_videos", "_audios")


@dataclass(frozen=True, slots=True)
class Encoded:
    """tokens and labels: of equal length; a token that is not learned has the label IGNORE_INDEX.
    whole: tokens before anything was cut off. turns: tokens of every prompt and of its answer, in the order
    in which they are kept. kept: what is left of the first of them."""

    tokens: list[int]
    labels: list[int]
    whole: int
    turns: Sequence[Turn]
    kept: Sequence[Turn]

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
        self._turns: list[list[Turn]] = []
        self._encode_turns = template.encode_multiturn
        self._ending = 1 if template.efficient_eos else 0
        self._cutoff: int = data_args.cutoff_len
        self._last_first: bool = data_args.mask_history
        template.encode_multiturn = self._note_turns
        self._processor = SupervisedDatasetProcessor(
            template=template, tokenizer=tokenizer, processor=processor, data_args=data_args
        )

    def encode(self, conversations: Sequence[Conversation]) -> list[Encoded]:
        """One result for every conversation, in their order."""
        self._turns.clear()
        columns = self._processor.preprocess_dataset(_aligned(conversations))
        rows = zip(columns["input_ids"], columns["labels"], self._turns, strict=True)
        return [self._encoded(tokens, labels, turns) for tokens, labels, turns in rows]

    def whole(self, conversation: Conversation) -> list[int]:
        """All tokens of a conversation, nothing cut off."""
        messages = [{"role": turn.role, "content": turn.content} for turn in conversation.turns]
        self._processor.template.mm_plugin.process_messages(messages, [], [], [], self._processor.processor)
        pairs = self._encode_turns(self.tokenizer, messages, conversation.system, conversation.tools)
        return [token for prompt, answer in pairs for token in (*prompt, *answer)]

    def check(self, encoded: Encoded) -> None:
        """Raises RowError for a row that is cut inside its prompt, or has no complete answer."""
        kept = encoded.kept[0] if encoded.kept else (0, 0)
        check_kept(encoded.turns[0], kept, encoded.whole, self._cutoff)

    def _encoded(self, tokens: list[int], labels: list[int], turns: list[Turn]) -> Encoded:
        whole = sum(map(sum, turns)) + self._ending
        if whole <= self._cutoff:
            return Encoded(tokens, labels, whole, turns, turns)
        return Encoded(tokens, labels, whole, turns, self._kept(turns))

    def _kept(self, turns: list[Turn]) -> list[Turn]:
        """What LLaMA-Factory keeps of every turn."""
        kept: list[Turn] = []
        room = self._cutoff - self._ending
        for prompt, answer in turns:
            if room <= 0:
                break
            kept.append(infer_seqlen(prompt, answer, room))
            room -= sum(kept[-1])
        return kept

    def _note_turns(self, *arguments: Any) -> Any:
        """LLaMA-Factory cuts without a word: the lengths are noted before it does."""
        pairs = self._encode_turns(*arguments)
        turns = [(len(prompt), len(answer)) for prompt, answer in pairs]
        self._turns.append(turns[::-1] if self._last_first else turns)
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
