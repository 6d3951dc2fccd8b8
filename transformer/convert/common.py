"""What conversions share: their error, a folder that is whole or absent, packages that may be missing."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from transformer import files


class ConversionError(ValueError):
    """What cannot be converted: one line that names the file, the setting and what could be."""


def refuse(setting: str, found: Any, valid: str) -> ConversionError:
    """The error for a model with a setting that the other program does not have."""
    return ConversionError(f"model.{setting} is {found}; {valid}")


@contextmanager
def whole_folder(output: Path) -> Iterator[Path]:
    """An unfinished folder that takes the name `output`, which must be free, when the block has succeeded."""
    if output.exists():
        raise ConversionError(f"{output} exists already; name a folder that does not")
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        with files.whole_folder(output) as folder:
            yield folder
    except FileExistsError:
        raise ConversionError(
            f"{output} exists by now: another process has written it meanwhile, and it was left as it is"
        ) from None


def require_package(name: str) -> Any:
    """An optional package; `ConversionError` that says how to install it where it is missing."""
    try:
        return import_module(name)
    except ModuleNotFoundError:
        raise ConversionError(
            f"{name} is not installed: pip install {name} (or this project with its extra: .[convert])"
        ) from None


def require_unique(pieces: list[str]) -> list[str]:
    """The tokens as text, each once: other programs tell them apart by their text alone."""
    seen: set[str] = set()
    for piece in pieces:
        if piece in seen:
            raise ConversionError(f"the vocabulary has two tokens {piece!r}; they must differ as text")
        seen.add(piece)
    return pieces
