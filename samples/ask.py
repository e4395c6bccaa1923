"""Asks a model in a directory, and prints its greedy answers.

usage: python samples/ask.py DIRECTORY [QUESTION …]

Without a question it asks for some: one a line, until the end of the input.
"""

import sys
from pathlib import Path

from side_by_side import answer, load


def main(argv: list[str]) -> int:
    if not argv or argv[0].startswith("-"):
        sys.stderr.write(f"{__doc__}\n")
        return 64
    model, tokenizer = load(Path(argv[0]))
    for question in argv[1:] or sys.stdin:
        sys.stdout.write(f"{answer(model, tokenizer, [question.strip()])[0]}\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
