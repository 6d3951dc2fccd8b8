"""What a search may be asked to do: each processor changes the log-probabilities of a step, and they combine.

A processor takes the log-probabilities of the next token, the tokens so far (without prompt and BOS) and
which row of the batch each hypothesis continues; it may write into the log-probabilities that it is given, and
returns those that the search goes on with.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class MinLength:
    """No EOS before an output has `min_length` tokens with it."""

    min_length: int
    eos_id: int

    def __call__(
        self,
        log_probs: Float[Tensor, "hypotheses vocabulary"],
        tokens: Int[Tensor, "hypotheses length"],
        rows: Int[Tensor, " hypotheses"],  # noqa: ARG002
    ) -> Float[Tensor, "hypotheses vocabulary"]:
        if tokens.shape[1] + 1 < self.min_length:
            log_probs[:, self.eos_id] = -torch.inf
        return log_probs
