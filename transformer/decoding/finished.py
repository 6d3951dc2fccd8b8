"""The complete hypotheses that a beam search has found so far."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from transformer.decoding.length_penalty import length_penalty
from transformer.decoding.search import Hypotheses


class Complete(NamedTuple):
    """Hypotheses of equal length; a score of -inf marks a hypothesis that is not complete."""

    tokens: Int[Tensor, "sentences n length"]
    scores: Float[Tensor, "sentences n"]


class Ranking(NamedTuple):
    """The best complete hypotheses of each sentence, earlier and new ones, with normalised scores."""

    scores: Float[Tensor, "sentences n"]
    order: Int[Tensor, "sentences n"]
    """The index of each ranked hypothesis in the list of all earlier hypotheses followed by all new ones."""


class Finished:
    """The best complete hypotheses of each sentence of the batch, with normalised scores."""

    def __init__(self, src_tokens: Tensor, size: int, longest: int, pad_id: int, alpha: float) -> None:
        shape = (len(src_tokens), size)
        self.tokens = src_tokens.new_full((*shape, longest), pad_id)
        self.scores = torch.full(shape, -torch.inf, device=src_tokens.device)
        self.lengths = src_tokens.new_zeros(shape)
        self.pad_id = pad_id
        self.alpha = alpha

    def rank(self, rows: Int[Tensor, " sentences"], new: Complete) -> Ranking:
        """Rank the earlier hypotheses of these sentences together with `new`, without storing the result."""
        normalised = new.scores / length_penalty(new.tokens.shape[2], self.alpha)
        ordered = torch.cat((self.scores[rows], normalised), dim=1).sort(dim=1, descending=True, stable=True)
        size = self.scores.shape[1]
        return Ranking(ordered.values[:, :size], ordered.indices[:, :size])

    def keep(self, rows: Int[Tensor, " sentences"], new: Complete, ranking: Ranking) -> None:
        """Store the result of `rank`."""
        longest, length = self.tokens.shape[2], new.tokens.shape[2]
        padded = pad(new.tokens, (0, longest - length), value=self.pad_id)
        lengths = torch.full(new.scores.shape, length, device=rows.device)
        self.tokens[rows] = take(torch.cat((self.tokens[rows], padded), dim=1), ranking.order)
        self.lengths[rows] = torch.cat((self.lengths[rows], lengths), dim=1).gather(1, ranking.order)
        self.scores[rows] = ranking.scores

    def hypotheses(self, rows: Int[Tensor, " sentences"]) -> Hypotheses:
        """All stored hypotheses of these sentences; missing hypotheses have length 0 and are all padding."""
        tokens, scores, lengths = self.tokens[rows], self.scores[rows], self.lengths[rows]
        is_missing = scores == -torch.inf
        tokens = tokens.masked_fill(is_missing[:, :, None], self.pad_id)
        return Hypotheses(tokens, scores, lengths.masked_fill(is_missing, 0))

    def best(self, n_best: int) -> Hypotheses:
        """The best `n_best` hypotheses of each sentence, padded to the longest hypothesis."""
        found = self.hypotheses(torch.arange(len(self.scores), device=self.scores.device))
        tokens, scores, lengths = (part[:, :n_best] for part in found)
        return Hypotheses(tokens[:, :, : int(lengths.max())], scores, lengths)


def take(
    tokens: Int[Tensor, "sentences from length"], places: Int[Tensor, "sentences to"]
) -> Int[Tensor, "sentences to length"]:
    """For each sentence, select the hypotheses at the indices `places`."""
    return tokens.gather(1, places[:, :, None].expand(-1, -1, tokens.shape[2]))
