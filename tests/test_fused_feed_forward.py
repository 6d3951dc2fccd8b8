"""The activation inside the first product: the same results, parameters and hooks as one after the other."""

import copy
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from helpers import assert_close, tiny_model
from test_packed import ATTACHMENTS, CHANGES, forward_hook, pre_hook
from torch import nn

from transformer.decoding.inference import freeze
from transformer.kernels import linear as packed
from transformer.kernels.linear import pack_linear_layers
from transformer.model import fused_feed_forward as fused
from transformer.model.fused_feed_forward import FusedFeedForward, fuse_feed_forward
from transformer.model.layers import FeedForward


@pytest.fixture(autouse=True)
def pack_everything(monkeypatch):
    monkeypatch.setattr(packed, "SMALLEST", 0)
    for module in (packed, fused):
        monkeypatch.setattr(module, "is_faster_packed", lambda *_: True)


def plain_and_fused(activation=F.relu, dtype=torch.float32):
    plain = FeedForward(16, 40, activation, dropout=0.5).eval()
    other = copy.deepcopy(plain)
    pack_linear_layers(other, dtype)
    fuse_feed_forward(other)
    return plain, other


def forbid_plain(monkeypatch):
    monkeypatch.setattr(FeedForward, "forward", lambda *_: pytest.fail("the plain version was called"))


@torch.no_grad()
@pytest.mark.parametrize("activation", [F.relu, F.gelu])
@pytest.mark.parametrize("rows", [1, 7])
def test_the_fused_network_computes_equation_2(activation, rows, monkeypatch):
    plain, other = plain_and_fused(activation)
    x = torch.randn(2, rows, 16)
    expected = plain(x)
    forbid_plain(monkeypatch)
    assert_close(other(x), expected)


@torch.no_grad()
@pytest.mark.parametrize("activation", [F.relu, F.gelu])
def test_bfloat16_stays_within_its_rounding(activation, monkeypatch):
    plain, other = plain_and_fused(activation, torch.bfloat16)
    x = torch.randn(3, 5, 16)
    expected = plain(x)
    rounded = plain.w_2(activation(plain.w_1(x).bfloat16().float()).bfloat16().float())
    forbid_plain(monkeypatch)
    found = other(x)
    assert found.dtype == torch.float32
    assert not torch.equal(found, expected)
    assert (found - expected).abs().max() < 4 * (rounded - expected).abs().max() + 0.02


@torch.no_grad()
@pytest.mark.parametrize("name", ["w_1", "w_2"])
@pytest.mark.parametrize("change", CHANGES)
def test_the_fused_network_follows_its_weights(name, change):
    plain, other = FeedForward(16, 16, F.relu).eval(), FeedForward(16, 16, F.relu).eval()
    pack_linear_layers(other)
    fuse_feed_forward(other)
    x = torch.randn(2, 3, 16)
    before = other(x)
    change(getattr(other, name))
    plain.load_state_dict(other.state_dict())
    assert_close(other(x), plain(x))
    assert not torch.allclose(other(x), before)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "attach"),
    [*product(["w_1", "w_2"], ATTACHMENTS), ("dropout", forward_hook), ("dropout", pre_hook)],
)
def test_what_is_attached_to_a_part_has_its_effect(name, attach):
    plain, other = plain_and_fused()
    x = torch.randn(2, 3, 16)
    before = other(x)
    for network in (plain, other):
        torch.manual_seed(1)  # spectral norm starts from a random vector
        attach(getattr(network, name).eval())
    assert_close(other(x), plain(x))
    assert not torch.allclose(other(x), before)


@torch.no_grad()
@pytest.mark.parametrize("name", ["w_1", "w_2"])
def test_a_bias_can_be_removed(name):
    plain, other = plain_and_fused()
    for network in (plain, other):
        getattr(network, name).bias = None
    x = torch.randn(2, 3, 16)
    assert_close(other(x), plain(x))


@torch.no_grad()
def test_another_activation_is_used():
    plain, other = plain_and_fused()
    x = torch.randn(2, 3, 16)
    for activation in (F.gelu, F.silu, nn.Tanh()):
        plain.activation = other.activation = activation
        assert_close(other(x), plain(x))


def test_the_fused_network_trains():
    _, other = plain_and_fused()
    x = torch.randn(2, 3, 16)
    other.train()
    with torch.no_grad():
        assert not torch.equal(other(x), other(x))  # dropout
    other(x).sum().backward()
    assert {name for name, weight in other.named_parameters() if weight.grad is not None} == {
        f"{name}.{part}" for name in ("w_1", "w_2") for part in ("weight", "bias")
    }


class Halved(FeedForward):
    def forward(self, x):
        return super().forward(x) / 2


@pytest.mark.parametrize(("precision", "is_fused"), [("float32", True), ("bfloat16", True), ("int8", False)])
def test_freezing_fuses_plain_networks(precision, is_fused):
    model = tiny_model()
    model.encoder.blocks[0].feed_forward = own = Halved(16, 32, F.relu)
    names = list(model.state_dict())
    freeze(model, precision)
    assert type(own) is Halved
    assert isinstance(model.decoder.blocks[0].feed_forward, FusedFeedForward) is is_fused
    assert list(model.state_dict()) == names
