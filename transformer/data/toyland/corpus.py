"""Splits: one endless stream of sentences, dealt out by a hash of the English text."""

from collections.abc import Iterator
from random import Random
from typing import NamedTuple
from zlib import crc32

from transformer.data.toyland.draft import Draft
from transformer.data.toyland.sentences import say
from transformer.data.toyland.tree import Branch, english_text, german_text

SPLITS = ("train", "valid", "test")
# Longer sentences are thrown away.
MAX_WORDS = 20
_SEED = 1706_03762


class Example(NamedTuple):
    """A sentence pair, what it shows, and the tree that both sides were read from."""

    source: str
    target: str
    phenomena: tuple[str, ...]
    tree: Branch


def split_of(source: str) -> str:
    """The split that an English sentence belongs to, whoever says it: 90 % train, 5 % valid, 5 % test."""
    share = crc32(source.encode()) % 20
    return "valid" if share == 0 else "test" if share == 1 else "train"


def generate(split: str, count: int) -> Iterator[Example]:
    """The first `count` examples of a split, all different; more examples continue the same list."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; toyland has {', '.join(SPLITS)}")
    return _examples(split, count)


def _examples(split: str, count: int) -> Iterator[Example]:
    random = Random(_SEED).random
    said: set[str] = set()
    while len(said) < count:
        draft = Draft(random)
        tree = say(draft)
        source = english_text(tree)
        if split_of(source) != split or source in said or source.count(" ") >= MAX_WORDS:
            continue
        said.add(source)
        yield Example(source, german_text(tree), draft.phenomena(), tree)
