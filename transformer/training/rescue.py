"""Saves a run to a new folder if its own folder is deleted or moved during training."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from transformer.checkpoint.run import Run
from transformer.config import Settings
from transformer.config.files import save_settings
from transformer.data.tokenizers.protocol import Tokenizer
from transformer.files import whole_folder
from transformer.locks import HeldFolder


class FolderLostError(ValueError):
    """A run's folder disappeared during training; the message says where the run was saved instead."""


@dataclass(frozen=True)
class Rescue:
    """The settings and the tokenizer of a run, from which its folder can be recreated."""

    held: HeldFolder
    settings: Settings
    tokenizer: Tokenizer

    def is_needed(self) -> bool:
        """Whether the folder, its settings or its tokenizer were deleted, moved or replaced."""
        run = Run(self.held.path)
        return not (self.held.is_in_place() and run.config.is_file() and run.tokenizer.exists())

    def logging(self, log: Callable[..., None]) -> Callable[..., None]:
        """Return a function that calls `log` as long as the run's folder is in place.

        If the folder was moved, another run may now have the same name, and `log` would write into that run.
        """

        def log_if_in_place(event: str, step: int, **values: Any) -> None:
            if self.held.is_in_place():
                log(event, step, **values)

        return log_if_in_place

    def save(self, save_checkpoint: Callable[[Run], object]) -> FolderLostError:
        """Save the run to a new folder in the parent of the old folder, and return the error to raise.

        The error says where the run was saved, or why saving failed. `save_checkpoint` writes the checkpoint
        into the new folder.
        """
        lost = f"{self.held.path} was deleted, moved or replaced during the training"
        try:
            path = self.write(save_checkpoint)
        except (OSError, ValueError) as error:
            return FolderLostError(f"{lost}, and its state cannot be saved elsewhere: {error}")
        return FolderLostError(
            f"{lost}; its last state was saved as a new run, and training continues with "
            f"--config {path / 'config.yaml'} --resume"
        )

    def write(self, save_checkpoint: Callable[[Run], object]) -> Path:
        path = self.held.path
        path.parent.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            rescued = path.with_name(f"{path.name}-rescued" + (f"-{number}" if number > 1 else ""))
            if rescued.exists():
                continue
            with whole_folder(rescued) as folder:
                save_settings(replace(self.settings, output=str(rescued)), Run(folder).config)
                self.tokenizer.save(Run(folder).tokenizer)
                save_checkpoint(Run(folder))
            return rescued
        raise AssertionError("there is always another number")
