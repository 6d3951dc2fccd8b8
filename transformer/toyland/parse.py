"""Writes and reads bracketed constituency parses of English sentences, the targets in §6.3."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from transformer.toyland.corpus import Example
from transformer.toyland.tree import Branch, punctuated


class Constituent(NamedTuple):
    """A label for the words from `start` up to but not including `stop`; punctuation marks count as words."""

    label: str
    start: int
    stop: int


def parse(example: Example) -> str:
    """Write the parse of a sentence, such as `(ROOT (S (NP (DT the ) (NN man ) ) (VB sleeps ) ) (. . ) )`.

    Each opening bracket with its label, each word and each closing bracket is a separate token, and tokens
    are separated by spaces. The first word is not capitalised; `read_words` recovers the sentence.
    German words without an English counterpart are left out.
    """
    return " ".join(_brackets(example.tree))


def read_words(text: str) -> str:
    """The English sentence of a parse. Raises `ValueError` if the brackets do not match."""
    constituents(text)
    return punctuated([token for token in text.split() if not _is_bracket(token)])


def phrases(text: str) -> list[Constituent]:
    """The constituents that bracket F1 counts: all except the brackets around single words."""
    without_labels = re.sub(r"\([^ ]+ ([^()][^()]*) \)", r"\1", text)
    return constituents(without_labels)


def constituents(text: str) -> list[Constituent]:
    """All constituents, inner ones first. Raises `ValueError` if the brackets do not match."""
    found: list[Constituent] = []
    opened: list[tuple[str, int]] = []
    position = 0
    for token in text.split():
        if token == ")":
            if not opened:
                raise ValueError(f"not a parse: a closing bracket has no opening bracket, in {text!r}")
            label, start = opened.pop()
            found.append(Constituent(label, start, position))
        elif _is_bracket(token):
            opened.append((token[1:], position))
        else:
            position += 1
    if opened:
        raise ValueError(f"not a parse: {len(opened)} brackets are not closed, in {text!r}")
    return found


def _is_bracket(token: str) -> bool:
    return token == ")" or token.startswith("(")


def _brackets(branch: Branch) -> Iterator[str]:
    yield f"({branch.label}"
    for child in branch.english:
        if isinstance(child, Branch):
            yield from _brackets(child)
        elif child.english:
            yield f"({child.label} {child.english} )"
    yield ")"
