"""The files of a checkpoint, its format's version, and the names that older formats gave to weights."""

from collections.abc import Collection, Mapping
from typing import TypeVar

T = TypeVar("T")

FORMAT_VERSION = 2
READABLE_VERSIONS = (1, 2)
MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
MANIFEST = "manifest.json"

RENAMED = {  # how names of weights began in format 1, and how they have begun since
    "target_embedding.": "decoder.embedding.",
    "embedding.": "decoder.embedding.",
    "blocks.": "decoder.blocks.",
    "final_norm.": "decoder.final_norm.",
}


class CheckpointError(ValueError):
    """A checkpoint or a run's folder that cannot be used: one line that says where, what and why."""


def with_current_names(stored: Mapping[str, T], expected: Collection[str]) -> dict[str, T]:
    """What a checkpoint stores, a weight of format 1 under its present name if the model expects that.

    Other names stay as they are: an encoder, or a model of your own, may use a name of format 1 today.
    """
    current = {}
    for name, value in stored.items():
        present = name if name in expected else present_name(name)
        is_renamed = present in expected and present not in stored
        current[present if is_renamed else name] = value
    return current


def present_name(name: str) -> str:
    """What a weight that format 1 called `name` is called today."""
    for old, new in RENAMED.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
