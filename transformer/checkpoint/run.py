"""A run's folder: its layout, and how to find its checkpoints."""

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from transformer.checkpoint.format import MANIFEST, CheckpointError
from transformer.checkpoint.reading import read_manifest
from transformer.config.errors import shortened
from transformer.files import UNFINISHED, delete_leftovers, is_plain_name, unfinished_folder, write_whole
from transformer.locks import HeldFolder, locked_folder

LONGEST_MARK = 1000
"""Maximum number of bytes to read from `best` or `last`; each of these files names one checkpoint."""
STEP = "step-"
"""Prefix of the names of the checkpoints that training writes."""


@dataclass(frozen=True)
class Run:
    """The folder of one run and its layout."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def tokenizer(self) -> Path:
        return self.path / "tokenizer.model"

    @property
    def log(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def locked(self, warn: Callable[[str], None]) -> AbstractContextManager[HeldFolder]:
        """Lock the folder for training. Raises `FolderInUseError` if another process has locked it."""
        return locked_folder(self.path, warn)

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints / f"{STEP}{step:08d}"

    def steps(self) -> list[int]:
        """Return the step numbers of this run's checkpoints, in ascending order."""
        names = {folder.name.removeprefix(STEP) for folder in self.checkpoints.glob(f"{STEP}*")}
        steps = {int(name) for name in names if name.isdecimal()}
        return sorted(step for step in steps if f"{step:08d}" in names)  # ignores names such as `step-1`

    def marked(self, name: str) -> Path | None:
        """Return the checkpoint that is named in the file `name`, which is `best` or `last`.

        Returns None if the file or the checkpoint does not exist. Raises `CheckpointError` if the file names
        a path outside the folder of checkpoints.
        """
        marker = self.path / name
        if not marker.is_file():
            return None
        with marker.open("rb") as file:
            named = file.read(LONGEST_MARK).decode(errors="replace").strip()
        if Path(named).name != named or named == "..":
            raise CheckpointError(
                f"{marker}: names {shortened(named)!r}; it can only name a checkpoint in {self.checkpoints}"
            )
        folder = self.checkpoints / named
        return folder if is_plain_name(named) and folder.is_dir() else None

    def mark(self, name: str, checkpoint: Path) -> None:
        write_whole(self.path / name, checkpoint.name + "\n")

    def keep_newest(self, count: int) -> None:
        """Delete the checkpoints that training wrote, except the `count` newest and the best."""
        best = self.marked("best")
        for step in self.steps()[:-count]:
            if (folder := self.checkpoint(step)) != best:
                delete_checkpoint(folder)

    def clean(self, step: int) -> None:
        """Delete the leftovers of interrupted writes, and checkpoints after `step`; the run must be locked.

        When a run is resumed from `step`, later checkpoints are damaged or were never marked as `last`. These
        checkpoints must be deleted, because `keep_newest` would count them among the newest.
        """
        for leftover in self.checkpoints.glob(f"{UNFINISHED}{STEP}*"):
            shutil.rmtree(leftover)
        for path in (self.config, self.tokenizer, self.path / "best", self.path / "last"):
            delete_leftovers(path)
        for later in self.steps():
            if later > step:
                delete_checkpoint(self.checkpoint(later))


def delete_checkpoint(checkpoint: Path) -> None:
    """Delete a checkpoint, renaming it first so that a half-deleted folder is never used."""
    with unfinished_folder(checkpoint, kind=STEP) as own:
        checkpoint.rename(own / checkpoint.name)


def find_run(path: str | Path) -> tuple[Run, Path]:
    """Find the run and the checkpoint for `--run PATH`.

    If `path` is a run's folder, the checkpoint is the run's best, or the last if none is marked as the best.
    `path` may also be a checkpoint's folder.
    """
    path = Path(path)
    if (path / MANIFEST).is_file():
        return Run(path.resolve().parent.parent), path
    run = Run(path)
    checkpoint = run.marked("best") or run.marked("last")
    if checkpoint is None:
        raise CheckpointError(
            f"{path}: neither a run's folder with a checkpoint nor a checkpoint; "
            "name a folder that `transformer train` wrote, or one in its checkpoints/"
        )
    return run, checkpoint


def checkpoint_to_resume(run: Run, warn: Callable[[str], None]) -> Path | None:
    """Find the checkpoint to resume from: the last or, if the last is damaged, the newest intact one.

    Returns None if the run has no checkpoint yet. Raises `CheckpointError` if all checkpoints are damaged.
    `warn` is called for each damaged checkpoint.
    """
    folders = [run.checkpoint(step) for step in reversed(run.steps())]
    last = run.marked("last")
    folders.sort(key=lambda folder: folder != last)  # the sort is stable, so the others stay newest first
    for folder in folders:
        try:
            read_manifest(folder)
        except CheckpointError as error:
            warn(f"{error}; trying the previous checkpoint")
        else:
            return folder
    if folders:
        raise CheckpointError(f"{run.checkpoints}: none of its {len(folders)} checkpoints can be used")
    return None
