"""Finds the words, names and numbers in a sentence.

To parse a sentence, the oracle (`oracle.py`) tries all choices of the generator. It skips the choices whose
words are not in the sentence.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, TypeVar

from transformer.toyland.clauses import Modal
from transformer.toyland.events import Event
from transformer.toyland.inflection import (
    ADJECTIVES,
    DATIVE_VERBS,
    GIVING_VERBS,
    HOME_VERBS,
    MOTION_VERBS,
    NOUNS,
    SAYING_VERBS,
    TRAVEL_VERBS,
    VERBS,
    Adjective,
    Determiner,
    Noun,
    Verb,
)
from transformer.toyland.names import is_invented
from transformer.toyland.numbers import ENGLISH_SMALL, ENGLISH_TENS, english_number
from transformer.toyland.phrases import Phrase
from transformer.toyland.tree import Branch, Leaf, Node

T = TypeVar("T")
_VERBS = (
    *VERBS, *DATIVE_VERBS, *GIVING_VERBS, *MOTION_VERBS, *TRAVEL_VERBS, *HOME_VERBS, *SAYING_VERBS
)  # fmt: skip
_FUNCTION_WORDS = """
a an the this these my our his her I we he she it who whom that what where why when because there
in into to from at on and not cannot can must should want wants do does am is are have has called costs euros
people live o'clock half past quarter today tomorrow now every day morning evening week next
Monday Tuesday Wednesday Thursday Friday
"""
_UNITS = {word: value for value, word in enumerate(ENGLISH_SMALL)}
_UNITS |= {word: 10 * value for value, word in enumerate(ENGLISH_TENS) if word}
_NUMBER_WORDS = {*_UNITS, "hundred", "thousand"}


class Reading:
    """A sentence, prepared for many fast look-ups of its words, which ignore case."""

    def __init__(self, sentence: str) -> None:
        words = tokens(sentence)
        self.text = f" {' '.join(words).lower()} "
        self.names = [word for word in dict.fromkeys(words) if may_be_name(word)]
        # The first word is left out, because `Who` at the start of a question does not open another clause.
        opened = sum(map(words[1:].count, ("because", "that", "who", "whom", "."))) + (words[0] == "Because")
        self.clauses = opened + (words[-1] == "?")
        self.numbers = list(dict.fromkeys(numbers(words)))
        self._possible: dict[int, tuple[Sequence[Any], list[Any]]] = {}

    def holds(self, words: str) -> bool:
        """Whether the sentence contains these words next to each other; also true for an empty string."""
        return not words or f" {words.lower()} " in self.text

    def holds_clause(self, words: str) -> bool:
        """Whether the sentence contains these words as a clause.

        The clause begins at the start of the sentence, after a punctuation mark, or with `because` or `that`.
        It ends before a punctuation mark, `because` or `that`.
        """
        opening, closing = r"(^|[.,] |(?=because |that ))", r" ([.,?]|because\b|that\b)"
        return re.search(opening + re.escape(words.lower()) + closing, self.text.strip()) is not None

    def possible(self, options: Sequence[T]) -> list[T]:
        """The distinct options that the sentence contains in some form."""
        known = self._possible.get(id(options))
        if known is None:
            different = {id(option): option for option in options}.values()
            possible = [option for option in different if self._may_say(option)]
            if not any(map(is_person, possible)):
                # The generator chooses a noun even if a pronoun or a name then replaces the noun. Therefore,
                # one noun for a person is kept (no matter which), although the sentence does not contain it.
                possible += [option for option in different if is_person(option)][:1]
            # A reference to the options is kept, so that no other object can get the same id.
            known = self._possible[id(options)] = (options, possible)
        return known[1]

    def _may_say(self, option: Any) -> bool:
        forms = forms_of(option)
        return forms is None or any(map(self.holds, forms))


def words_of(nodes: Sequence[Node]) -> Iterator[str]:
    """The English words of the nodes, one string for each leaf."""
    for node in nodes:
        if isinstance(node, Branch):
            yield from words_of(node.english)
        elif node.english:
            yield node.english


def forms_of(option: Any) -> list[str] | None:
    """The English forms in which an option may appear in a sentence; None for options without words."""
    match option:
        case Leaf() | Branch():
            return [" ".join(words_of([option]))]
        case Phrase():
            return forms_of(option.node)
        case Noun():
            return [option.forms[0][0].english, option.forms[1][0].english]
        case Adjective():
            return [option.english]
        case Determiner():
            return [option.leaves[0][0].english]
        case Verb():
            leaves = (*option.finite, option.participle, option.infinitive)
            return [leaf.english for leaf in leaves]
        case Event():
            return forms_of(option.verb)
        case Modal():
            verb = option.finite[0].english
            return [verb, f"{verb}s", f"{verb}not"]
    return None


def is_person(option: Any) -> bool:
    return isinstance(option, Noun) and "person" in option.kinds


def tokens(sentence: str) -> list[str]:
    """The words and punctuation marks of a sentence."""
    return re.sub(r"([.,?])", r" \1 ", sentence).split()


def may_be_name(word: str) -> bool:
    """Whether a word may be a name: a capitalised word that is unknown, or spelt like an invented name.

    Some known words, such as `Garden` and `Women`, are spelt like invented names, so they may be names too.
    """
    if not (word[:1].isupper() and word.isalpha()):
        return False
    return is_invented(word) or not {word, word[0].lower() + word[1:]} & vocabulary()


def unknown_words(sentence: str) -> list[str]:
    """The words that are neither in the lexicon nor names."""
    known = vocabulary()
    return [
        word
        for word in tokens(sentence)
        if word not in ".,?"
        and word not in known
        and word[0].lower() + word[1:] not in known
        and not may_be_name(word)
    ]


@cache
def vocabulary() -> frozenset[str]:
    """Every English word of toyland; `twenty-one` is one word."""
    phrases = [_FUNCTION_WORDS, *(english_number(number) for number in range(100)), "hundred thousand"]
    for option in (*NOUNS, *ADJECTIVES, *_VERBS):
        phrases += forms_of(option) or []
    return frozenset(word for phrase in phrases for word in phrase.split())


def numbers(words: Sequence[str]) -> Iterator[int]:
    """Yield every number in the words, including `three` in `three hundred`; longer numbers come first."""
    words = [word.lower() for word in words]
    for length in range(len(words), 0, -1):
        for start in range(len(words) - length + 1):
            number = number_of(words[start : start + length])
            if number is not None:
                yield number


def number_of(words: Sequence[str]) -> int | None:
    """The number that these words spell, if any."""
    if words[0].split("-")[0] not in _NUMBER_WORDS:
        return None
    thousands = number = 0
    for word in words:
        if word == "hundred":
            number *= 100
        elif word == "thousand":
            thousands, number = number * 1000, 0
        elif word != "and":
            parts = word.split("-")
            if not all(part in _UNITS for part in parts):
                return None
            number += sum(_UNITS[part] for part in parts)
    number += thousands
    return number if number <= 999_999 and english_number(number) == " ".join(words) else None
