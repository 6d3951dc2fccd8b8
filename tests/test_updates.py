"""Batches are prefetched in threads: the order is the same, errors are passed on, and no thread is left."""

import threading
from contextlib import closing
from itertools import islice

import numpy as np
import pytest
import torch

from transformer.data.running_text import BlockBatches
from transformer.training.distributed import ALONE
from transformer.training.updates import AHEAD, updates

CPU = torch.device("cpu")


class Blocks(BlockBatches):
    """Blocks of four tokens, five batches per epoch; records which thread computes each epoch's order."""

    def __init__(self) -> None:
        self.planned: list[tuple[int, str]] = []
        self.fetched = 0
        super().__init__(
            np.arange(4, 45, dtype=np.int32), context=4, tokens_per_batch=8, seed=1, shuffle=True
        )

    def epoch(self, number):
        self.planned.append((number, threading.current_thread().name))
        return super().epoch(number)

    def fetch(self, rows):
        self.fetched += 1
        return super().fetch(rows)


def others() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith(("batches", "epochs"))]


@pytest.mark.parametrize("accumulate", [1, 2, 3, 12])
def test_prefetching_changes_neither_the_order_nor_the_positions(accumulate):
    expected = Blocks()
    with closing(updates(Blocks(), accumulate, ALONE, CPU)) as source:
        for update in islice(source, 12):
            rows = expected.take(accumulate)
            assert [batch.tokens.tolist() for batch in update.batches] == [
                expected.fetch(part).tokens.tolist() for part in rows
            ]
            assert update.position == expected.state_dict()
    assert others() == []


def test_the_order_of_an_epoch_is_made_in_the_epoch_before():
    batches = Blocks()
    with batches.planning_ahead():
        batches.take(len(batches.plan) // 2)
        assert batches.following is not None
        planned = batches.following.result()
        assert batches.planned[-1] == (1, "epochs_0")
        rest = batches.take(len(batches.plan))[-1]
        assert any(rest is rows for rows in planned)
    batches.take(20)  # without the thread
    assert batches.planned[-1][1] == "MainThread"


def test_a_position_that_is_loaded_discards_the_order_made_ahead():
    batches = Blocks()
    with batches.planning_ahead():
        batches.take(4)
        batches.load_state_dict({"epoch": 7, "next_batch": 0})
        assert [rows.tolist() for rows in batches.take(3)] == [
            rows.tolist() for rows in Blocks().epoch(7)[:3]
        ]


@pytest.mark.parametrize("where", ["fetch", "epoch"])
def test_an_error_of_a_thread_arrives_when_its_update_is_due(where):
    class Broken(Blocks):
        def fetch(self, rows):
            if where == "fetch" and self.epoch_number == 1:
                raise OSError("the disk is gone")
            return super().fetch(rows)

        def epoch(self, number):
            if where == "epoch" and number == 1:
                raise OSError("the disk is gone")
            return super().epoch(number)

    batches = Broken()
    with closing(updates(batches, 1, ALONE, CPU)) as source:
        assert len(list(islice(source, len(batches.plan)))) == len(batches.plan)
        with pytest.raises(OSError, match="the disk is gone"):
            next(source)
    assert others() == []


def test_nothing_is_read_further_ahead_than_promised():
    batches = Blocks()
    with closing(updates(batches, 1, ALONE, CPU)) as source:
        next(source)
    assert batches.fetched <= 1 + AHEAD
    assert others() == []
