"""Compares pairs of tensors that should be equal, and finds the largest difference."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor


class Tolerance(NamedTuple):
    """The allowed difference between two float32 computations: absolute + relative × |expected|."""

    absolute: float = 1e-4
    relative: float = 1e-5


class Comparison(NamedTuple):
    """Two tensors that should be equal; `is_exact` allows no difference at all."""

    where: str
    actual: Tensor
    expected: Tensor
    is_exact: bool = False


class Difference(NamedTuple):
    """The absolute difference `error` between two entries, and the largest difference that is `allowed`."""

    error: float
    allowed: float
    where: str

    @property
    def is_allowed(self) -> bool:
        return self.error <= self.allowed


def largest_difference(comparisons: Iterable[Comparison], tolerance: Tolerance) -> Difference:
    """Return the largest difference that is not allowed, or the largest of all if all are allowed."""
    differences = [largest_in(comparison, tolerance) for comparison in comparisons]
    nothing = Difference(0.0, tolerance.absolute, "nothing to compare")
    return max(differences, key=lambda found: (not found.is_allowed, found.error), default=nothing)


def largest_in(comparison: Comparison, tolerance: Tolerance) -> Difference:
    where = comparison.where
    actual, expected = (tensor.detach().cpu().double() for tensor in comparison[1:3])
    if actual.shape != expected.shape:
        shapes = f"shape {tuple(actual.shape)} in place of {tuple(expected.shape)}"
        return Difference(torch.inf, 0.0, f"{where}: {shapes}")
    if actual.numel() == 0:
        return Difference(0.0, 0.0, where)
    # Equal infinities have error 0, because both sides may forbid a token with the logit -inf. The error of
    # NaN is inf.
    error = (actual - expected).abs().nan_to_num(nan=torch.inf).masked_fill(actual == expected, 0.0)
    size = expected.abs().nan_to_num(nan=0.0, posinf=0.0)
    allowed = (
        torch.zeros_like(size) if comparison.is_exact else tolerance.absolute + tolerance.relative * size
    )
    candidates = error.masked_fill(error <= allowed, -1.0) if (error > allowed).any() else error
    place = int(candidates.argmax())
    index = [int(i) for i in torch.unravel_index(torch.tensor(place), error.shape)]
    return Difference(float(error.flatten()[place]), float(allowed.flatten()[place]), f"{where}, at {index}")
