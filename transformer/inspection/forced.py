"""A forced pass: the model reads a finished output once more, while hooks record its inner values.

Because the recording is separate from the search, the search needs no hooks. One pass covers all positions at
once, and also works for an output that did not come from the search. The numbers of the forced pass equal
those of the search up to rounding, about 1e-6 in float32.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from transformer.inspection.data import CROSS, DECODER, ENCODER, Attention
from transformer.model.attention import MultiHeadAttention
from transformer.model.projections import JoinedAttention
from transformer.model.recording import (
    Call,
    Sublayer,
    has_scores,
    record_attention,
    record_calls,
    record_scores,
    record_sublayers,
)


@dataclass(frozen=True)
class ForcedPass:
    """A model's output for one row, and the records that the hooks made."""

    output: Tensor
    """Without the batch dimension, in float32, on the CPU."""
    attention: list[Attention]
    sublayers: dict[str, Sublayer]
    calls: dict[str, Call]
    """The input and output shapes of each module, by name, in the order in which the calls returned."""
    missing: list[str]

    def last_rows(self, count: int) -> "ForcedPass":
        """Restrict this pass to the last `count` positions."""
        cut = slice(-count, None)
        attention = [
            each._replace(
                weights=each.weights[:, cut], scores=None if each.scores is None else each.scores[:, cut]
            )
            for each in self.attention
        ]
        sublayers = {
            name: Sublayer(*(part[:, cut] for part in each)) for name, each in self.sublayers.items()
        }
        return replace(self, output=self.output[cut], attention=attention, sublayers=sublayers)


@torch.no_grad()
def forced_pass(model: nn.Module, *inputs: Tensor) -> ForcedPass:
    """Run `model` once on a batch of one row."""
    with (
        record_attention(model) as weights,
        record_scores(model) as scores,
        record_sublayers(model) as around,
        record_calls(model) as calls,
    ):
        [output] = model(*inputs).float().cpu()
    found = []
    counts = {CROSS: 0, ENCODER: 0, DECODER: 0}
    for name, (heads,) in weights.items():
        kind = kind_of(name)
        counts[kind] += 1
        module = model.get_submodule(name)
        heads = heads.float().cpu()
        own = scores[name][0].float().cpu() if name in scores else None
        if own is not None:
            own = own.masked_fill(heads == 0, -math.inf)
        found.append(Attention(name, kind, counts[kind], heads, own, module.d_k))  # type: ignore[arg-type]
    return ForcedPass(output, found, around, calls, missing_parts(model, weights, around))


def kind_of(name: str) -> str:
    """Infer the kind of an attention module from its name: cross-attention unless it says self_attention."""
    if re.search(r"\bdecoder\b.*\bself_attention$", name):
        return DECODER
    return ENCODER if name.endswith("self_attention") else CROSS


EQUATION_1 = MultiHeadAttention.forward, JoinedAttention.forward
"""The `forward` methods that compute their attention weights by equation 1."""


def missing_parts(model: nn.Module, weights: dict[str, Tensor], around: dict[str, Sublayer]) -> list[str]:
    """Describe, in one sentence each, the parts that could not be recorded."""
    found = []
    if not weights:
        found.append(
            "No attention: the model has no MultiHeadAttention module whose weights could be recorded."
        )
    for name in weights:
        module = model.get_submodule(name)
        if not has_scores(module):
            what = type(module).__name__
            found.append(f"No equation 1 for {name}: {what} computes its weights by a formula of its own.")
        elif type(module).forward not in EQUATION_1:
            found.append(
                f"{name}: {type(module).__name__} overrides forward but not weights; the weights shown are "
                "those of equation 1, and may differ from those that its forward uses."
            )
    if not around:
        found.append("No lengths of vectors: the model has no PostNorm or PreNorm modules.")
    return found


def by_layer(
    sublayers: dict[str, Sublayer], stack: str, read_out: Callable[[Tensor], Tensor]
) -> list[Tensor]:
    """Apply `read_out` and a softmax to the output of each layer of a stack; the results are on the CPU."""
    outputs: dict[str, Tensor] = {}
    for name, sublayer in sublayers.items():
        if found := re.match(rf"(?:.*\b)?{stack}\.blocks\.(\d+)\.", name):
            outputs[found[1]] = sublayer.output  # the block's last sub-layer replaces the others
    with torch.no_grad():
        return [read_out(output)[0].float().softmax(dim=-1).cpu() for output in outputs.values()]
