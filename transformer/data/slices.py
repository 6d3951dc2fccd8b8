"""Slices at the end of a text's name, such as `[:90%]` or `[1000:2000]`, of lines, pairs or characters."""

import re
from dataclasses import dataclass
from pathlib import Path

from transformer.config.errors import shortened
from transformer.data.text import CorpusError

SLICE = re.compile(r"(?P<text>.+)\[(?P<start>[0-9]{1,18}%?)?:(?P<end>[0-9]{1,18}%?)?\]")
NO_SLICE = re.compile(r"(?P<text>.+)\[[^\[\]]*\]")
FORMS = "[:1000], [1000:], [1000:2000], [:90%] or [90%:]"


@dataclass(frozen=True)
class Slice:
    """The part of a text from `start` to `end`, each as written: `10`, `90%` or empty."""

    start: str
    end: str

    def of(self, length: int) -> range:
        """The selected indices among `length` items; those of `[:90%]` and `[90%:]` do not overlap."""
        return range(length)[place(self.start or "0", length) : place(self.end or "100%", length)]


def split_slice(name: str) -> tuple[str, Slice]:
    """Split a name into the name of the whole text and the slice; without one, the slice is the whole text.

    `CorpusError` for more than 100%.
    """
    match = SLICE.fullmatch(name)
    if match is None:
        return name, Slice("", "")
    part = Slice(match["start"] or "", match["end"] or "")
    for written in (part.start, part.end):
        if written.endswith("%") and int(written[:-1]) > 100:
            raise CorpusError(f"{name}: {written} is more than the whole text; a slice ends at 100% at most")
    return match["text"], part


def require_slice(name: str) -> None:
    """`CorpusError` if a name under which no text was found ends in brackets that are not a valid slice."""
    if NO_SLICE.fullmatch(name) and not SLICE.fullmatch(name):
        raise CorpusError(f"{shortened(name)}: the brackets at the end hold no slice; write {FORMS}")


def require_file(name: str, path: str) -> None:
    """Checks `path`, the name of a text without its slice, for a task that needs a text file.

    If it does not exist: `CorpusError` for an invalid slice and for toyland; otherwise reading it will fail.
    """
    if Path(path).exists():
        return
    require_slice(path)
    if path.startswith("toyland:"):
        raise CorpusError(f"{name} is a corpus of sentence pairs; this task needs a text file")


def place(written: str, length: int) -> int:
    """The index that `10` or `90%` means among `length` items."""
    return length * int(written[:-1]) // 100 if written.endswith("%") else int(written)
