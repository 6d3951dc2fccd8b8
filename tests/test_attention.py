"""Equation 1 and multi-head attention."""

import math

import pytest
import torch
import torch.nn.functional as F
from helpers import assert_close, random_rows, right_padded, tiny_model
from torch.nn.attention import SDPBackend, sdpa_kernel

from transformer.kernels import attention as kernel
from transformer.kernels.attention import fused_attention
from transformer.model.attention import KeyValue, MultiHeadAttention, attention, attention_weights
from transformer.model.masks import causal_mask, padding_mask
from transformer.model.recording import record_attention

B, H, T, S, D_K, D_V = 2, 3, 5, 7, 4, 6
KEYS = torch.tensor([[5] * 7, [5] * 4 + [0] * 3])  # the second row ends in three pads
OFFSETS = torch.tensor([[2, 3, 4, 5, 6], [0, 1, 2, 3, 4]])  # the positions of each row's queries in a cache
ORDER = torch.ones(T, S, dtype=torch.bool).tril()
MASKS = {
    "none": {},
    "padding": {"mask": padding_mask(KEYS, 0)},
    "causal": {"is_causal": True},
    "cache": {"mask": causal_mask(OFFSETS, S)},
    "padding and causal": {"mask": padding_mask(KEYS, 0) & ORDER},
}


def random_qkv():
    return torch.randn(B, H, T, D_K), torch.randn(B, H, S, D_K), torch.randn(B, H, S, D_V)


def visible(mask=None, is_causal=False):
    """Which weights may differ from 0, for the arguments of `attention`."""
    if is_causal:
        return ORDER.expand(B, H, T, S)
    return torch.ones(B, H, T, S, dtype=torch.bool) if mask is None else mask.expand(B, H, T, S)


@pytest.mark.parametrize("arguments", MASKS.values(), ids=MASKS)
def test_written_out_attention_equals_torch(arguments):
    q, k, v = random_qkv()
    fused = F.scaled_dot_product_attention(
        q, k, v, attn_mask=arguments.get("mask"), is_causal=arguments.get("is_causal", False)
    )
    assert_close(attention(q, k, v, **arguments), fused)


@pytest.mark.parametrize("limit", [1, 10**9], ids=["fused backward", "plain backward"])
@pytest.mark.parametrize("needs_gradients", [True, False])
@pytest.mark.parametrize("arguments", MASKS.values(), ids=MASKS)
def test_the_kernels_equal_written_out_attention(arguments, needs_gradients, limit, monkeypatch):
    monkeypatch.setattr(kernel, "LONG_IN_FLOAT32", limit)
    qkv = [part[..., :D_K].double().requires_grad_(needs_gradients) for part in random_qkv()]
    with torch.set_grad_enabled(needs_gradients):
        found, expected = fused_attention(*qkv, **arguments), attention(*qkv, **arguments)
    assert found.dtype == torch.float64
    assert_close(found, expected)
    if needs_gradients:
        direction = torch.randn_like(expected)
        for ours, theirs in zip(
            torch.autograd.grad(found, qkv, direction),
            torch.autograd.grad(expected, qkv, direction),
            strict=True,
        ):
            assert_close(ours, theirs)


@pytest.mark.filterwarnings(
    "ignore:.*torch.jit.script:DeprecationWarning"
)  # in torch's own forward derivatives
def test_long_sequences_have_second_derivatives_and_forward_derivatives():
    q, k, v = (torch.randn(1, 2, 40, 4, requires_grad=True) for _ in range(3))
    assert kernel.LONG_IN_FLOAT32 < 40 * 40

    def penalty(compute):
        (gradient,) = torch.autograd.grad(compute(q, k, v).square().sum(), q, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), k)[0]

    with sdpa_kernel(SDPBackend.MATH):
        assert_close(penalty(fused_attention), penalty(attention), rtol=1e-3, atol=1e-3)
    tangents = tuple(map(torch.randn_like, (q, k, v)))
    found, expected = (
        torch.func.jvp(compute, (q, k, v), tangents) for compute in (fused_attention, attention)
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert_close(ours, theirs)


@pytest.mark.parametrize("needs_gradients", [True, False])
def test_the_kernels_drop_weights_and_scale_the_others(needs_gradients):
    """Uniform weights over 1,000 keys whose values are 1: what is left sums to 1 on average."""
    q, k, v = torch.zeros(1, 64, 1, 4), torch.zeros(1, 64, 1000, 4), torch.ones(1, 64, 1000, 4)
    with torch.set_grad_enabled(needs_gradients):
        kept = fused_attention(q, k, v, dropout=0.25)[0, :, 0, 0] * 750
    assert_close(kept, kept.round(), atol=1e-3)  # each key that is kept counts 1 / (1000 x 0.75)
    assert kept.unique().numel() > 8
    assert_close(kept.mean(), torch.tensor(750.0), atol=750 * 0.01)


@pytest.mark.parametrize("arguments", MASKS.values(), ids=MASKS)
def test_weights_are_a_distribution_over_the_visible_keys(arguments):
    q, k, _ = random_qkv()
    weights = attention_weights(q, k, **arguments)
    assert_close(weights.sum(dim=-1), torch.ones(B, H, T))
    assert torch.equal(weights > 0, visible(**arguments))


def test_a_mask_and_the_causal_flag_combine():
    q, k, _ = random_qkv()
    mask = padding_mask(KEYS, 0)
    both = attention_weights(q, k, mask=mask, is_causal=True)
    assert torch.equal(both, attention_weights(q, k, mask=mask & ORDER))


def test_an_example_by_hand():
    """«Cat eats fish» with d_k = 2: scores 0.74, 0.38, 0.50, scaled by 1/√2."""
    q = torch.tensor([[[[1.0, 0.0]]]])
    k = torch.tensor([[[[0.74, 0.3], [0.38, -0.2], [0.50, 0.9]]]])
    v = torch.tensor([[[[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]]])
    hand = torch.tensor([[[[0.38, 0.30, 0.32]]]])
    assert_close(attention_weights(q, k), hand, atol=0.005)
    assert_close(attention(q, k, v), torch.tensor([[[[0.54, 0.46]]]]), atol=0.005)


def test_a_uniform_query_averages_the_values():
    _, k, v = random_qkv()
    mean = v.mean(dim=2, keepdim=True).expand(B, H, T, D_V)
    assert_close(attention(torch.zeros(B, H, T, D_K), k, v), mean)


def test_scores_are_scaled_by_the_width_of_a_key():
    """With the wrong width under the root, weights of wide keys would be sharper or flatter."""
    q, k, _ = random_qkv()
    scores = torch.einsum("bhtd,bhsd->bhts", q, k)
    expected = (scores / math.sqrt(D_K)).exp()
    assert_close(attention_weights(q, k), expected / expected.sum(dim=-1, keepdim=True))


@pytest.mark.parametrize("arguments", MASKS.values(), ids=MASKS)
def test_heads_attend_each_in_its_own_subspace(arguments):
    """Concat(head_1 … head_h) W^O, with every head computed from its own slices of the matrices."""
    module = MultiHeadAttention(8, H, d_k=D_K, d_v=D_V)
    x, memory = torch.randn(B, T, 8), torch.randn(B, S, 8)
    heads = []
    for head in range(H):
        mask = visible(**arguments)[:, head]
        q = x @ module.w_q.weight[head * D_K : (head + 1) * D_K].T
        k = memory @ module.w_k.weight[head * D_K : (head + 1) * D_K].T
        v = memory @ module.w_v.weight[head * D_V : (head + 1) * D_V].T
        scores = (q @ k.mT / math.sqrt(D_K)).masked_fill(~mask, -math.inf)
        heads.append(scores.softmax(dim=-1) @ v)
    expected = torch.cat(heads, dim=-1) @ module.w_o.weight.T
    assert_close(module(x, module.project_kv(memory), **arguments), expected)


def test_attention_dropout_acts_in_training_only():
    module = MultiHeadAttention(8, 2, dropout=0.5)
    x = torch.randn(B, T, 8)
    kv = module.project_kv(x)
    assert not torch.equal(module(x, kv), module(x, kv))
    module.eval()
    assert torch.equal(module(x, kv), module(x, kv))


# Recorded weights; test_recording.py has the rest


@pytest.mark.parametrize("arguments", MASKS.values(), ids=MASKS)
def test_recorded_weights_are_those_of_the_fused_path(arguments):
    module = MultiHeadAttention(8, H, d_k=D_K, d_v=D_V).eval()
    x, memory = torch.randn(B, T, 8), torch.randn(B, S, 8)
    kv = module.project_kv(memory)
    with record_attention(module) as weights:
        output = module(x, kv, **arguments)
    assert_close(module.w_o(module.merge_heads(weights[""] @ kv.values)), output)


def test_key_value_is_two_tensors_split_into_heads():
    module = MultiHeadAttention(8, H, d_k=D_K, d_v=D_V)
    kv = module.project_kv(torch.randn(B, S, 8))
    assert isinstance(kv, KeyValue)
    assert kv.keys.shape == (B, H, S, D_K)
    assert kv.values.shape == (B, H, S, D_V)


# The bias made from a mask


@pytest.mark.parametrize("grad", [True, False])
def test_a_mask_becomes_a_bias_once_for_all_layers(grad, monkeypatch):
    widths = []
    as_bias = kernel.as_bias

    def counted(mask, dtype):
        widths.append(mask.shape[-1])
        return as_bias(mask, dtype)

    monkeypatch.setattr(kernel, "as_bias", counted)
    model = tiny_model(num_layers=3)
    source, target = right_padded(random_rows(5, 3)), right_padded(random_rows(6, 4))
    with torch.set_grad_enabled(grad):
        model(source, target)
    assert widths.count(source.shape[1]) == 2  # one for the encoder, one for the attention to it


def test_a_bias_goes_with_its_mask():
    before = len(kernel.MADE)
    mask = padding_mask(KEYS, 0)
    kernel.bias_of(mask, torch.float32)
    assert len(kernel.MADE) == before + 1
    del mask
    assert len(kernel.MADE) == before


def test_a_mask_that_changes_makes_a_new_bias():
    q, k, v = random_qkv()
    mask = padding_mask(KEYS, 0)
    with torch.no_grad():
        before = fused_attention(q, k, v, mask=mask)
        mask[:] = True
        assert_close(fused_attention(q, k, v, mask=mask), attention(q, k, v))
    assert not torch.equal(before, attention(q, k, v))


def test_a_mask_can_be_used_in_inference_mode_and_then_with_gradients():
    q, k, v = random_qkv()
    mask = padding_mask(KEYS, 0)
    with torch.inference_mode():
        fused_attention(q, k, v, mask=mask)
        fused_attention(q, k, v, mask=padding_mask(KEYS, 0))  # which has no version to compare
    q.requires_grad_()
    assert_close(fused_attention(q, k, v, mask=mask), attention(q, k, v, mask=mask))
    with torch.no_grad():
        bias = kernel.bias_of(mask, torch.float32)
    F.scaled_dot_product_attention(q, k, v, attn_mask=bias).sum().backward()  # saves the bias


@pytest.mark.parametrize("length", [1, 7, 8, 9, 16])
def test_the_rows_of_a_bias_are_aligned_and_its_numbers_are_those_of_the_mask(length):
    mask = torch.rand(2, 1, 3, length) < 0.5
    bias = kernel.bias_of(mask, torch.bfloat16)
    assert torch.equal(bias, torch.where(mask, 0.0, -torch.inf).bfloat16())
    assert all(stride % kernel.ALIGNMENT == 0 for stride in bias.stride()[:-1])
    assert bias.stride()[-1] == 1
