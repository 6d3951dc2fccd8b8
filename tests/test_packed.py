"""Packed linear layers: the same numbers and the same parameters as the layers that they replace."""

import copy

import pytest
import torch
from helpers import assert_close, right_padded, tiny_model
from torch import nn

from transformer.decoding import packed
from transformer.decoding.beam import beam_search
from transformer.decoding.packed import PackedLinear, pack_linear_layers


@pytest.fixture
def layers(monkeypatch):
    monkeypatch.setattr(packed, "SMALLEST", 1)
    linear = nn.Linear(33, 20)
    model = nn.Sequential(linear)
    pack_linear_layers(model)
    return linear, model[0]


@pytest.mark.parametrize("shape", [(33,), (1, 33), (5, 33), (2, 7, 33), (300, 33)])
def test_a_packed_layer_computes_the_same(layers, shape):
    linear, packed_linear = layers
    assert type(packed_linear) is PackedLinear
    x = torch.randn(shape)
    with torch.no_grad():
        assert_close(packed_linear(x), linear(x))
        assert (packed_linear.packed is not None) == (x.numel() // 33 >= packed.FEW_ROWS)
        coarse = PackedLinear(linear, torch.bfloat16)(x)
    assert coarse.dtype == torch.float32
    torch.testing.assert_close(coarse, linear(x).detach(), rtol=0.05, atol=0.05)


def test_a_packed_layer_follows_its_weight(layers):
    linear, packed_linear = layers
    x = torch.randn(9, 33)
    with torch.no_grad():
        before = packed_linear(x)
        linear.weight.add_(1)
        assert_close(packed_linear(x), linear(x))
        assert not torch.allclose(packed_linear(x), before)


def test_a_packed_layer_trains(layers):
    linear, packed_linear = layers
    assert dict(packed_linear.named_parameters()).keys() == {"weight", "bias"}
    packed_linear(torch.randn(9, 33)).sum().backward()
    assert linear.weight.grad is not None
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert packed_linear(torch.randn(9, 33)).dtype == torch.bfloat16


def test_a_packed_model_finds_the_same(monkeypatch):
    monkeypatch.setattr(packed, "SMALLEST", 1)
    monkeypatch.setattr(packed, "FEW_ROWS", 1)
    model, sources = tiny_model(), right_padded([[5, 7, 3], [4], [8, 9]])
    expected = beam_search(model, sources, beam_size=3, alpha=0.6, max_length=6, n_best=3)
    names = list(model.state_dict())
    pack_linear_layers(model)
    assert list(model.state_dict()) == names
    found = beam_search(model, sources, beam_size=3, alpha=0.6, max_length=6, n_best=3)
    assert torch.equal(found.tokens, expected.tokens)
    assert_close(found.scores, expected.scores)


def test_a_packed_layer_can_be_copied_and_saved(layers, tmp_path):
    packed_linear = layers[1]
    x = torch.randn(9, 33)
    with torch.no_grad():
        expected = packed_linear(x)
        torch.save(packed_linear, tmp_path / "layer")
        for again in (copy.deepcopy(packed_linear), torch.load(tmp_path / "layer", weights_only=False)):
            assert_close(again(x), expected)


def test_subclasses_and_small_layers_stay():
    class Own(nn.Linear):
        pass

    model = nn.Sequential(Own(400, 400), nn.Linear(3, 3), nn.Linear(400, 400))
    pack_linear_layers(model)
    assert [type(layer) for layer in model] == [Own, nn.Linear, PackedLinear]
