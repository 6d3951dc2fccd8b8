"""The tree of a sentence: one structure that can be read in English order and in German order."""

from __future__ import annotations

from typing import TypeAlias


class Leaf:
    """A word (sometimes several) and its translation; either side may be empty.

    Leaves of one clause with the same `link` are translated as one unit, even if they are not adjacent:
    `opens` is `macht … auf`, and `not a` is `keinen`. Many sentences share the same leaf objects, so a leaf
    must never be changed.
    """

    __slots__ = ("english", "german", "label", "link")

    def __init__(self, label: str, english: str, german: str, link: str = "") -> None:
        self.label = label
        self.english = english
        self.german = german
        self.link = link

    def __repr__(self) -> str:
        return f"({self.label} {self.english or '∅'}={self.german or '∅'})"


class Branch:
    """A constituent: the same children in English order and in German order."""

    __slots__ = ("english", "german", "label")

    def __init__(self, label: str, english: tuple[Node, ...], german: tuple[Node, ...] | None = None) -> None:
        self.label = label
        self.english = english
        self.german = english if german is None else german

    def __repr__(self) -> str:
        return f"({self.label} {' '.join(map(repr, self.english))})"


Node: TypeAlias = Leaf | Branch


def english_text(tree: Branch) -> str:
    """The English sentence of a tree."""
    words: list[str] = []
    _collect_english(tree, words)
    return punctuated(words)


def german_text(tree: Branch) -> str:
    """The German sentence of a tree."""
    words: list[str] = []
    _collect_german(tree, words)
    return punctuated(words)


def _collect_english(branch: Branch, words: list[str]) -> None:
    for child in branch.english:
        if isinstance(child, Branch):
            _collect_english(child, words)
        elif child.english:
            words.append(child.english)


def _collect_german(branch: Branch, words: list[str]) -> None:
    for child in branch.german:
        if isinstance(child, Branch):
            _collect_german(child, words)
        elif child.german:
            words.append(child.german)


def punctuated(words: list[str]) -> str:
    """Join words and punctuation: no space before punctuation, a capital at the start of a sentence."""
    text = " ".join(words).replace(" ,", ",").replace(" .", ".").replace(" ?", "?")
    if ",," in text or ",." in text or ",?" in text:
        # A German relative clause ends with a comma, which is dropped before another punctuation mark.
        text = text.replace(",,", ",").replace(",.", ".").replace(",?", "?")
    text = text[0].upper() + text[1:]
    if ". " in text:
        first, second = text.split(". ")
        text = f"{first}. {second[0].upper()}{second[1:]}"
    return text
