"""Marian's vocabularies, one for each language or one for both, and their conversion to our tokenizer."""

from collections.abc import Container
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from transformer.convert.common import ConversionError
from transformer.data.tokenizers.marian import MarianTokenizer


@dataclass(frozen=True)
class Vocabulary:
    """Marian's ids of the pieces of one language.

    Marian itself has no pad, and its decoder starts with a vector of zeros. In Hugging Face's folders, the
    vector of zeros is the embedding of pad.
    """

    path: Path
    ids: dict[str, int]
    rows: int
    """The number of rows of the embedding, which may be larger than the number of pieces."""
    eos: int
    unk: int
    pad: int | None = None
    start: int | None = None

    def __post_init__(self) -> None:
        numbers = list(self.ids.values())
        if any(type(number) is not int or not 0 <= number < self.rows for number in numbers):
            raise ConversionError(
                f"{self.path}: the ids of its {len(numbers)} pieces do not all lie in 0 … {self.rows - 1}, "
                "the rows of the embedding"
            )
        if len(set(numbers)) < len(numbers):
            raise ConversionError(f"{self.path}: two pieces have the same id")
        ends = [number for number in (self.pad, self.eos, self.unk) if number is not None]
        if len(set(ends)) < len(ends) or not set(ends) <= set(numbers):
            raise ConversionError(
                f"{self.path}: the ids of pad, eos and unk are {ends}; they must differ, and be ids of pieces"
            )

    def others(self, *special: int | None) -> list[str]:
        """Return the pieces whose ids are not among `special`, in Marian's order."""
        ordered = sorted(self.ids.items(), key=itemgetter(1))
        return [piece for piece, number in ordered if number not in special]


def free_name(name: str, taken: Container[str]) -> str:
    """Return `name`, with pairs of angle brackets added until the name is not in `taken`."""
    return free_name(f"<{name}>", taken) if name in taken else name


def convert_vocabularies(
    source: Vocabulary, target: Vocabulary, source_model: bytes, target_model: bytes
) -> MarianTokenizer:
    """Build our tokenizer, which lists the target's pieces first, then the pieces that only the source has.

    BOS is the token with which Marian's decoder starts. If that token also has another role, or if there are
    two vocabularies, BOS becomes a separate token with the same Marian id.
    """
    is_joint = source.ids == target.ids
    taken = source.ids | target.ids
    names: dict[int | None, str] = {number: piece for piece, number in target.ids.items()}
    pad, start, eos, unk = target.pad, target.start, target.eos, target.unk
    is_copy = start not in names or start in (pad, eos, unk) or not is_joint
    special = [
        free_name("<pad>", taken) if pad is None else names[pad],
        free_name("<s>", taken) if is_copy else names[start],
        names[eos],
        names[unk],
    ]
    target_others = target.others(pad, eos, unk, *([] if is_copy else [start]))
    source_others = [] if is_joint else source.others(source.pad, source.eos, source.unk)
    others = list(dict.fromkeys([*target_others, *source_others]))
    target_ids = [pad, start, eos, unk, *map(target.ids.get, others)]
    source_ids = [source.pad, None, source.eos, source.unk, *map(source.ids.get, others)]
    return MarianTokenizer(
        *(source_model, target_model),
        [*special, *others],
        target_ids,
        source_ids=None if is_joint else source_ids,
    )
