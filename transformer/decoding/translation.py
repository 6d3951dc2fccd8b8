"""One output of a search or a translator, and n-best lists without duplicates."""

import math
from collections.abc import Sequence
from typing import NamedTuple


class Output(NamedTuple):
    """One hypothesis of a search: its ids, with EOS if it is complete, and its score as defined in §6.1."""

    ids: list[int]
    score: float


class Translation(NamedTuple):
    """One output: its text, its log-probability / length penalty, and its token ids without EOS."""

    text: str
    score: float
    tokens: list[int]


MISSING = Translation("", -math.inf, [])
"""The placeholder that pads an n-best list if the search finds too few outputs."""


def is_missing(output: Translation) -> bool:
    return output.score == -math.inf


def distinct_texts(outputs: Sequence[Translation], n_best: int) -> list[Translation]:
    """Choose the first `n_best` outputs with distinct text, best first, or fewer if there are not enough.

    `outputs` contains the results of several searches, one search after another, each best first. An output
    with a higher score than the last chosen output is skipped, because its place would be before results of
    an earlier search, and the places of those results must not change.
    """
    by_text: dict[str, Translation] = {}
    lowest = math.inf
    for output in outputs:
        if len(by_text) < n_best and output.text not in by_text and -math.inf < output.score <= lowest:
            by_text[output.text] = output
            lowest = output.score
    return list(by_text.values())


def filled(outputs: Sequence[Translation], n_best: int) -> list[Translation]:
    """Pad the outputs with `MISSING` to `n_best` entries."""
    return [*outputs, *[MISSING] * (n_best - len(outputs))]
