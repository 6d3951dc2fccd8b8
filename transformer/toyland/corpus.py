"""The splits of the corpus. A hash of the English sentence decides if it is in train, valid or test."""

from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple
from zlib import crc32

from transformer.toyland.draft import Draft
from transformer.toyland.generalisation import deeper, new_pair
from transformer.toyland.heldout import NewNames, NewNumbers, is_held_out
from transformer.toyland.kinds import say
from transformer.toyland.tree import Branch, english_text, german_text

SPLITS = ("train", "valid", "test")
# Sentences with more words are discarded.
MAX_WORDS = 20
_SEED = 1706_03762


class Example(NamedTuple):
    """A sentence pair, its phenomena, and the tree that both sides were derived from."""

    source: str
    target: str
    phenomena: tuple[str, ...]
    tree: Branch


def split_of(source: str) -> str:
    """The split of an English sentence, however it was generated: 90 % train, 5 % valid, 5 % test."""
    share = crc32(source.encode()) % 20
    return "valid" if share == 0 else "test" if share == 1 else "train"


class _Stream(NamedTuple):
    """How the sentences of a split are generated. A sentence is used only if `shows(draft)` is true."""

    seed: int
    draft: type[Draft]
    say: Callable[[Draft], Branch]
    shows: Callable[[Draft], bool]


_GENERALISATION = {
    "new_pairs": _Stream(_SEED + 1, Draft, new_pair, lambda draft: True),  # noqa: ARG005
    "deeper": _Stream(_SEED + 2, Draft, deeper, lambda draft: True),  # noqa: ARG005
    "new_numbers": _Stream(_SEED + 3, NewNumbers, say, lambda draft: any(map(is_held_out, draft.numbers))),
    "new_names": _Stream(_SEED + 4, NewNames, say, lambda draft: "name" in draft.seen),
}
GENERALISATION = tuple(_GENERALISATION)
"""Splits in which every sentence has something that never occurs in training (see `docs/toyland.md`)."""


def generate(split: str, count: int) -> Iterator[Example]:
    """Yield the first `count` distinct examples of a split; a larger `count` continues the same list."""
    if split in SPLITS:
        return _examples(count, _Stream(_SEED, Draft, say, _is_usual), split)
    if split not in _GENERALISATION:
        raise ValueError(f"unknown split {split!r}; toyland has {', '.join((*SPLITS, *GENERALISATION))}")
    return _examples(count, _GENERALISATION[split], None)


def _is_usual(draft: Draft) -> bool:
    return not any(map(is_held_out, draft.numbers))


def _examples(count: int, stream: _Stream, part: str | None) -> Iterator[Example]:
    """Yield the first `count` distinct sentences of the stream or, if `part` is given, of that split only."""
    random = Random(stream.seed).random
    said: set[str] = set()
    while len(said) < count:
        draft = stream.draft(random)
        tree = stream.say(draft)
        source = english_text(tree)
        if (part and split_of(source) != part) or source in said or source.count(" ") >= MAX_WORDS:
            continue
        if stream.shows(draft):
            said.add(source)
            yield Example(source, german_text(tree), draft.phenomena(), tree)
