"""Padding keeps every row, and batches within a token budget contain every row once."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from transformer.data.padding import right_padded
from transformer.data.token_budget import cut_by_tokens, longest_first

LENGTHS = st.lists(st.integers(1, 20), min_size=1, max_size=30)


@given(st.lists(st.lists(st.integers(1, 9), max_size=6), min_size=1).filter(any), st.integers(-1, 0))
def test_rows_come_back_without_their_pads(rows, pad_id):
    tokens = right_padded(rows, pad_id)
    assert tokens.shape == (len(rows), max(map(len, rows)))
    assert [[token for token in row if token != pad_id] for row in tokens.tolist()] == rows
    assert all(set(row[len(ids) :]) <= {pad_id} for row, ids in zip(tokens.tolist(), rows, strict=True))


def greedy(order, lengths, budget, max_rows):
    """`cut_by_tokens`, row by row: the next row joins the batch if the padded batch still fits the budget."""
    batches = []
    for row in order:
        grown = [*batches[-1], row] if batches else []
        size = len(grown) * max((lengths[member] for member in grown), default=0)
        if grown and size <= budget and len(grown) <= (max_rows or len(grown)):
            batches[-1] = grown
        else:
            batches.append([row])
    return batches


@given(LENGTHS, st.integers(1, 60), st.none() | st.integers(1, 5), st.sampled_from([1, -1]))
def test_a_batch_is_as_large_as_its_budget_allows(lengths, budget, max_rows, direction):
    order = np.argsort(direction * np.array(lengths), kind="stable")
    batches = cut_by_tokens(order, np.array(lengths), budget, max_rows=max_rows)
    assert [batch.tolist() for batch in batches] == greedy(order.tolist(), lengths, budget, max_rows)


@given(LENGTHS, st.integers(1, 60))
def test_the_longest_rows_come_first(lengths, budget):
    rows = [row for batch in longest_first(lengths, budget) for row in batch]
    assert rows == sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
