"""Pictures with matplotlib: figures, image files, and fonts for many scripts."""

import io
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from transformer.config.errors import install_extra
from transformer.files import write_whole

FORMATS = (".png", ".svg", ".pdf")
FONTS = (
    "DejaVu Sans",  # comes with matplotlib: Latin, Greek, Cyrillic, Hebrew, Arabic and the symbols we use
    *("Noto Sans", "Noto Sans Arabic", "Noto Naskh Arabic", "Geeza Pro", "Segoe UI"),
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans JP", "IPAexGothic", "WenQuanYi Micro Hei"),
    *("Hiragino Sans", "PingFang SC", "Apple SD Gothic Neo", "Yu Gothic", "Microsoft YaHei", "Malgun Gothic"),
    *("Noto Sans Devanagari", "Noto Sans Thai", "Nirmala UI", "Arial Unicode MS"),
)
"""Font families of Linux, macOS and Windows; each character is drawn in the first font that contains it."""


def require_picture(path: Path) -> None:
    """Raise `ValueError` unless a picture can be written to a file of this name."""
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path}: the name of a picture must end in one of {', '.join(FORMATS)}")


def new_figure(width: float, height: float) -> Any:
    """Make an empty figure of this size in inches, without a window.

    Raises `ValueError` if matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError(f"plot needs matplotlib; {install_extra('plots')}") from None
    return Figure(figsize=(width, height), layout="constrained")


def write_picture(figure: Any, path: Path) -> None:
    """Write a figure as PNG, SVG or PDF, depending on the suffix of the file's name."""
    picture = io.BytesIO()  # not the file itself, because some of matplotlib's writers crash on a full disk
    figure.savefig(picture, dpi=150, format=path.suffix[1:].lower())
    write_whole(path, picture.getvalue())


def plain_text() -> dict[str, Any]:
    """Return matplotlib's options for text in any language: all installed `FONTS`, and `$` as plain text."""
    return {"fontfamily": installed_fonts(), "parse_math": False}


@cache
def installed_fonts() -> list[str]:
    """Return the names in `FONTS` that matplotlib can use."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    known = {font.fname for font in fontManager.ttflist}
    for path in findSystemFonts():
        if path not in known:  # fonts installed recently are not in matplotlib's cached list
            with suppress(OSError, RuntimeError):  # the file is not a font
                fontManager.addfont(path)
    names = set(fontManager.get_font_names())
    return [name for name in FONTS if name in names]


def label_rows(axes: Any, texts: Iterable[str]) -> None:
    """Write a label next to each row of a matrix drawn with `imshow`."""
    labels = [*texts]
    axes.set_yticks(range(len(labels)), labels, **plain_text())


def label_columns(axes: Any, texts: Iterable[str]) -> None:
    """Write a label above each column of a matrix drawn with `imshow`."""
    labels = [*texts]
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(labels)), labels, rotation=90, **plain_text())


def show_legend(axes: Any) -> None:
    """Show a legend with the names of the curves, if any curve has a name."""
    if axes.get_legend_handles_labels()[0]:
        for text in axes.legend(fontsize=8).get_texts():
            text.set(**plain_text())
