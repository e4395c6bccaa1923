"""What a template makes of a conversation, before any text is turned into tokens.

LLaMA-Factory's own template code runs here, with a tokenizer that keeps every text as it is. Its results can
be joined and nothing else, so a template that looks into its tokens is noticed and never misread.
"""

from collections.abc import Sequence
from typing import Any, Final

from lorafinetune_stages.prepare.conversation import Conversation

Piece = str | int
"""A text that becomes tokens on its own, or one token."""
MEDIA: Final[list[Any]] = []


class Rendering:
    """Pieces in their order. It can be joined with another, or with a list of tokens."""

    __slots__ = ("pieces",)
    __bool__ = None
    __eq__ = None  # type: ignore[assignment]  # nobody may compare it
    __hash__ = None  # type: ignore[assignment]  # nor look it up

    def __init__(self, pieces: tuple[Piece, ...]) -> None:
        self.pieces = pieces

    def __add__(self, other: "Rendering | list[int]") -> "Rendering":
        return Rendering((*self.pieces, *_pieces(other)))

    def __radd__(self, other: list[int]) -> "Rendering":
        return Rendering((*other, *self.pieces))


class Renderer:
    """template: LLaMA-Factory's; it is used as it is. Anything that it asks of a tokenizer beyond what
    is answered here raises AttributeError or TypeError."""

    def __init__(self, template: Any, tokenizer: Any, processor: Any, data_args: Any) -> None:
        self._template = template
        self._tokenizer = tokenizer
        self._processor = processor
        self._discard_thoughts = data_args.mask_history and not template.preserve_thinking
        self._noting = _NotingTokenizer(tokenizer)

    def render(self, conversation: Conversation) -> Sequence[tuple[Sequence[Piece], Sequence[Piece]]]:
        """Prompt and answer of every turn. Raises TypeError or AttributeError where it can't be told."""
        messages = [{"role": turn.role, "content": turn.content} for turn in conversation.turns]
        plugin = self._template.mm_plugin
        messages = plugin.process_messages(messages, MEDIA, MEDIA, MEDIA, self._processor)
        pairs = self._template.encode_multiturn(
            self._noting, messages, conversation.system, conversation.tools, self._discard_thoughts
        )
        return [(_pieces(prompt), _pieces(answer)) for prompt, answer in pairs]

    def writes_ahead(self) -> bool:
        """Whether tokens that come from no text stand before every row, as for some image models."""
        plugin = self._template.mm_plugin
        ahead = plugin.process_token_ids([], [], MEDIA, MEDIA, MEDIA, self._tokenizer, self._processor)
        return bool(ahead != ([], []))


class _NotingTokenizer:
    def __init__(self, tokenizer: Any) -> None:
        self.bos_token_id = tokenizer.bos_token_id
        self.eos_token_id = tokenizer.eos_token_id
        self._tokenizer = tokenizer

    def convert_tokens_to_ids(self, token: str) -> int:
        found = self._tokenizer.convert_tokens_to_ids(token)
        if not isinstance(found, int):
            raise TypeError(f"the tokenizer has no token {token!r}")
        return found

    def encode(self, text: str, *, add_special_tokens: bool) -> Rendering:
        if add_special_tokens:
            raise TypeError("only texts without special tokens are kept")
        return Rendering((text,))


def _pieces(part: Rendering | list[int]) -> Sequence[Piece]:
    if isinstance(part, Rendering):
        return part.pieces
    if isinstance(part, list):
        return part
    raise TypeError(f"a template made {type(part).__name__} of tokens")
