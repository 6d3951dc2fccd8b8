"""Reading a checkpoint's manifest and state, and checking the hashes of its files."""

import hashlib
import json
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from transformer.checkpoint.format import (
    LARGEST_JSON,
    MANIFEST,
    MODEL,
    READABLE_VERSIONS,
    STATE,
    CheckpointError,
)
from transformer.config.errors import shortened
from transformer.files import is_plain_name, read_bounded

LARGEST = sys.float_info.max


def read_object(path: Path) -> dict[str, Any]:
    """Read the JSON object in a file. Raises `ValueError` or `RecursionError` if there is no such object."""
    content = json.loads(read_bounded(path, LARGEST_JSON))
    if not isinstance(content, dict):
        raise ValueError(f"{path} does not hold a JSON object")
    return content


def file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(folder: Path, *, unread: Collection[str] = ()) -> dict[str, Any]:
    """Read the manifest of a checkpoint, and check the hashes of all files except those in `unread`."""
    try:
        manifest = read_object(folder / MANIFEST)
        version = manifest["format_version"]
    except (OSError, ValueError, KeyError, RecursionError) as error:
        raise CheckpointError(f"{folder}: no readable {MANIFEST}; the checkpoint is damaged") from error
    if type(version) is not int or version not in READABLE_VERSIONS:  # not `isinstance`: True is an int
        readable = " and ".join(map(str, READABLE_VERSIONS))
        found = shortened(json.dumps(version))
        raise CheckpointError(
            f"{folder}: format version {found}, but this version of the program reads {readable}"
        )
    # The other keys are checked only now, because they may differ in a version that we cannot read.
    files = manifest.get("files")
    if not isinstance(files, dict) or "tokenizer" not in manifest:
        raise CheckpointError(f"{folder}: no readable {MANIFEST}; the checkpoint is damaged")
    for name, expected in {MODEL: None, STATE: None, **files}.items():
        is_there = is_plain_name(name) and (folder / name).is_file()
        if not is_there or (name not in unread and file_hash(folder / name) != expected):
            raise CheckpointError(
                f"{folder / shortened(name)}: missing or damaged, its hash is not the one in {MANIFEST}"
            )
    return manifest


def read_state(folder: Path) -> dict[str, Any]:
    """Read the `state` that was given to `write_checkpoint`. The values in it are not checked."""
    try:
        return read_object(folder / STATE)
    except (OSError, ValueError, RecursionError):
        raise CheckpointError(f"{folder / STATE}: cannot be read, or is not a JSON object") from None


def is_figure(value: Any) -> bool:
    """Whether a value is a number that fits into a float; JSON allows integers of any length."""
    return isinstance(value, int | float) and -LARGEST < value < LARGEST
