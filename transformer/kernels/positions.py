"""Looking up positional encodings that are a fixed function, instead of computing them at each step.

Readers of the paper can skip this file. `SinusoidalEncoding.waves` in `model/positions.py` is the plain
version; `tests/test_positions.py` checks that the two agree.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

LARGEST = 4096
"""The most positions in a table: 8 MiB for a d_model of 512. Larger ones are computed each time."""
SMALLEST = 64


def below(positions: Int[Tensor, "*shape"], limit: int) -> Int[Tensor, "*shape"]:
    """The same tensor, with a note that all its values are less than `limit`.

    A table has to be large enough, but reading the positions would make the program wait for a GPU. Whoever
    makes them knows how large they are. The note is an attribute of this one tensor, which must not be
    changed in place: what is computed from it has no note, and is never looked up by mistake.
    """
    # a compiler computes the encoding in one kernel, and what is traced has to hold for any length
    is_tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    if not (is_tracing or torch.compiler.is_compiling()):
        positions.limit = limit  # type: ignore[attr-defined]
    return positions


class PositionTable:
    """The vectors of the first positions, for the device where they were last needed.

    Not a buffer of a module, so that state dicts, copies and pickles do not hold it, and that a model without
    memory (on the meta device) gets it when it has memory.
    """

    def __init__(self) -> None:
        self.rows: Tensor | None = None

    def __reduce__(self) -> tuple[type["PositionTable"], tuple[()]]:
        return PositionTable, ()

    def look_up(
        self, compute: Callable[[Tensor], Tensor], positions: Int[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape d_model"]:
        """`compute(positions)`: from the table if a limit of the positions is noted, and small enough."""
        if torch.compiler.is_compiling():
            return compute(positions)
        limit: int | None = getattr(positions, "limit", None)
        if limit is None or limit > LARGEST:
            return compute(positions)
        rows = self.rows
        if rows is None or len(rows) < limit or not is_alike(rows, positions):
            size = max(SMALLEST, 1 << (limit - 1).bit_length())
            with torch.inference_mode(False), torch.no_grad():
                rows = self.rows = compute(torch.arange(size, device=positions.device))
        return F.embedding(positions, rows)


def is_alike(rows: Tensor, positions: Tensor) -> bool:
    """Whether the table is for this device, this kind of tensor (real or fake) and the default dtype."""
    is_there = rows.device == positions.device and type(rows) is type(positions)
    return is_there and rows.dtype == torch.get_default_dtype()
