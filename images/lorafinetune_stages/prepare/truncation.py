"""What the cutoff leaves of a conversation, and whether that is still worth learning."""

from collections.abc import Sequence

from lorafinetune_stages.prepare.findings import Kind, RowError

Turn = tuple[int, int]
"""Tokens of a prompt, with whatever stands before it, and of its answer."""


def check_kept(turn: Turn, kept: Turn, whole: int, cutoff: int) -> None:
    """turn: the one that is kept before all others, the first or, where it alone is learned, the last.
    kept: what is left of it. whole: tokens of the row.

    Raises RowError for a row that is cut inside its prompt, or has no complete answer.
    """
    where = f"within training.cutoffLength {cutoff} (the row has {whole} tokens)"
    if kept[0] < turn[0]:
        what = f"{kept[0]} of the {turn[0]} tokens of its prompt are left {where}"
        raise RowError(Kind.PROMPT_CUT_OFF, "", what)
    if kept[1] < turn[1]:
        what = f"{kept[1]} of the {turn[1]} tokens of its answer are left {where}"
        raise RowError(Kind.CUT_OFF, "", what)


def lost_answer_tokens(turns: Sequence[Turn], kept: Sequence[Turn]) -> int:
    """Tokens of answers beyond the cutoff."""
    return sum(answer for _, answer in turns) - sum(answer for _, answer in kept)
