"""A bias of the attention scores: the same in `forward` and `weights`, with a cache and without."""

import math
from typing import Any

import pytest
import torch
from helpers import assert_close, random_rows, right_padded, tiny_config
from torch import Tensor, nn

import transformer
from transformer.kernels.attention import fused_attention
from transformer.model.attention import MultiHeadAttention
from transformer.model.recording import record_attention
from transformer.testing import assert_transformer_contract


def distances(positions: Tensor, length: int) -> Tensor:
    """Query minus key, (B, T, S)."""
    return positions[..., None] - torch.arange(length, device=positions.device)


class SlidingWindow(MultiHeadAttention):
    """A query sees the keys at most two positions away."""

    def score_bias(self, q: Tensor, positions: Any, length: int) -> Tensor:  # noqa: ARG002
        is_far = distances(positions, length).abs() > 2
        return is_far[:, None] * -1e4


class Alibi(MultiHeadAttention):
    """Press et al. (2022): a penalty that grows with the distance, at another rate in each head."""

    def score_bias(self, q: Tensor, positions: Any, length: int) -> Tensor:  # noqa: ARG002
        slopes = 2.0 ** (-8 * torch.arange(1, self.num_heads + 1) / self.num_heads)
        return -slopes[:, None, None] * distances(positions, length).abs()[:, None]


class Relative(MultiHeadAttention):
    """Shaw et al. (2018): a learned key vector for each distance, the same for all beyond 3."""

    def __init__(self, *sizes: int, **options: Any) -> None:
        super().__init__(*sizes, **options)
        self.relative_keys = nn.Embedding(7, self.d_k)

    def score_bias(self, q: Tensor, positions: Any, length: int) -> Tensor:
        keys = self.relative_keys(distances(positions, length).clamp(-3, 3) + 3)  # (B, T, S, d_k)
        return torch.einsum("bhtd,btsd->bhts", q, keys.expand(q.shape[0], -1, -1, -1)) / math.sqrt(self.d_k)


KINDS = (SlidingWindow, Alibi, Relative)


@pytest.mark.parametrize("needs_gradients", [True, False])
@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.parametrize("shape", [(2, 3, 5, 5), (1, 1, 5, 5), (1, 3, 1, 5)])
def test_the_kernels_add_the_bias_as_the_written_out_equation_does(
    shape: tuple[int, ...], is_causal: bool, needs_gradients: bool
) -> None:
    q, k, v = (torch.randn(2, 3, 5, 4) for _ in range(3))
    bias = torch.randn(shape).requires_grad_(needs_gradients)
    mask = torch.rand(2, 1, 1, 5) > 0.3
    mask[..., 0] = True
    with torch.set_grad_enabled(needs_gradients):
        found = fused_attention(q, k, v, mask=mask, is_causal=is_causal, bias=bias)
        expected = transformer.attention(q, k, v, mask=mask, is_causal=is_causal, bias=bias)
    assert_close(found, expected)
    if needs_gradients:
        weights = torch.randn_like(found)
        [ours] = torch.autograd.grad((found * weights).sum(), bias)
        [theirs] = torch.autograd.grad((expected * weights).sum(), bias)
        assert_close(ours, theirs)


def build(attention: type[MultiHeadAttention], **changes: Any) -> Any:
    """Both stacks have this self-attention; cross-attention is the paper's."""

    class Builder(transformer.ModelBuilder):
        def block(self) -> transformer.TransformerBlock:
            return transformer.TransformerBlock(self.attention(attention), self.feed_forward(), self.residual)

        def decoder_block(self) -> transformer.DecoderBlock:
            own, cross = self.attention(attention), self.attention()
            return transformer.DecoderBlock(own, cross, self.feed_forward(), self.residual)

    return Builder(tiny_config(**changes)).build()


@pytest.mark.parametrize("model_kind", ["encoder_decoder", "decoder_only"])
@pytest.mark.parametrize("kind", KINDS)
def test_models_with_a_bias_keep_the_contract(kind: type[MultiHeadAttention], model_kind: str) -> None:
    assert_transformer_contract(build(kind, kind=model_kind))


@pytest.mark.parametrize("kind", KINDS)
def test_recorded_weights_are_those_that_forward_uses(kind: type[MultiHeadAttention]) -> None:
    model = build(kind).eval()
    tokens = right_padded(random_rows(6, 4))
    calls: dict[str, Any] = {}
    layer = model.encoder.blocks[0].self_attention
    layer.register_forward_pre_hook(lambda _, x, options: calls.update(x=x, **options), with_kwargs=True)
    layer.register_forward_hook(lambda _, x, y: calls.update(y=y))  # noqa: ARG005
    with record_attention(model) as weights:
        model.encoder(tokens)
    mixed = weights["encoder.blocks.0.self_attention"] @ calls["x"][1].values
    assert_close(layer.w_o(layer.merge_heads(mixed)), calls["y"])


def test_the_three_biases_by_their_definitions() -> None:
    tokens = torch.tensor([[5, 6, 7, 8, 9, 4]])
    model = build(SlidingWindow)
    with record_attention(model) as weights:
        model.encoder(tokens)
    seen = weights["encoder.blocks.0.self_attention"][0, 0] > 0
    assert seen.tolist() == [[abs(query - key) <= 2 for key in range(6)] for query in range(6)]
    alibi = Alibi(16, 2).score_bias(torch.zeros(1, 2, 6, 8), torch.arange(6)[None], 6)
    assert alibi[0, :, 5, 1].tolist() == [-4 * 2**-4, -4 * 2**-8]
    relative = Relative(16, 2)
    q = torch.randn(1, 2, 6, 8)
    shaw = relative.score_bias(q, torch.arange(6)[None], 6)
    assert_close(shaw[0, 1, 2, 4], q[0, 1, 2] @ relative.relative_keys.weight[1] / math.sqrt(8))
