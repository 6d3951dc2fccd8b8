"""Invented names of people and towns. Tens of millions are possible, with two or three syllables each."""

import re
from collections.abc import Callable, Sequence

_CONSONANTS = [*"bdfghjklmnprstvwz"]
_ONSETS = [*_CONSONANTS, "br", "dr", "fl", "gr", "kl", "kr", "pl", "tr", "st"]
_VOWELS = [*"aeiou"]
_CODAS = ["", "", "", *"lmnrs"]
_ENDINGS = ["a", "o", "i", "en", "el", "us", "is", "an", "or"]


# The endings of the names in the held-out split `new_names`. None of them shares its last letter with an
# ending in `_ENDINGS`, so no name can be made from both lists.
_NEW_ENDINGS = ["u", "e", "ot", "ek", "im", "ath", "ip", "und"]


def invented_name(random: Callable[[], float], endings: Sequence[str] = _ENDINGS) -> str:
    """A capitalised name such as Velmora; `random` yields floats in [0, 1)."""
    parts: list[str] = []
    for _ in range(1 + (random() < 0.6)):
        parts.append(_ONSETS[int(random() * len(_ONSETS))])
        parts.append(_VOWELS[int(random() * len(_VOWELS))])
        parts.append(_CODAS[int(random() * len(_CODAS))])
    parts.append(_CONSONANTS[int(random() * len(_CONSONANTS))])
    parts.append(endings[int(random() * len(endings))])
    return "".join(parts).capitalize()


def new_name(random: Callable[[], float]) -> str:
    """A name of the split `new_names`, such as Velmoru."""
    return invented_name(random, _NEW_ENDINGS)


def is_invented(word: str) -> bool:
    """Whether `invented_name` or `new_name` could have returned this word."""
    return _SPELLING.fullmatch(word.lower()) is not None


def _any(parts: Sequence[str]) -> str:
    return f"({'|'.join(parts)})"


_SYLLABLE = _any(_ONSETS) + _any(_VOWELS) + _any(_CODAS)
_SPELLING = re.compile(f"({_SYLLABLE}){{1,2}}{_any(_CONSONANTS)}{_any([*_ENDINGS, *_NEW_ENDINGS])}")
