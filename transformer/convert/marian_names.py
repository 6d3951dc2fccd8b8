"""The names of Marian's weights and of ours, and the order of the d_model channels, which differs.

Marian's positional encoding has all sines, then all cosines; ours interleaves them, as in the paper. Nothing
else depends on the order of the channels in the residual stream: if all weights that read from it or write to
it are permuted in the same way, the logits do not change. So the permutation is applied to the weights, and
neither model has to change.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

ATTENTION = {"w_q": "q_proj", "w_k": "k_proj", "w_v": "v_proj", "w_o": "out_proj"}
WRITES_TO_STREAM = ("w_o", "w_2")


class Correspondence(NamedTuple):
    """The names of one weight in both models."""

    ours: str
    theirs: str
    channels: int | None
    """The dimension of the weight that runs over the d_model channels, if any does."""


def interleaved(d_model: int) -> Int[Tensor, " d_model"]:
    """Marian's channel for each of ours (sine 0, cosine 0, sine 1, …); `argsort` gives the inverse."""
    return torch.arange(d_model).view(2, d_model // 2).T.flatten()


def layer_weights(num_layers: int) -> Iterator[Correspondence]:
    """All weights of the encoder and decoder stacks, without embeddings and output projection."""
    for layer in range(num_layers):
        encoder = f"encoder.blocks.{layer}", f"model.encoder.layers.{layer}"
        decoder = f"decoder.blocks.{layer}", f"model.decoder.layers.{layer}"
        for ours, theirs in (encoder, decoder):
            yield from attention(f"{ours}.self_attention", f"{theirs}.self_attn")
            yield from norm(f"{ours}.around_self_attention", f"{theirs}.self_attn_layer_norm")
            yield from linear(f"{ours}.feed_forward", "w_1", f"{theirs}.fc1")
            yield from linear(f"{ours}.feed_forward", "w_2", f"{theirs}.fc2")
            yield from norm(f"{ours}.around_feed_forward", f"{theirs}.final_layer_norm")
        ours, theirs = decoder
        yield from attention(f"{ours}.cross_attention", f"{theirs}.encoder_attn")
        yield from norm(f"{ours}.around_cross_attention", f"{theirs}.encoder_attn_layer_norm")


def attention(ours: str, theirs: str) -> Iterator[Correspondence]:
    for our_name, their_name in ATTENTION.items():
        yield from linear(ours, our_name, f"{theirs}.{their_name}")


def linear(ours: str, name: str, theirs: str) -> Iterator[Correspondence]:
    writes = name in WRITES_TO_STREAM
    yield Correspondence(f"{ours}.{name}.weight", f"{theirs}.weight", 0 if writes else 1)
    yield Correspondence(f"{ours}.{name}.bias", f"{theirs}.bias", 0 if writes else None)


def norm(ours: str, theirs: str) -> Iterator[Correspondence]:
    yield Correspondence(f"{ours}.norm.weight", f"{theirs}.weight", 0)
    yield Correspondence(f"{ours}.norm.bias", f"{theirs}.bias", 0)
