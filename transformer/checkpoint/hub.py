"""Names of models: a folder here, or a repository on the Hugging Face Hub."""

import re
from collections.abc import Sequence
from pathlib import Path

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def local_folder(name: str | Path, *, patterns: Sequence[str] | None = None) -> Path:
    """The path `name`, or where the files of the Hub's repository OWNER/NAME stand once they are downloaded.

    A name is a Hub id if it looks like one and nothing stands there, nor in its parent: `runs/mistyped` is a
    path where there is a folder `runs`. Of a repository only files that match the `patterns` are downloaded,
    and none that the Hub's cache holds already. `ValueError` in one line where the Hub cannot be reached, or
    has no such repository.
    """
    path = Path(name)
    if path.exists() or not HUB_ID.fullmatch(str(name)) or path.parent.exists():
        return path
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(name), allow_patterns=None if patterns is None else list(patterns)))
    except Exception as error:  # network, permissions, unknown ids
        why = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"there is no folder {str(name)!r}, and it cannot be loaded from the Hub: {why}"
        ) from None
