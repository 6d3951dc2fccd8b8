"""Writing checkpoints atomically."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from transformer.checkpoint.format import FORMAT_VERSION, MANIFEST, STATE
from transformer.files import naming, whole_folder, write

SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")
"""Matches the error number in safetensors' message about a failed write."""
WriteFile = Callable[[Path], str]
"""Writes a file at the given path and returns the SHA-256 that the file should have."""


def write_checkpoint(
    folder: Path,
    *,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    tokenizer_hash: str,
) -> None:
    """Write the checkpoint `folder` atomically, with `tensors` (one file for each key) and `state`.

    Raises `OSError` if the disk is full or read-only, after deleting the files written so far.
    """
    files = {name: partial(write_hashed, content) for name, content in tensors.items()}
    write_checkpoint_files(folder, files=files, state=state, tokenizer_hash=tokenizer_hash)


def write_checkpoint_files(
    folder: Path, *, files: Mapping[str, WriteFile], state: Mapping[str, Any], tokenizer_hash: str
) -> None:
    """Write a checkpoint like `write_checkpoint`, but let the functions in `files` write the tensors."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    kind = folder.name.partition("-")[0] + "-"
    with whole_folder(folder, replace=True, kind=kind) as unfinished:
        write_files(unfinished, files, state, tokenizer_hash)


def write_files(
    folder: Path, files: Mapping[str, WriteFile], state: Mapping[str, Any], tokenizer_hash: str
) -> None:
    """Write the files of a checkpoint, the manifest last because it holds the hashes of the others."""
    hashes = {name: write_file(folder / name) for name, write_file in files.items()}
    content_of_state = json.dumps(state, indent=1).encode()
    write(folder / STATE, content_of_state)
    hashes[STATE] = hashlib.sha256(content_of_state).hexdigest()
    manifest = {"format_version": FORMAT_VERSION, "tokenizer": tokenizer_hash, "files": hashes}
    write(folder / MANIFEST, json.dumps(manifest, indent=1))


def write_hashed(tensors: Mapping[str, Tensor], path: Path) -> str:
    """Write a safetensors file, and return the hash that it should have."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_tensors(plain, path)
    return hash_of_tensors(plain, path)


def hash_of_tensors(tensors: Mapping[str, Tensor], path: Path) -> str:
    """Compute the SHA-256 that the safetensors file of these tensors should have.

    The hash is computed from the tensors in memory. Only the header is read from the file, because the header
    gives the order in which the tensors are stored. If the tensors are damaged while they are written, the
    hash of the file differs from this hash, and the damage is found when the checkpoint is read.
    """
    with naming(path), path.open("rb") as file:
        size = file.read(8)
        header = file.read(int.from_bytes(size, "little"))
    digest = hashlib.sha256(size + header)
    places = {name: place for name, place in json.loads(header).items() if name != "__metadata__"}
    for name in sorted(places, key=lambda name: places[name]["data_offsets"]):
        digest.update(bytes_of(tensors[name]))
    return digest.hexdigest()


def bytes_of(tensor: Tensor) -> memoryview:
    """Return the bytes of a contiguous tensor in host memory."""
    return tensor.flatten().view(torch.uint8).numpy().data


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file. Raises `OSError` with the file's name if writing fails."""
    with naming(path):
        try:
            save_file(dict(tensors), path, metadata)
        except SafetensorError as error:  # safetensors turns system errors into strings; turn them back
            if (found := SYSTEM_ERROR.search(str(error))) is None:
                raise OSError(f"{path}: {error}") from error
            number = int(found[1])
            raise OSError(number, os.strerror(number)) from error
