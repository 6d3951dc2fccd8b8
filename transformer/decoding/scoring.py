"""Scoring given translations by forced decoding."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from transformer.data.token_budget import longest_first
from transformer.data.tokenizers.protocol import EOS_ID
from transformer.decoding.inference import padded_rows, without_gradients


class Score(NamedTuple):
    """log P(target | source) to base e, including EOS, and the log-probability of each target token."""

    total: float
    tokens: list[float]


@torch.no_grad()
def score_pairs(
    model: nn.Module, sources: Sequence[list[int]], targets: Sequence[list[int]], *, batch_tokens: int
) -> list[Score]:
    """Score each pair; `sources` end with EOS, `targets` have neither BOS nor EOS."""
    scores = [Score(0.0, [])] * len(sources)
    for rows in longest_first(pair_lengths(sources, targets), batch_tokens):
        ended = [[*targets[row], EOS_ID] for row in rows]
        src_tokens, wanted = padded_rows(model, [sources[row] for row in rows]), padded_rows(model, ended)
        with without_gradients(model):
            log_probs = forced_log_probs(model, src_tokens, wanted).tolist()
        for row, target, values in zip(rows, ended, log_probs, strict=True):
            values = values[: len(target)]
            scores[row] = Score(sum(values), values)
    return scores


def forced_log_probs(model: nn.Module, src_tokens: Tensor, tgt_tokens: Tensor) -> Tensor:
    """(B, T): the log-probability of each target token, given the tokens before it, without BOS."""
    log_probs = model(src_tokens, with_bos(model, tgt_tokens)).float().log_softmax(dim=-1)
    return log_probs.gather(2, tgt_tokens[:, :, None])[:, :, 0]


def with_bos(model: nn.Module, tgt_tokens: Tensor) -> Tensor:
    """The decoder input that predicts `tgt_tokens`: shifted right, starting with BOS."""
    bos = torch.full_like(tgt_tokens[:, :1], model.bos_id)  # type: ignore[arg-type]
    return torch.cat((bos, tgt_tokens[:, :-1]), dim=1)


def pair_lengths(sources: Sequence[list[int]], targets: Sequence[list[int]]) -> list[int]:
    """The number of tokens on the longer side of each pair, including EOS."""
    return [max(len(source), len(target) + 1) for source, target in zip(sources, targets, strict=True)]
