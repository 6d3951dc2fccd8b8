"""The sentences that an evaluation scored, in memory and as a file of JSON lines."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from transformer.data.json_text import json_line, parse_object
from transformer.data.text import CorpusError, read_lines
from transformer.files import write_whole

MEMBERS = ("source", "reference", "output")


@dataclass(frozen=True)
class Scored:
    """One sentence of a test set, its reference, and a model's output."""

    source: str
    reference: str
    output: str


def write_scored(path: Path, sentences: Sequence[Scored]) -> None:
    """Write one JSON object per sentence; the file appears only when it is complete."""
    write_whole(path, "".join(f"{json_line(asdict(sentence))}\n" for sentence in sentences))


def read_scored(path: Path) -> list[Scored]:
    """Read the sentences that `write_scored` wrote; other members of the JSON objects are ignored."""
    sentences = []
    for number, line in enumerate(read_lines(path), start=1):
        values, _ = parse_object(line, f"{path}, line {number}", MEMBERS)
        sentences.append(Scored(*(values[name] for name in MEMBERS)))
    if not sentences:
        raise CorpusError(f"{path}: there are no sentences in it")
    return sentences
