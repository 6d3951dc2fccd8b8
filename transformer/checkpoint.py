"""Reading and writing checkpoints and the rest of a run's folder.

A checkpoint is complete or absent: it is written to an unfinished folder, flushed, then renamed. Tensors are
safetensors and everything else is JSON, so reading one never runs code. `manifest.json` holds the format
version and the hash of every file, which are checked before anything is loaded.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from transformer.files import (
    UNFINISHED,
    delete_leftovers,
    naming,
    unfinished_folder,
    whole_folder,
    write,
    write_whole,
)
from transformer.locks import HeldFolder, locked_folder

FORMAT_VERSION = 1
STEP = "step-"
"""What the names of the checkpoints that training writes begin with."""
MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
MANIFEST = "manifest.json"
SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")
"""In what safetensors says when a write fails."""


class CheckpointError(ValueError):
    """A checkpoint or a run's folder that cannot be used: one line that says where, what and why."""


@dataclass(frozen=True)
class Run:
    """The folder of one run and what stands where in it."""

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
        """Inside, no other process trains in this folder; `FolderInUseError` if one does."""
        return locked_folder(self.path, warn)

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints / f"{STEP}{step:08d}"

    def steps(self) -> list[int]:
        """The updates whose checkpoints stand here, oldest first."""
        names = {folder.name.removeprefix(STEP) for folder in self.checkpoints.glob(f"{STEP}*")}
        steps = {int(name) for name in names if name.isdecimal()}
        return sorted(step for step in steps if f"{step:08d}" in names)  # not a user's `step-1`

    def marked(self, name: str) -> Path | None:
        """The checkpoint that the file `best` or `last` names, if there is one; a damaged file names none."""
        marker = self.path / name
        if not marker.is_file():
            return None
        named = marker.read_text(encoding="utf-8", errors="replace").strip()
        folder = self.checkpoints / named
        return folder if named and folder.is_dir() else None

    def mark(self, name: str, checkpoint: Path) -> None:
        write_whole(self.path / name, checkpoint.name + "\n")

    def keep_newest(self, count: int) -> None:
        """Delete all checkpoints of updates but the `count` newest and the best."""
        best = self.marked("best")
        for step in self.steps()[:-count]:
            if (folder := self.checkpoint(step)) != best:
                delete(folder)

    def clean(self, step: int) -> None:
        """Delete what interrupted writes have left, and checkpoints later than `step`, in a locked run.

        A run that goes on from `step` finds them damaged or unmarked; they would count among the newest.
        """
        for leftover in self.checkpoints.glob(f"{UNFINISHED}{STEP}*"):
            shutil.rmtree(leftover)
        for path in (self.config, self.tokenizer, self.path / "best", self.path / "last"):
            delete_leftovers(path)
        for later in self.steps():
            if later > step:
                delete(self.checkpoint(later))


def delete(checkpoint: Path) -> None:
    """Delete a checkpoint; by halves it does not look like one."""
    with unfinished_folder(checkpoint, kind=STEP) as own:
        checkpoint.rename(own / checkpoint.name)


def find_run(path: str | Path) -> tuple[Run, Path]:
    """The run and the checkpoint that `--run PATH` means.

    A run's folder means its best checkpoint, or its last where none was validated; a checkpoint's folder
    means that one.
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
    """The checkpoint that training goes on from: the last, or the newest whole one where that is damaged.

    `None` if the run has none yet; `CheckpointError` if all are damaged. `warn` is told of each damaged one.
    """
    folders = [run.checkpoint(step) for step in reversed(run.steps())]
    last = run.marked("last")
    folders.sort(key=lambda folder: folder != last)  # stable: the newest of the others comes next
    for folder in folders:
        try:
            read_manifest(folder)
        except CheckpointError as error:
            warn(f"{error}; looking for the checkpoint before")
        else:
            return folder
    if folders:
        raise CheckpointError(f"{run.checkpoints}: none of its {len(folders)} checkpoints can be used")
    return None


# Writing


def write_checkpoint(
    folder: Path,
    *,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    tokenizer_hash: str,
) -> None:
    """Write `tensors`, by file name, and `state` as the checkpoint `folder`, whole or not at all.

    `OSError` if the disk is full or read-only; what was written by then is deleted again.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    kind = folder.name.partition("-")[0] + "-"
    with whole_folder(folder, replace=True, kind=kind) as unfinished:
        write_files(unfinished, tensors, state, tokenizer_hash)


def write_files(
    folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any], tokenizer_hash: str
) -> None:
    """The files of a checkpoint, the manifest last."""
    for name, content in tensors.items():
        write_tensors({key: tensor.detach().contiguous() for key, tensor in content.items()}, folder / name)
    write(folder / STATE, json.dumps(state, indent=1))
    names = [*tensors, STATE]
    manifest = {
        "format_version": FORMAT_VERSION,
        "tokenizer": tokenizer_hash,
        "files": {name: file_hash(folder / name) for name in names},
    }
    write(folder / MANIFEST, json.dumps(manifest, indent=1))


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """A file of safetensors; `OSError` that names it where it cannot be written."""
    with naming(path):
        try:
            save_file(dict(tensors), path, metadata)
        except SafetensorError as error:  # also for the system's errors, which it only describes
            if (found := SYSTEM_ERROR.search(str(error))) is None:
                raise OSError(f"{path}: {error}") from error
            number = int(found[1])
            raise OSError(number, os.strerror(number)) from error


def file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Reading


def read_manifest(folder: Path, *, unread: Collection[str] = ()) -> dict[str, Any]:
    """The manifest of a checkpoint whose files, but those that stay `unread`, have the hashes it records."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        version = manifest["format_version"]
        if version == FORMAT_VERSION:  # another one may look otherwise
            files, _ = dict(manifest["files"]), manifest["tokenizer"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{folder}: no readable {MANIFEST}; the checkpoint is damaged") from error
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{folder}: format version {version}, but this version of the program reads {FORMAT_VERSION}"
        )
    for name, expected in {MODEL: None, STATE: None, **files}.items():
        path = folder / name
        is_there = Path(name).name == name and path.is_file()
        if not is_there or (name not in unread and file_hash(path) != expected):
            raise CheckpointError(f"{path}: missing or damaged, its hash is not the one in {MANIFEST}")
    return manifest


def read_state(folder: Path) -> dict[str, Any]:
    """What `write_checkpoint` got as `state`; its meaning is the caller's affair."""
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        if isinstance(state, dict):
            return state
    except (OSError, ValueError, RecursionError):
        pass
    raise CheckpointError(f"{folder / STATE}: cannot be read, or is no JSON object")


def read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error


def unique_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The state of a model by name, a tied tensor once, under the first of its names."""
    unique: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        unique.setdefault(id(tensor), (name, tensor))
    return dict(unique.values())


def require_matching(model: nn.Module, folder: Path, *, part: str = "") -> None:
    """`CheckpointError` unless a checkpoint has weights of the names and shapes of `model`; reads none."""
    path = folder / MODEL
    expected = unique_tensors(model)
    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(part)]  # noqa: SIM118
            shapes = {name.removeprefix(part): tuple(file.get_slice(name).get_shape()) for name in names}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error
    for problem, differing in (
        ("lacks", expected.keys() - shapes.keys()),
        ("has the unknown", shapes.keys() - expected.keys()),
    ):
        if differing:
            raise CheckpointError(
                f"{path}: {problem} {part}{min(differing)} ({len(differing)} such); "
                "the model was built another way"
            )
    for name, tensor in expected.items():
        if shapes[name] != tuple(tensor.shape):
            raise CheckpointError(
                f"{path}: {part}{name} has shape {shapes[name]}, but the model's is {tuple(tensor.shape)}"
            )


def load_model(model: nn.Module, folder: Path, *, part: str = "") -> None:
    """Copy a checkpoint's weights into `model`, after comparing names and shapes.

    With a `part` such as `encoder.`, `model` is that part of what was saved.
    """
    require_matching(model, folder, part=part)
    weights = read_tensors(folder / MODEL)
    with torch.no_grad():
        for name, tensor in unique_tensors(model).items():
            tensor.copy_(weights[part + name])
