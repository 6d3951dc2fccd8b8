"""The files of a checkpoint, the format version, and the names of weights in older formats."""

from collections.abc import Collection, Mapping
from typing import TypeVar

T = TypeVar("T")

FORMAT_VERSION = 2
READABLE_VERSIONS = (1, 2)
MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
MANIFEST = "manifest.json"
LARGEST_JSON = 2**24
"""Maximum size of a manifest or state file in bytes. The files that we write have a few hundred bytes."""

RENAMED = {  # prefixes of weight names in format 1, and today's prefixes
    "target_embedding.": "decoder.embedding.",
    "embedding.": "decoder.embedding.",
    "blocks.": "decoder.blocks.",
    "final_norm.": "decoder.final_norm.",
}


class CheckpointError(ValueError):
    """A checkpoint or a run's folder cannot be used. The message is one line with the path and the reason."""


def with_current_names(stored: Mapping[str, T], expected: Collection[str]) -> dict[str, T]:
    """Return the contents of a checkpoint, with the names of format 1 replaced by today's names.

    A name is replaced only if `expected` contains today's name and does not contain the old one. Today's
    encoders and custom models may have weights whose names begin like those of format 1; such names are kept.
    """
    current = {}
    for name, value in stored.items():
        present = name if name in expected else present_name(name)
        is_renamed = present in expected and present not in stored
        current[present if is_renamed else name] = value
    return current


def present_name(name: str) -> str:
    """Return today's name of a weight that was called `name` in format 1."""
    for old, new in RENAMED.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
