"""Code that all conversions share: the error class, the output folder, and checks of runs and packages."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from transformer import files
from transformer.checkpoint.opening import OpenedRun, find_pretrained, open_run
from transformer.config.errors import install_extra
from transformer.config.files import load_settings


class ConversionError(ValueError):
    """A model that cannot be converted. The message is one line that says what is wrong."""


def refuse(setting: str, found: Any, valid: str) -> ConversionError:
    """Return the error to raise for a setting that the other program does not support."""
    return ConversionError(f"model.{setting} is {found}; {valid}")


@contextmanager
def conversion_folder(output: Path) -> Iterator[Path]:
    """Yield a temporary folder that is renamed to `output` if the block succeeds; `output` must not exist."""
    if output.exists():
        raise ConversionError(f"{output} exists already; name a folder that does not exist")
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        with files.whole_folder(output) as folder:
            yield folder
    except FileExistsError:
        raise ConversionError(
            f"{output}: another process has just created this folder, which was not changed"
        ) from None


def open_convertible(name: str | Path) -> OpenedRun:
    """Open a translation run, or raise a `ConversionError` if its model cannot be converted.

    No conversion supports a model made by a custom builder, nor one whose encoder and decoder differ in
    vocabulary or depth.
    """
    settings = load_settings(find_pretrained(name)[0].config)
    model = settings.model
    if settings.build is not None:
        raise ConversionError(
            f"{name}: built by {settings.build}; only models of this package can be converted"
        )
    for setting in ("source_vocab_size", "num_decoder_layers"):
        if getattr(model, setting) is not None:
            raise refuse(setting, getattr(model, setting), "only null can be converted")
    return open_run(name, task="translation")


def require_package(name: str) -> Any:
    """Import an optional package; raise `ConversionError` with the install command if it is missing."""
    try:
        return import_module(name)
    except ModuleNotFoundError:
        raise ConversionError(f"{name} is not installed; {install_extra('convert')}") from None


def require_unique(pieces: list[str]) -> list[str]:
    """Return `pieces`; raise `ConversionError` if two are equal.

    Other programs identify tokens by their text.
    """
    seen: set[str] = set()
    for piece in pieces:
        if piece in seen:
            raise ConversionError(f"the vocabulary has two tokens {piece!r}; they must differ as text")
        seen.add(piece)
    return pieces
