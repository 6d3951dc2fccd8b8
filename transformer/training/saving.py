"""When checkpoints are written, and what happens if that fails."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from transformer.checkpoint.run import Run
from transformer.config import TrainingConfig
from transformer.messages import tell
from transformer.training.distributed import Group
from transformer.training.rescue import Rescue
from transformer.training.state import TrainingState

LAST_TRIES = (1.0, 4.0, 15.0)
"""Seconds to wait between attempts to write the final checkpoint."""


@dataclass
class Saver:
    """Writes the run's checkpoints in the first process; a full disk does not stop the training."""

    run: Run
    tokenizer_hash: str
    settings: TrainingConfig
    group: Group
    log: Callable[..., None]
    rescue: Rescue | None = None
    """In the first process: what is needed to recreate the run's folder if it is deleted or moved."""
    failed: bool = False
    """Whether the last attempt failed, so that the next one comes earlier than scheduled."""
    owes_best: bool = False
    """Whether a best checkpoint could not be written; the next one is then marked as the best."""
    saved_at: float = field(default_factory=time.monotonic)

    def is_due(self, step: int) -> bool:
        """Whether a checkpoint is due after this update; the same in every process."""
        return step % self.settings.save_every == 0

    def wants_one(self, step: int) -> bool:
        """Whether the first process wants an extra checkpoint, by the clock or after a failed attempt."""
        if not self.group.is_first:
            return False
        minutes = self.settings.save_minutes
        is_late = minutes is not None and time.monotonic() - self.saved_at >= 60 * minutes
        return is_late or (self.failed and step % self.settings.log_every == 0)

    def save(self, state: TrainingState, *, is_best: bool, is_end: bool) -> None:
        """Write a checkpoint in the first process; the others wait for it and raise the same error.

        `OSError` only at the end of training, after several attempts; `FolderLostError` if the run's folder
        has disappeared.
        """
        self.group.from_first(lambda: self.write(state, is_best=is_best, is_end=is_end))

    def write(self, state: TrainingState, *, is_best: bool, is_end: bool) -> None:
        self.owes_best = self.owes_best or is_best
        for wait in (*LAST_TRIES, None) if is_end else (None,):
            save = partial(
                state.save,
                tokenizer_hash=self.tokenizer_hash,
                keep=self.settings.keep,
                is_best=self.owes_best,
            )
            try:
                if self.rescue is not None and self.rescue.is_needed():
                    raise self.rescue.save(save)
                save(self.run)
            except OSError as error:
                self.failed = True
                self.log("save_failed", state.step, error=str(error))
                if is_end and wait is None:
                    raise
                then = f"trying again in {wait:.0f} s" if wait else "training continues and tries again later"
                warn(f"update {state.step}: no checkpoint could be written ({error}); {then}")
                time.sleep(wait or 0)
            else:
                self.failed, self.owes_best, self.saved_at = False, False, time.monotonic()
                self.log("save", state.step)
                return


def warn(message: str) -> None:
    tell(f"\nwarning: {message}")
