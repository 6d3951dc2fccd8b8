"""Products of 8-bit integers: the same as with rounded numbers, row by row."""

import pytest
import torch
from helpers import assert_close
from torch import nn

from transformer.kernels.int8 import as_quantized, dequantized_linear, int8_linear, quantized_weight
from transformer.kernels.linear import pack


def random_layer(width=300, outputs=70):
    """Weights and rows of very different sizes, as one scale for all of them would show."""
    weight = torch.randn(outputs, width) * torch.logspace(-3, 3, outputs)[:, None]
    x = torch.randn(9, width) * torch.logspace(-4, 4, 9)[:, None]
    return weight, torch.randn(outputs), x


@pytest.mark.parametrize("has_bias", [True, False])
def test_the_product_of_integers_equals_the_product_of_rounded_numbers(has_bias):
    weight, bias, x = random_layer()
    bias = bias if has_bias else None
    expected = dequantized_linear(x, weight, bias)
    found = int8_linear(x, quantized_weight(weight), bias)
    scale = expected.abs().amax(dim=1, keepdim=True)
    assert_close(found / scale, expected / scale, rtol=1e-5, atol=1e-6)


def test_rounding_moves_a_number_by_at_most_half_a_step():
    x = torch.randn(50, 300)
    step = x.abs().amax(dim=1, keepdim=True) / 127
    assert ((as_quantized(x) - x).abs() <= step * 0.5001).all()


def test_a_batch_equals_its_rows_exactly():
    weight, bias, x = random_layer()
    copy = quantized_weight(weight)
    together = int8_linear(x, copy, bias)
    for row in range(len(x)):
        assert torch.equal(int8_linear(x[row], copy, bias), together[row])
    assert torch.equal(int8_linear(x.view(3, 3, -1), copy, bias), together.view(3, 3, -1))


def test_zeros_stay_zeros_and_what_is_no_number_stays_in_its_row():
    weight, bias, x = random_layer()
    weight[5] = 0
    x[1] = 0
    expected = int8_linear(x, quantized_weight(weight), bias)
    assert torch.equal(expected[1], bias)
    assert torch.equal(expected[:, 5], bias[5].expand(9))
    x[2, 7], x[3, 7] = torch.nan, torch.inf
    found = int8_linear(x, quantized_weight(weight), bias)
    assert not found[2:4].isfinite().all(dim=1).any()
    rest = [0, 1, *range(4, 9)]
    assert torch.equal(found[rest], expected[rest])


@torch.no_grad()
def test_an_int8_layer_follows_its_weight_and_ignores_the_number_of_rows():
    layer = nn.Linear(40, 20)
    pack(layer, torch.int8)
    x = torch.randn(12, 40)
    assert_close(layer(x), dequantized_linear(x, layer.weight, layer.bias))
    layer.weight.mul_(3)
    assert_close(layer(x), dequantized_linear(x, layer.weight, layer.bias))
    assert torch.equal(layer(x[:1]), layer(x)[:1])
