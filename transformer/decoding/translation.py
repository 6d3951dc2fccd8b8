"""One output of a translator, and lists of them without repetitions."""

import math
from collections.abc import Sequence
from typing import NamedTuple


class Translation(NamedTuple):
    """One output: its text, its log-probability / length penalty, and its token ids without EOS."""

    text: str
    score: float
    tokens: list[int]


MISSING = Translation("", -math.inf, [])
"""In a list, an output that the search did not find."""


def is_missing(output: Translation) -> bool:
    return output.score == -math.inf


def distinct_texts(outputs: Sequence[Translation], n_best: int) -> list[Translation]:
    """The first `n_best` outputs with different texts, or fewer, of which none scores above the one before.

    `outputs` is one list after another, each with its best first, so that the better one stays.
    """
    by_text: dict[str, Translation] = {}
    lowest = math.inf
    for output in outputs:
        if len(by_text) < n_best and output.text not in by_text and -math.inf < output.score <= lowest:
            by_text[output.text] = output
            lowest = output.score
    return list(by_text.values())


def filled(outputs: Sequence[Translation], n_best: int) -> list[Translation]:
    """The list with `MISSING` for each of its `n_best` outputs that it lacks."""
    return [*outputs, *[MISSING] * (n_best - len(outputs))]
