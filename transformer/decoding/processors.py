"""Constraints on the output of a search: processors that change the log-probabilities of a step.

Each class is a `Processor` as defined in `decoding/search.py`, and processors can be combined. They only
forbid tokens and do not renormalise, so the score of an output is still the model's log-probability.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from transformer.data.padding import right_padded
from transformer.decoding.search import Processor

LogProbs = Float[Tensor, "hypotheses vocabulary"]
Tokens = Int[Tensor, "hypotheses length"]
Rows = Int[Tensor, " hypotheses"]


@dataclass(frozen=True)
class MinLength:
    """Forbid outputs of fewer than `min_length` tokens; EOS counts as a token, as in `max_length`."""

    min_length: int
    eos_id: int

    def __call__(self, log_probs: LogProbs, tokens: Tokens, rows: Rows) -> LogProbs:  # noqa: ARG002
        if tokens.shape[1] + 1 < self.min_length:
            log_probs[:, self.eos_id] = -torch.inf
        return log_probs


@dataclass(frozen=True)
class NoRepeat:
    """Forbid every token that would make a sequence of `size` tokens occur twice in the output."""

    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"no-repeat size is {self.size}; it must be at least 1")

    def __call__(self, log_probs: LogProbs, tokens: Tokens, rows: Rows) -> LogProbs:  # noqa: ARG002
        if tokens.shape[1] < self.size:
            return log_probs
        windows = tokens.unfold(1, self.size, 1)  # (n, places, size)
        newest = tokens[:, None, tokens.shape[1] - self.size + 1 :]
        would_repeat = (windows[:, :, :-1] == newest).all(dim=2)
        penalties = torch.zeros_like(would_repeat, dtype=log_probs.dtype)
        penalties.masked_fill_(would_repeat, -torch.inf)
        return log_probs.scatter_add(1, windows[:, :, -1], penalties)


class ForcedPrefix:
    """Force each row's output to start with its own prefix, which may be empty.

    Within the prefix no other processor applies; after the prefix, the processors in `then` apply.
    """

    def __init__(self, prefixes: Sequence[Sequence[int]], then: Sequence[Processor] = ()) -> None:
        self.tokens = right_padded(prefixes, pad_id=-1)
        self.then = then

    def __call__(self, log_probs: LogProbs, tokens: Tokens, rows: Rows) -> LogProbs:
        place = tokens.shape[1]
        changed = log_probs.clone()
        for processor in self.then:
            changed = processor(changed, tokens, rows)
        if place >= self.tokens.shape[1]:
            return changed
        self.tokens = self.tokens.to(rows.device)  # stored, because each copy synchronizes with the GPU
        forced = self.tokens[rows, place][:, None]  # -1 after the end of a prefix
        token = forced.clamp(min=0)
        alone = torch.full_like(log_probs, -torch.inf).scatter(1, token, log_probs.gather(1, token))
        return torch.where(forced >= 0, alone, changed)


@dataclass(frozen=True)
class AtPlaces:
    """Adapts a processor that was made for a whole batch to a search over only some rows of the batch.

    Row i of the search is row `places[i]` of the whole batch.
    """

    places: Int[Tensor, " rows"]
    processor: Processor

    def __call__(self, log_probs: Tensor, tokens: Tensor, rows: Tensor) -> Tensor:
        return self.processor(log_probs, tokens, self.places[rows])
