"""Invented names of people and towns: two or three syllables, from a space of tens of millions."""

from collections.abc import Callable

_CONSONANTS = [*"bdfghjklmnprstvwz"]
_ONSETS = [*_CONSONANTS, "br", "dr", "fl", "gr", "kl", "kr", "pl", "tr", "st"]
_VOWELS = [*"aeiou"]
_CODAS = ["", "", "", *"lmnrs"]
_ENDINGS = ["a", "o", "i", "en", "el", "us", "is", "an", "or"]


def invented_name(random: Callable[[], float]) -> str:
    """A capitalised name such as Velmora; `random` yields floats in [0, 1)."""
    parts: list[str] = []
    for _ in range(1 + (random() < 0.6)):
        parts.append(_ONSETS[int(random() * len(_ONSETS))])
        parts.append(_VOWELS[int(random() * len(_VOWELS))])
        parts.append(_CODAS[int(random() * len(_CODAS))])
    parts.append(_CONSONANTS[int(random() * len(_CONSONANTS))])
    parts.append(_ENDINGS[int(random() * len(_ENDINGS))])
    return "".join(parts).capitalize()
