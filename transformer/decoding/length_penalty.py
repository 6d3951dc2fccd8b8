"""The length penalty of beam search (§6.1)."""

import math
from typing import Any

SMALLEST_PENALTY = 1e-30
"""Length penalties from this value to 1 / `SMALLEST_PENALTY` are allowed. Log-probabilities divided by either
limit still have full precision in float32."""


def length_penalty(length: Any, alpha: float) -> Any:
    """((5 + length) / 6) ** alpha, for a number or a tensor; `length` counts EOS."""
    return ((5 + length) / 6) ** alpha


def require_usable_alpha(alpha: float, longest: int) -> None:
    """Raise `ValueError` if scores divided by the length penalty would overflow or underflow in float32."""
    try:
        penalty = length_penalty(longest + 1, alpha)
    except OverflowError:
        penalty = math.inf
    if not SMALLEST_PENALTY <= penalty <= 1 / SMALLEST_PENALTY:
        raise ValueError(
            f"alpha is {alpha}: float32 cannot hold the length penalty of {longest} tokens; "
            "use a value nearer to 0 (the paper's is 0.6)"
        )
