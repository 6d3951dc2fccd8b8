"""Resolving the name of a model: a local folder or a repository on the Hugging Face Hub."""

import re
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def local_folder(name: str | Path, *, patterns: Sequence[str] | None = None) -> Path:
    """Return the path `name` or, if `name` is a Hub id OWNER/NAME, the folder with the downloaded files.

    `name` is a Hub id if it has this form and neither `name` nor its parent exists as a local path. For
    example, if there is a folder `runs`, `runs/mistyped` is a path. Only files that match the `patterns` are
    downloaded; files that are already in the Hub's local cache are not downloaded again. Raises `ValueError`
    if the Hub cannot be reached or has no such repository.
    """
    path = Path(name)
    if path.exists() or not HUB_ID.fullmatch(str(name)) or path.parent.exists():
        return path
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(name), allow_patterns=None if patterns is None else list(patterns)))
    except Exception as error:  # network, permissions, unknown ids
        why = shorten(str(error), 200) or type(error).__name__  # network errors have long messages
        raise ValueError(
            f"there is no folder {str(name)!r}, and it cannot be loaded from the Hub: {why}"
        ) from None
