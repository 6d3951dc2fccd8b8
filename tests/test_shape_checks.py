"""The quick checks of shapes accept and refuse what jaxtyping's own accept and refuse."""

from itertools import product

import jaxtyping
import pytest
import shape_checks
import torch
from jaxtyping import Float, Int
from torch import Tensor

HINTS = [Float[Tensor, shape] for shape in (" a", "a 2", "#a b", "*c a", "{size} a")]
HINTS += [Float[Tensor, "a b"] | None, Int[Tensor, " a"]]
VALUES = [None, torch.zeros(2, dtype=torch.int64), *map(torch.zeros, [(1,), (2,), (1, 2), (2, 3)])]


def refused(decorate) -> list[bool]:
    """Whether a function of two tensors, decorated, refuses them, for all pairs of hints and of values."""
    found = []
    for hints in product(HINTS, repeat=2):

        def function(x, y, size):  # noqa: ARG001  (a hint names the size)
            return y

        function.__annotations__ = {"x": hints[0], "y": hints[1], "return": hints[1]}
        call = decorate(function)
        for values in product(VALUES, repeat=2):
            try:
                call(*values, 2)
                found.append(False)
            except (jaxtyping.TypeCheckError, jaxtyping.AnnotationError):
                found.append(True)
    return found


def test_a_call_is_refused_as_by_jaxtyping_itself():
    ours = refused(shape_checks.checked(typechecker=None))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(jaxtyping.AbstractArray), "__instancecheck__", shape_checks.check)
        theirs = refused(
            lambda function: shape_checks.jaxtyped(shape_checks.beartyped(function), typechecker=None)
        )
    assert ours == theirs
    assert True in theirs
    assert False in theirs
