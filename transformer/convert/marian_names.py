"""The names of the weights in our model, in Hugging Face's folders and in Marian's own files.

The order of the d_model channels differs too. Marian's positional encoding has all sines, then all cosines;
ours interleaves sines and cosines, as in the paper. Nothing else depends on the order of the channels in the
residual stream, so all weights that read from this stream or write to it are permuted in the same way. The
logits stay the same, and neither model's code has to change.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

ATTENTION = {"w_q": ("q_proj", "q"), "w_k": ("k_proj", "k"), "w_v": ("v_proj", "v"), "w_o": ("out_proj", "o")}
FEED_FORWARD = {"w_1": ("fc1", "1"), "w_2": ("fc2", "2")}
WRITES_TO_STREAM = ("w_o", "w_2")


class Correspondence(NamedTuple):
    """The names of one weight in the three formats, and the dimension that must be permuted."""

    ours: str
    hugging_face: str
    marian: str
    channels: int | None
    """The dimension of our weight that holds the d_model channels of the residual stream, or None."""


class Prefixes(NamedTuple):
    """The prefixes of the names of one layer's weights in the three formats."""

    ours: str
    hugging_face: str
    marian: str


def interleaved(d_model: int) -> Int[Tensor, " d_model"]:
    """Return the index, in Marian's order, of each of our channels (sine 0, cosine 0, sine 1, …).

    `argsort` of the result gives the inverse permutation.
    """
    return torch.arange(d_model).view(2, d_model // 2).T.flatten()


def layer_weights(num_layers: int) -> Iterator[Correspondence]:
    """Yield all weights of the encoder and decoder stacks, without embeddings and output projection."""
    for layer in range(num_layers):
        for side in ("encoder", "decoder"):
            names = Prefixes(f"{side}.blocks.{layer}", f"model.{side}.layers.{layer}", f"{side}_l{layer + 1}")
            yield from attention(names, "self_attention", "self_attn", "self")
            if side == "decoder":
                yield from attention(names, "cross_attention", "encoder_attn", "context")
            yield from feed_forward(names)


def attention(names: Prefixes, ours: str, hugging_face: str, marian: str) -> Iterator[Correspondence]:
    """Yield the weights of one attention sub-layer and of its LayerNorm."""
    for our_name, (theirs, letter) in ATTENTION.items():
        yield from linear(
            f"{names.ours}.{ours}.{our_name}",
            f"{names.hugging_face}.{hugging_face}.{theirs}",
            (f"{names.marian}_{marian}_W{letter}", f"{names.marian}_{marian}_b{letter}"),
        )
    yield from norm(
        f"{names.ours}.around_{ours}.norm",
        f"{names.hugging_face}.{hugging_face}_layer_norm",
        f"{names.marian}_{marian}_Wo_ln",
    )


def feed_forward(names: Prefixes) -> Iterator[Correspondence]:
    for our_name, (theirs, number) in FEED_FORWARD.items():
        yield from linear(
            f"{names.ours}.feed_forward.{our_name}",
            f"{names.hugging_face}.{theirs}",
            (f"{names.marian}_ffn_W{number}", f"{names.marian}_ffn_b{number}"),
        )
    yield from norm(
        f"{names.ours}.around_feed_forward.norm",
        f"{names.hugging_face}.final_layer_norm",
        f"{names.marian}_ffn_ffn_ln",
    )


def linear(ours: str, hugging_face: str, marian: tuple[str, str]) -> Iterator[Correspondence]:
    writes = ours.endswith(WRITES_TO_STREAM)
    weight, bias = marian
    yield Correspondence(f"{ours}.weight", f"{hugging_face}.weight", weight, 0 if writes else 1)
    yield Correspondence(f"{ours}.bias", f"{hugging_face}.bias", bias, 0 if writes else None)


def norm(ours: str, hugging_face: str, marian: str) -> Iterator[Correspondence]:
    yield Correspondence(f"{ours}.weight", f"{hugging_face}.weight", f"{marian}_scale", 0)
    yield Correspondence(f"{ours}.bias", f"{hugging_face}.bias", f"{marian}_bias", 0)
