"""A slice at the end of a corpus name, such as `[:90%]` or `[1000:2000]`, selects a part of the corpus.

The numbers of a slice count lines, sentence pairs or characters, depending on the task.
"""

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
    """The part of a corpus from `start` to `end`, both as the user wrote them: `10`, `90%` or empty."""

    start: str
    end: str

    def of(self, length: int) -> range:
        """The selected indices among `length` items; `[:90%]` and `[90%:]` have no item in common."""
        return range(length)[place(self.start or "0", length) : place(self.end or "100%", length)]


def split_slice(name: str) -> tuple[str, Slice]:
    """Split a name into the name of the whole corpus and a slice.

    A name without a slice selects the whole corpus. Raises `CorpusError` if the slice has a percentage above
    100.
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
    """Raise `CorpusError` if `name`, under which no corpus was found, ends in an invalid slice."""
    if NO_SLICE.fullmatch(name) and not SLICE.fullmatch(name):
        raise CorpusError(f"{shortened(name)}: the brackets at the end are not a valid slice; write {FORMS}")


def require_file(name: str, path: str) -> None:
    """Check that a task can read `path`, which is `name` without its slice, as a text file.

    Raises `CorpusError` if `path` does not exist and either ends in an invalid slice or names a toyland
    corpus. Any other missing file causes an error only when it is read.
    """
    if Path(path).exists():
        return
    require_slice(path)
    if path.startswith("toyland:"):
        raise CorpusError(f"{name} is a corpus of sentence pairs; this task needs a text file")


def place(written: str, length: int) -> int:
    """Convert a number such as `10`, or a percentage such as `90%`, to an index among `length` items."""
    return length * int(written[:-1]) // 100 if written.endswith("%") else int(written)
