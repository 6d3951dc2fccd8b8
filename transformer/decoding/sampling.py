"""Temperature, top-k and nucleus (top-p) sampling, for `generate`."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Sampler:
    """Samples from softmax(logits / temperature).

    The distribution is first restricted to the `top_k` most probable tokens, then to the smallest set of
    tokens with total probability `top_p`.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}; it must be greater than 0")
        if self.temperature == math.inf:
            raise ValueError(f"temperature is {self.temperature}; it must be finite")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}; it must be at least 1")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; it must be greater than 0 and at most 1")

    def __call__(self, logits: Float[Tensor, "rows vocabulary"]) -> Int[Tensor, " rows"]:
        probabilities = self.probabilities(logits)
        # This is like `torch.multinomial`, but without its checks, which would synchronize with the GPU.
        # If all w_i are exponential with rate 1, token i has the smallest w_i / p_i with probability p_i.
        waits = torch.empty_like(probabilities).exponential_(generator=self.generator)
        return (probabilities / waits).argmax(dim=-1)

    def probabilities(self, logits: Float[Tensor, "rows vocabulary"]) -> Float[Tensor, "rows vocabulary"]:
        """The distribution that tokens are sampled from.

        Raises `ValueError` if a row has no possible token.
        """
        highest = logits.float().amax(dim=-1, keepdim=True)
        has_nan, has_nothing = torch.stack((highest.isnan().any(), (highest == -torch.inf).any())).tolist()
        if has_nan:
            raise ValueError("no token can be drawn: the logits contain NaN, or are all -inf or +inf")
        if has_nothing:
            raise ValueError("no token can be drawn: every token of the vocabulary is forbidden")
        temperature = max(self.temperature, torch.finfo(torch.float32).tiny)  # a smaller value may round to 0
        # The difference is 0 for the best token and negative for the others, so dividing cannot give +inf.
        probabilities = ((logits - highest) / temperature).softmax(dim=-1)
        best, tokens = probabilities.sort(dim=-1, descending=True)
        if self.top_k is not None:
            best[:, self.top_k :] = 0
        if self.top_p is not None:
            best = best / best.sum(dim=-1, keepdim=True)
            # a token is kept if the probabilities of all more probable tokens sum to less than top_p
            before = best.cumsum(dim=-1) - best
            dropped = before >= self.top_p
            dropped[:, 0] = False  # keep the best token, even if a tiny top_p rounds to 0 in float32
            best = best.masked_fill(dropped, 0)
        kept = torch.zeros_like(probabilities).scatter(1, tokens, best)
        return kept / kept.sum(dim=-1, keepdim=True)
