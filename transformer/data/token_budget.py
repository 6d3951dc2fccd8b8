"""Batches of rows of similar length, whose padded size stays within a token budget."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def cut_by_tokens(
    order: NDArray[np.int64], lengths: NDArray[Any], budget: int, *, max_rows: int | None = None
) -> list[NDArray[np.int64]]:
    """Cut `order`, row numbers sorted by length, into batches as large as the budget allows.

    In a batch, the number of rows times the length of the longest row is at most `budget`; a row longer than
    `budget` is a batch by itself. A batch has at most `max_rows` rows.
    """
    batches = []
    start = 0
    while start < len(order):
        most = max(1, budget // int(lengths[order[start]]))
        window = order[start : start + (most if max_rows is None else min(most, max_rows))]
        sizes = np.maximum.accumulate(lengths[window]) * np.arange(1, len(window) + 1)
        end = start + max(1, int(sizes.searchsorted(budget, side="right")))
        batches.append(order[start:end])
        start = end
    return batches


def longest_first(lengths: Sequence[int], budget: int, *, max_rows: int | None = None) -> list[list[int]]:
    """Group rows of similar length into batches of row numbers, the longest rows first.

    With this order, a batch that does not fit into memory fails at the start, not after many others.
    """
    widths = np.array(lengths, dtype=np.int64)
    order = np.argsort(-widths, kind="stable")
    return [batch.tolist() for batch in cut_by_tokens(order, widths, budget, max_rows=max_rows)]
