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
    """The first `n_best` with different texts: `outputs` come best first, so the better one of each stays.

    Where there are fewer, `MISSING` fills the list.
    """
    by_text: dict[str, Translation] = {}
    for output in outputs:
        if not is_missing(output):
            by_text.setdefault(output.text, output)
    found = list(by_text.values())[:n_best]
    return found + [MISSING] * (n_best - len(found))
