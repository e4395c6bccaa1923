"""What the cutoff leaves of a conversation, and whether that is still worth learning."""

from collections.abc import Sequence

from lorafinetune_stages.prepare.findings import Kind, RowError

Turn = tuple[int, int]
"""Tokens of a prompt, with whatever stands before it, and of its answer."""


def check_kept(turns: Sequence[Turn], kept: Sequence[Turn], cutoff: int) -> None:
    """turns: in the order in which they are kept; kept: what is left of the first of them.

    Raises RowError for a row that is cut inside its prompt, or has no complete answer.
    """
    prompt, answer = turns[0]
    kept_prompt, kept_answer = kept[0] if kept else (0, 0)
    whole = sum(map(sum, turns))
    where = f"within training.cutoffLength {cutoff} (the row has {whole} tokens)"
    if kept_prompt < prompt:
        what = f"{kept_prompt} of the {prompt} tokens of its prompt are left {where}"
        raise RowError(Kind.PROMPT_CUT_OFF, "", what)
    if kept_answer < answer:
        what = f"{kept_answer} of the {answer} tokens of its answer are left {where}"
        raise RowError(Kind.CUT_OFF, "", what)


def lost_answer_tokens(turns: Sequence[Turn], kept: Sequence[Turn]) -> int:
    """Tokens of answers beyond the cutoff."""
    return sum(answer for _, answer in turns) - sum(answer for _, answer in kept)
