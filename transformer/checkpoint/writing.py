"""Writing checkpoints atomically."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from transformer.checkpoint.format import FORMAT_VERSION, MANIFEST, STATE
from transformer.checkpoint.reading import file_hash
from transformer.files import naming, whole_folder, write

SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")
"""The error number in safetensors' message when a write fails."""


def write_checkpoint(
    folder: Path,
    *,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    tokenizer_hash: str,
) -> None:
    """Write `tensors`, by file name, and `state` as the checkpoint `folder`, atomically.

    `OSError` if the disk is full or read-only; the files written so far are deleted again.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    kind = folder.name.partition("-")[0] + "-"
    with whole_folder(folder, replace=True, kind=kind) as unfinished:
        write_files(unfinished, tensors, state, tokenizer_hash)


def write_files(
    folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any], tokenizer_hash: str
) -> None:
    """Write the files of a checkpoint, the manifest last because it holds the hashes of the others."""
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
    """Write a safetensors file; `OSError` with its name if that fails."""
    with naming(path):
        try:
            save_file(dict(tensors), path, metadata)
        except SafetensorError as error:  # safetensors turns system errors into text; turn them back
            if (found := SYSTEM_ERROR.search(str(error))) is None:
                raise OSError(f"{path}: {error}") from error
            number = int(found[1])
            raise OSError(number, os.strerror(number)) from error
