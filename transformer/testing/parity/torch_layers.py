"""Compares our attention and layers with those of torch.nn, given the same weights."""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer.kernels import attention as kernels
from transformer.model.attention import MultiHeadAttention, attention
from transformer.model.blocks import DecoderBlock, TransformerBlock
from transformer.model.layers import LAYER_NORM_EPSILON, FeedForward, PostNorm, PreNorm
from transformer.model.masks import Context, bidirectional_context, padding_mask
from transformer.testing.comparison import Comparison
from transformer.testing.parity.samples import SOURCE_LENGTHS, TARGET_LENGTHS, randomised, real

D, H, D_FF = 32, 4, 48
RESIDUALS: tuple[type[PostNorm], ...] = (PostNorm, PreNorm)
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"ReLU": F.relu, "GELU": F.gelu}


def equation_against_kernel(device: torch.device) -> Iterator[Comparison]:
    """Compare equation 1 with torch's kernel: without a mask, with padding, and with causal masking.

    On a CPU, our own kernel is compared with torch's too.
    """
    q = torch.randn(3, H, 9, 5, device=device)
    k, v = torch.randn(3, H, 9, 5, device=device), torch.randn(3, H, 9, 7, device=device)
    mask = padding_mask(real(TARGET_LENGTHS).long().to(device), pad_id=0)
    for name, hidden, is_causal in (
        ("no mask", None, False),
        ("padding", mask, False),
        ("causal", None, True),
    ):
        fused = F.scaled_dot_product_attention(q, k, v, attn_mask=hidden, is_causal=is_causal)
        yield Comparison(name, attention(q, k, v, mask=hidden, is_causal=is_causal), fused)
        if device.type == "cpu":
            with torch.enable_grad():
                ours = kernels.fused_attention(q, k, v, mask=hidden, is_causal=is_causal)
            yield Comparison(f"{name}, our CPU kernel", ours, fused)


def multi_head_attention(device: torch.device) -> Iterator[Comparison]:
    ours = randomised(MultiHeadAttention(D, H, bias=True)).to(device)
    theirs = nn.MultiheadAttention(D, H, batch_first=True).eval().to(device)
    copy_attention(theirs, ours)
    x, memory, memory_is_real = inputs(device)
    kv, mask = ours.project_kv(memory), padding_mask(memory_is_real.long(), pad_id=0)
    output, weights = theirs(x, memory, memory, key_padding_mask=~memory_is_real, average_attn_weights=False)
    yield Comparison("output", ours(x, kv, mask=mask), output)
    yield Comparison("weights", ours.weights(x, kv, mask=mask), weights)


def encoder_layers(device: torch.device) -> Iterator[Comparison]:
    """Compare layers with post-norm and with pre-norm, each with ReLU and with GELU."""
    for residual, activation in product(RESIDUALS, ACTIVATIONS):
        yield encoder_layer(residual, activation, device)


def encoder_layer(residual: type[PostNorm], activation: str, device: torch.device) -> Comparison:
    feed_forward = FeedForward(D, D_FF, ACTIVATIONS[activation])
    ours = TransformerBlock(MultiHeadAttention(D, H, bias=True), feed_forward, lambda: residual(D))
    ours = randomised(ours).to(device)
    theirs = torch_layer(nn.TransformerEncoderLayer, residual, activation, device)
    copy_attention(theirs.self_attn, ours.self_attention)
    copy_parameters(theirs.linear1, feed_forward.w_1)
    copy_parameters(theirs.linear2, feed_forward.w_2)
    copy_parameters(theirs.norm1, ours.around_self_attention.norm)
    copy_parameters(theirs.norm2, ours.around_feed_forward.norm)
    _, x, is_real = inputs(device)
    output = ours(x, bidirectional_context(is_real.long(), pad_id=0))
    expected = theirs(x, src_key_padding_mask=~is_real)
    return Comparison(f"{residual.__name__} {activation}", output[is_real], expected[is_real])


def decoder_layers(device: torch.device) -> Iterator[Comparison]:
    """Compare layers with post-norm and with pre-norm, each with ReLU and with GELU."""
    for residual, activation in product(RESIDUALS, ACTIVATIONS):
        yield decoder_layer(residual, activation, device)


def decoder_layer(residual: type[PostNorm], activation: str, device: torch.device) -> Comparison:
    self_attention, cross_attention = (MultiHeadAttention(D, H, bias=True) for _ in range(2))
    feed_forward = FeedForward(D, D_FF, ACTIVATIONS[activation])
    ours = DecoderBlock(self_attention, cross_attention, feed_forward, lambda: residual(D))
    ours = randomised(ours).to(device)
    theirs = torch_layer(nn.TransformerDecoderLayer, residual, activation, device)
    copy_attention(theirs.self_attn, self_attention)
    copy_attention(theirs.multihead_attn, cross_attention)
    copy_parameters(theirs.linear1, feed_forward.w_1)
    copy_parameters(theirs.linear2, feed_forward.w_2)
    copy_parameters(theirs.norm1, ours.around_self_attention.norm)
    copy_parameters(theirs.norm2, ours.around_cross_attention.norm)
    copy_parameters(theirs.norm3, ours.around_feed_forward.norm)
    x, memory, memory_is_real = inputs(device)
    kv, mask = cross_attention.project_kv(memory), padding_mask(memory_is_real.long(), pad_id=0)
    positions = torch.arange(x.shape[1], device=device)
    output = ours(x, Context(positions[None], is_causal=True, memory=kv, memory_mask=mask))
    hidden = positions > positions[:, None]  # in torch.nn's masks, True means hidden
    expected = theirs(x, memory, tgt_mask=hidden, memory_key_padding_mask=~memory_is_real)
    return Comparison(f"{residual.__name__} {activation}", output, expected)


def inputs(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Make random vectors of a target and a source, and a mask that is False where the source is padding."""
    is_real = real(SOURCE_LENGTHS).to(device)
    x = torch.randn(len(TARGET_LENGTHS), max(TARGET_LENGTHS), D, device=device)
    return x, torch.randn(*is_real.shape, D, device=device), is_real


def torch_layer(
    layer: Callable[..., nn.Module],
    residual: type[PostNorm],
    activation: str,
    device: torch.device,
) -> Any:
    return (
        layer(
            D,
            H,
            D_FF,
            activation=ACTIVATIONS[activation],
            layer_norm_eps=LAYER_NORM_EPSILON,
            batch_first=True,
            norm_first=issubclass(residual, PreNorm),
        )
        .eval()
        .to(device)
    )


@torch.no_grad()
def copy_parameters(theirs: nn.Module, ours: nn.Module) -> None:
    theirs.load_state_dict(ours.state_dict())


@torch.no_grad()
def copy_attention(theirs: nn.MultiheadAttention, ours: MultiHeadAttention) -> None:
    projections = (ours.w_q, ours.w_k, ours.w_v)
    theirs.in_proj_weight.copy_(torch.cat([projection.weight for projection in projections]))
    theirs.in_proj_bias.copy_(torch.cat([projection.bias for projection in projections]))
    copy_parameters(theirs.out_proj, ours.w_o)
