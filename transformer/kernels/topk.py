"""Finds the most probable tokens of many hypotheses block by block, which is faster on a CPU.

torch's `topk` and `max` look at one number after another. Here, a vectorised pass finds the maximum of each
block of the vocabulary. The `count` largest numbers are then in the `count` blocks with the largest maxima,
or in the rest that fills no block, so the slow operators look only at these. `best_first` in
`decoding/search.py` calls this version for large vocabularies and has the plain one for the others;
`tests/test_topk.py` checks that the two agree, except for the choice among ties.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from transformer.kernels.attention import is_recorded

BLOCK = 64
LARGE = 2**13
"""For smaller vocabularies, the plain version is at least as fast (`benchmarks/topk.py`).

The number of rows does not decide: the two versions may take other tokens among ties, and a sentence's
translation should not depend on the other sentences of its batch.
"""


def is_faster_by_blocks(log_probs: Float[Tensor, "rows vocabulary"], count: int) -> bool:
    """Whether `best_first_by_blocks` can be used for these numbers, and is faster than the plain version."""
    return (
        log_probs.is_cpu
        and log_probs.shape[1] >= LARGE
        and 4 * count <= log_probs.shape[1] // BLOCK  # else most blocks would be looked at again
        and not is_recorded()
    )


def best_first_by_blocks(
    log_probs: Float[Tensor, "rows vocabulary"], count: int
) -> tuple[Float[Tensor, "rows {count}"], Int[Tensor, "rows {count}"]]:
    """Return the `count` largest numbers of each row and their tokens, sorted.

    If several tokens tie for first, the one with the lowest id is first.
    """
    blocks = log_probs.shape[1] // BLOCK
    maxima = log_probs[:, : blocks * BLOCK].reshape(-1, blocks, BLOCK).amax(dim=2)
    chosen = maxima.topk(count, dim=1, sorted=False).indices
    tokens = tokens_of(chosen, log_probs)
    best, places = log_probs.gather(1, tokens).topk(count, dim=1)
    tokens = tokens.gather(1, places)

    candidates = tokens_of(maxima.max(dim=1, keepdim=True).indices, log_probs)  # in ascending order
    place = log_probs.gather(1, candidates).max(dim=1, keepdim=True).indices
    return best, with_first(tokens, candidates.gather(1, place))


def with_first(tokens: Int[Tensor, "rows count"], first: Int[Tensor, "rows 1"]) -> Int[Tensor, "rows count"]:
    """Put `first` at the head of each row; if it was elsewhere in the row, the old head takes its place."""
    tokens = torch.where(tokens == first, tokens[:, :1], tokens)
    return torch.cat((first, tokens[:, 1:]), dim=1)


def tokens_of(
    chosen: Int[Tensor, "rows chosen"], log_probs: Float[Tensor, "rows vocabulary"]
) -> Int[Tensor, "rows tokens"]:
    """Return the ids of the tokens in the chosen blocks of each row, then of those after the last block."""
    size = log_probs.shape[1]
    inside = chosen[:, :, None] * BLOCK + torch.arange(BLOCK, device=chosen.device)
    rest = torch.arange(size - size % BLOCK, size, device=chosen.device)
    return torch.cat((inside.flatten(1), rest.expand(len(chosen), -1)), dim=1)
