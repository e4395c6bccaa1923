"""The adapter of the best evaluation so far: on the disk, and in the store at `place`/best/STEP/ATTEMPT/.

It is sent while the training goes on. But it is in the store before any checkpoint that refers to it, and it
stays for as long as a training may go on from such a checkpoint: it might not be made again from there, since
on a GPU the same step need not lead to the same loss.
"""

import shutil
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from lorafinetune.contract.rowlosses import RowLosses
from lorafinetune_stages.train.adapter import CONFIG, WEIGHTS
from lorafinetune_stages.train.state_store import StateWriter
from lorafinetune_stages.train.states import State
from lorafinetune_stages.train.uploads import Uploads

FILES: Final = (CONFIG, WEIGHTS)
LOSSES: Final = "losses"
"""What is noted beside them."""


class BestAdapter:
    """saved: where they are kept in the store. checkpoints: of the same training, sent by the same thread.
    root: a directory of our own on the disk."""

    def __init__(self, saved: StateWriter, checkpoints: StateWriter, root: Path, uploads: Uploads) -> None:
        self.directory: Path | None = None
        """Of the best adapter on the disk."""
        self.losses: RowLosses | None = None
        """Of its evaluation, where they are known."""
        self._saved = saved
        self._checkpoints = checkpoints
        self._root = root
        self._uploads = uploads
        self._sending: Future[None] | None = None

    def keep(self, step: int, write: Callable[[Path], None], losses: RowLosses) -> None:
        """Writes the adapter after a step, which is better than all before, and begins to send it, once the
        one before is sent."""
        if self._sending:
            self._sending.result()
        self.losses = losses
        self.directory = self._root / str(step)
        write(self.directory)
        self._sending = self._uploads.send(partial(self._send, self.directory, step, losses))

    def wait(self) -> None:
        """Until the last one is in the store. Raises StageError where it could not be sent."""
        self._uploads.wait()

    def restore(self, step: int | None) -> bool:
        """Fetches the best of a checkpoint that a training goes on from, and removes what is newer: it is
        made again. False, with nothing removed, where it is not there any more. None: there was none yet."""
        self.wait()
        shutil.rmtree(self._root, ignore_errors=True)
        self.directory = None if step is None else self._root / str(step)
        notes = self._fetch(step, self.directory) if step is not None and self.directory else {}
        if notes is None:
            return False
        self.losses = _losses(notes)
        self._remove_after(step or 0)
        return True

    def rotate(self) -> None:
        """Removes those that no checkpoint speaks of any more. That of the step of a better one may still
        speak of the one before: its evaluation may have been cut short."""
        resumable = {state.step for state in self._checkpoints.states()}
        states = self._saved.states()
        for better, step in pairwise(dict.fromkeys(state.step for state in states)):
            if not any(step <= each <= better for each in resumable):
                self._remove([state for state in states if state.step == step])

    def _fetch(self, step: int, directory: Path) -> Mapping[str, Any] | None:
        """Of the newest attempt that left a whole one."""
        of_step = (state for state in self._saved.states() if state.step == step)
        return next(
            (notes for state in of_step if (notes := self._saved.fetch(state, directory)) is not None), None
        )

    def _remove_after(self, step: int) -> None:
        self._remove([state for state in self._saved.states() if state.step > step])

    def _remove(self, states: Iterable[State]) -> None:
        for state in states:
            self._saved.remove(state)

    def _send(self, directory: Path, step: int, losses: RowLosses) -> None:
        self._saved.send(directory, step, {LOSSES: losses.encode()})
        self._remove_after(step)  # left by an older attempt that was overtaken
        self.rotate()
        for other in self._root.iterdir():
            if other != directory:
                shutil.rmtree(other)


def _losses(notes: Mapping[str, Any]) -> RowLosses | None:
    """An adapter that an older version has sent has none."""
    try:
        return RowLosses.decode(notes[LOSSES]) if LOSSES in notes else None
    except ValidationError:
        return None
