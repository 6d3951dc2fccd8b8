"""The guard against updates that are not finite: when it reads what it has decided, and when it gives up."""

import pytest
import torch

from transformer.training.distributed import ALONE
from transformer.training.finite import DivergedError, FiniteGuard
from transformer.training.updates import Update


def decide(guard, *losses, first=1):
    return [
        float(guard.is_finite(step, Update([], {}), torch.tensor(loss), torch.tensor(1.0)))
        for step, loss in enumerate(losses, first)
    ]


def cause(step, _):
    return f"the cause of {step}"


def test_the_newest_decision_can_be_left_for_later():
    guard = FiniteGuard(5, ALONE)
    assert decide(guard, 1.0, torch.nan, torch.inf, 1.0, torch.nan) == [1, 0, 0, 1, 0]
    assert guard.read(cause, but_newest=1) == [2, 3]
    assert guard.read(cause, but_newest=1) == []
    assert guard.read(cause) == [5]
    assert guard.read(cause) == []


def test_it_is_full_when_the_unread_ones_may_be_too_many():
    guard = FiniteGuard(2, ALONE)
    decide(guard, 1.0, 1.0)
    assert not guard.is_full
    decide(guard, 1.0)
    assert guard.is_full
    guard.read(cause, but_newest=1)
    assert not guard.is_full


def test_too_many_in_a_row_end_the_training_also_across_reads():
    guard = FiniteGuard(2, ALONE)
    decide(guard, torch.nan, torch.nan, torch.nan)
    assert guard.read(cause, but_newest=1) == [1, 2]
    with pytest.raises(DivergedError, match=r"^update 3: .* The first such value is in the cause of 3"):
        guard.read(cause)
