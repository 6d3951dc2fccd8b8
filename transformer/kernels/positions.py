"""A lookup table for positional encodings without parameters, so they are not computed again at each step.

Readers of the paper can skip this file. `SinusoidalEncoding.waves` in `model/positions.py` is the plain
version; `tests/test_positions.py` checks that the two agree.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

LARGEST = 4096
"""The largest number of positions in a table. With a d_model of 512, such a table takes 8 MiB.

The encodings of larger positions are computed each time.
"""
SMALLEST = 64


def below(positions: Int[Tensor, "*shape"], limit: int) -> Int[Tensor, "*shape"]:
    """Return the same tensor with an attribute `limit`, which promises that all positions are below `limit`.

    A table must have a row for each position, but reading the largest position would force a synchronization
    with a GPU. The function that makes the positions knows their limit without reading them. The tensor must
    not be changed in place. Tensors computed from `positions` lack the attribute, and their encodings are
    computed without the table, so a wrong limit is never used.
    """
    # No limit is needed in compiled code, which computes the encoding in one kernel, nor in a traced graph,
    # which must be correct for any length: neither uses a table.
    is_tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    if not (is_tracing or torch.compiler.is_compiling()):
        positions.limit = limit  # type: ignore[attr-defined]
    return positions


class PositionTable:
    """Keeps the encodings of the first positions, on the device where they were last needed.

    The table is not a buffer of a module, so state dicts, copies and pickles do not contain it. A model that
    moves from the meta device to a real device computes a new table on the real device.
    """

    def __init__(self) -> None:
        self.rows: Tensor | None = None

    def __reduce__(self) -> tuple[type["PositionTable"], tuple[()]]:
        return PositionTable, ()

    def look_up(
        self, compute: Callable[[Tensor], Tensor], positions: Int[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape d_model"]:
        """Return `compute(positions)`, from the table if `positions` has a `limit` of at most `LARGEST`."""
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
    """Whether the table has the default dtype, and the device and kind (real or fake) of `positions`."""
    is_there = rows.device == positions.device and type(rows) is type(positions)
    return is_there and rows.dtype == torch.get_default_dtype()
