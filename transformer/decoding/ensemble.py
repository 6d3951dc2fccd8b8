"""Ensembles: several models decoded as one, with the mean of their probabilities at each step."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from transformer.decoding.search import select_beams


class EnsembleState(list[object]):
    """The decoding states of the ensemble's members, one per member."""

    def select(self, rows: Int[Tensor, " chosen"]) -> "EnsembleState":
        return EnsembleState(state.select(rows) for state in self)  # type: ignore[attr-defined]

    def select_beams(
        self, rows: Int[Tensor, "sentences beam"], sentences: Int[Tensor, " sentences"] | None
    ) -> "EnsembleState":
        return EnsembleState(select_beams(state, rows, sentences) for state in self)


class Ensemble(nn.Module):
    """Models with the same vocabulary, used as one model; its logits are log-probabilities."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        if not members:
            raise ValueError("an ensemble needs at least one model")
        self.members = nn.ModuleList(members)
        for name in ("pad_id", "bos_id", "eos_id"):
            ids = {getattr(member, name, None) for member in members}
            if len(ids) != 1:
                raise ValueError(f"the members of an ensemble differ in {name}: {ids}")
            setattr(self, name, ids.pop())

    def forward(self, *tokens: Tensor) -> Float[Tensor, "batch length vocabulary"]:
        return mean([member(*tokens) for member in self.members])

    def prefill(
        self, tokens: Int[Tensor, "batch length"], *, max_length: int
    ) -> tuple[Float[Tensor, "batch vocabulary"], EnsembleState]:
        found = [member.prefill(tokens, max_length=max_length) for member in self.members]  # type: ignore[operator]
        return mean([logits for logits, _ in found]), EnsembleState(state for _, state in found)

    def step(self, tokens: Int[Tensor, " batch"], state: EnsembleState) -> Float[Tensor, "batch vocabulary"]:
        return mean(
            [member.step(tokens, own) for member, own in zip(self.members, state, strict=True)]  # type: ignore[operator]
        )


def mean(logits: Sequence[Float[Tensor, "*shape vocabulary"]]) -> Float[Tensor, "*shape vocabulary"]:
    """The log of the mean of the probabilities."""
    log_probs = torch.stack([part.float().log_softmax(dim=-1) for part in logits])
    return log_probs.logsumexp(dim=0) - math.log(len(logits))
