"""Decides when checkpoints are written, and handles failures to write them."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path

from transformer.checkpoint.format import CheckpointError
from transformer.checkpoint.run import Run
from transformer.config import TrainingConfig
from transformer.files import unfinished_folder
from transformer.messages import warn
from transformer.training.distributed import Group, is_sharded
from transformer.training.memory import has_room_for
from transformer.training.rescue import Rescue
from transformer.training.state import Snapshot, TrainingState

LAST_TRIES = (1.0, 4.0, 15.0)
"""Seconds to wait between attempts to write the final checkpoint."""
CONTINUES = "training continues and tries again later"


@dataclass
class Saver:
    """Writes the run's checkpoints in the first process; a full disk does not stop training.

    A checkpoint is copied to host memory and written in a thread, while training continues. Only one
    checkpoint is written at a time: the next checkpoint and the end of `writing` wait for the current one.

    If the model is sharded and the first process has too little memory for a copy of the whole model, every
    process writes its own parts to a temporary folder, and the thread merges the parts into the checkpoint.
    """

    run: Run
    tokenizer_hash: str
    settings: TrainingConfig
    group: Group
    log: Callable[..., None]
    rescue: Rescue | None = None
    """In the first process: everything needed to recreate the run's folder if it is deleted or moved."""
    failed: bool = False
    """Whether the last attempt to write failed; the next attempt then comes earlier than scheduled."""
    owes_best: bool = False
    """Whether a new best is still to be written; the next checkpoint is then marked as the best."""
    saved_at: float = field(default_factory=time.monotonic)
    writer: ThreadPoolExecutor = field(init=False)
    unfinished: tuple[int, Future[None]] | None = None
    """The checkpoint whose outcome is not logged yet: its step number, and the writer's future."""
    parts: ExitStack = field(default_factory=ExitStack)
    """In the first process: closing this stack deletes the folder of the parts that were written last."""
    fits: bool | None = None
    """The result of `has_room`, or None before the first checkpoint."""

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Inside the block, `save` can be called. The end of the block waits for the last write."""
        with self.parts, ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoints") as self.writer:
            try:
                yield
            finally:
                self.finish("training ends")

    def is_due(self, step: int) -> bool:
        """Whether a checkpoint is scheduled after this update; all processes get the same answer."""
        return step % self.settings.save_every == 0

    def wants_one(self, step: int) -> bool:
        """Whether the first process wants an extra checkpoint: after `save_minutes` or a failed attempt."""
        if not self.group.is_first:
            return False
        if self.unfinished is not None and self.unfinished[1].done():
            self.finish()
        minutes = self.settings.save_minutes
        is_late = minutes is not None and time.monotonic() - self.saved_at >= 60 * minutes
        return is_late or (self.failed and step % self.settings.log_every == 0)

    def save(self, state: TrainingState, *, is_best: bool, is_end: bool) -> None:
        """Begin to write a checkpoint in the first process; with `is_end`, also wait until it is written.

        The other processes wait for the first one and raise the same error. `OSError` is raised only at the
        end of training, after several attempts. Raises `FolderLostError` if the run's folder has disappeared.
        """
        self.group.from_first(self.finish)  # so that only one snapshot at a time is in memory
        self.owes_best = self.owes_best or is_best
        self.saved_at = time.monotonic()
        take = self.snapshots(state)
        if not is_end:
            self.begin(take, state.step, CONTINUES)
            return
        for wait in LAST_TRIES:
            if self.complete(take, state.step, f"trying again in {wait:.0f} s") is None:
                return
            time.sleep(wait)
        if (error := self.complete(take, state.step, None)) is not None:
            raise error

    def snapshots(self, state: TrainingState) -> Callable[[], Snapshot]:
        """Return a function that gives each attempt to write a checkpoint its snapshot.

        All processes must call this method and the function. A copy in memory is made only once. Parts are
        written anew for each attempt, because the parts may have been moved together with the run's folder.
        """
        if is_sharded(state.model) and not self.has_room(state):
            return partial(self.snapshot_in_parts, state)
        snapshot = state.snapshot(keep=self.group.is_first)
        return lambda: snapshot

    def begin(self, take: Callable[[], Snapshot], step: int, then: str | None) -> OSError | None:
        """Take a snapshot and begin to write it; all processes must call this method.

        If the processes could not write their parts, the error is reported as in `finish`, and returned.
        """
        try:
            snapshot = take()
        except OSError as error:
            self.report(step, error, then)
            return error
        self.group.from_first(partial(self.start, snapshot))
        return None

    def complete(self, take: Callable[[], Snapshot], step: int, then: str | None) -> OSError | None:
        """Like `begin`, but also wait until the checkpoint is written, and return the error, if any."""
        return self.begin(take, step, then) or self.group.from_first(partial(self.finish, then))

    def has_room(self, state: TrainingState) -> bool:
        """Whether the first process has memory for a copy of the whole state; all get the same answer.

        This is decided only once: torch keeps the pinned memory of the first copy for later copies, but the
        system counts it as used, so a second check could wrongly find too little memory.
        """
        if self.fits is None:
            tensors = chain.from_iterable(file.values() for file in state.tensors().values())
            self.fits = bool(self.group.of_first(has_room_for(tensors)))
        return self.fits

    def snapshot_in_parts(self, state: TrainingState) -> Snapshot:
        folder = self.group.from_first(partial(self.folder_of_parts, state.step))
        try:
            snapshot = state.sharded_snapshot(folder, self.group)
            self.group.from_first(folder.stat)  # raises OSError if the run's folder was moved meanwhile
            return snapshot
        except OSError:
            self.parts.close()
            raise

    def folder_of_parts(self, step: int) -> Path:
        """Make a folder for the parts: in the run's folder or, if that is lost, in its parent."""
        self.parts.close()
        is_lost = self.rescue is not None and self.rescue.is_needed()
        place = self.run.path if is_lost else self.run.checkpoint(step)
        place.parent.mkdir(parents=True, exist_ok=True)
        return self.parts.enter_context(unfinished_folder(place))

    def start(self, snapshot: Snapshot) -> None:
        """Begin to write this checkpoint. Raises `FolderLostError` if the run's folder has disappeared."""
        save = partial(
            snapshot.save,
            tokenizer_hash=self.tokenizer_hash,
            keep=self.settings.keep,
            is_best=self.owes_best,
        )
        if self.rescue is not None and self.rescue.is_needed():
            raise self.rescue.save(save)
        self.failed = False
        self.unfinished = snapshot.step, self.writer.submit(save, self.run)

    def finish(self, then: str | None = CONTINUES) -> OSError | None:
        """Wait for the checkpoint that is being written, log the outcome, and return the error, if any.

        An error is also shown as a warning that ends with `then`, which says what happens next. If `then` is
        None, there is no warning.
        """
        if self.unfinished is None:
            return None
        step, written = self.unfinished
        error = written.exception()
        self.unfinished = None
        self.parts.close()  # the parts are merged, or useless: the next attempt writes new ones
        if error is None:
            self.owes_best = False
            self.log("save", step)
            return None
        if not isinstance(error, OSError):
            raise error
        self.report(step, error, then)
        return error

    def report(self, step: int, error: OSError, then: str | None) -> None:
        """In the first process, log that a checkpoint could not be written, and warn as in `finish`."""
        if not self.group.is_first:
            return
        self.failed = True
        self.owes_best = self.owes_best and not self.is_marked_best(step)
        self.log("save_failed", step, error=str(error))
        if then is not None:
            warn(f"update {step}: no checkpoint could be written ({error}); {then}")

    def is_marked_best(self, step: int) -> bool:
        """Whether this checkpoint, whose save failed, was nevertheless marked as the best.

        The save may have failed only after that, when marking the checkpoint as `last` or deleting old
        checkpoints. If the mark cannot be read, the answer is False, so that `owes_best` stays True.
        """
        try:
            return self.run.marked("best") == self.run.checkpoint(step)
        except (OSError, CheckpointError):
            return False
