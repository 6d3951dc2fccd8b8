"""Packed linear layers: the same outputs and parameters as the layers that they replace."""

import copy
import warnings
from functools import partial

import pytest
import torch
from fixtures_run import tiny_settings
from helpers import assert_close, right_padded, tiny_model
from torch import nn
from torch.autograd import forward_ad
from torch.nn.utils import parametrize, prune

from transformer.checkpoint.pretrained import load_run
from transformer.decoding.beam import beam_search
from transformer.decoding.translator import Translator
from transformer.kernels import linear as packed
from transformer.kernels.linear import PackedLinear, is_faster_packed, pack, pack_linear_layers
from transformer.model.build import build_model
from transformer.recipe import train


@pytest.fixture(autouse=True)
def all_are_large(monkeypatch):
    """Treat every layer as large enough to be packed, and every call as faster with the copy."""
    monkeypatch.setattr(packed, "SMALLEST", 1)
    monkeypatch.setattr(packed, "is_faster_packed", lambda *_: True)


def packed_copy(linear, dtype=torch.float32):
    layer = copy.deepcopy(linear)
    pack(layer, dtype)
    return layer


def is_packed(layer):
    return layer.packed_weight.latest is not None


@pytest.fixture
def layers():
    """A layer and a packed layer that share their parameters."""
    linear = nn.Linear(33, 20)
    packed_linear = packed_copy(linear)
    packed_linear.weight, packed_linear.bias = linear.weight, linear.bias
    return linear, packed_linear


@pytest.mark.parametrize("shape", [(33,), (1, 33), (5, 33), (2, 7, 33), (300, 33)])
def test_a_packed_layer_computes_the_same(layers, shape):
    linear, packed_linear = layers
    x = torch.randn(shape)
    with torch.no_grad():
        assert_close(packed_linear(x), linear(x))
        assert is_packed(packed_linear)
        coarse = packed_copy(linear, torch.bfloat16)(x)
    assert coarse.dtype == torch.float32
    torch.testing.assert_close(coarse, linear(x).detach(), rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    ("rows", "outputs", "dtype", "has_amx", "is_expected"),
    [
        (7, 20, torch.float32, False, False),  # a small matrix for few rows
        (8, 20, torch.float32, False, True),
        (1, 400, torch.float32, False, True),  # a large one
        (1, 400, torch.float32, True, False),
        (2, 400, torch.float32, True, True),
        (1, 30, torch.bfloat16, True, True),
        (1, 30, torch.float32, False, False),  # a large one with a long sum for each output, for one row
        (2, 30, torch.float32, False, True),
        (1, 20, torch.int8, True, True),  # in int8 a row must not depend on the number of rows
    ],
)
def test_a_copy_is_used_where_it_is_faster(monkeypatch, rows, outputs, dtype, has_amx, is_expected):
    monkeypatch.setattr(packed, "is_faster_packed", is_faster_packed)
    monkeypatch.setattr(packed, "HAS_AMX", has_amx)
    monkeypatch.setattr(packed, "SMALL", 900)
    layer = packed_copy(nn.Linear(33, outputs), dtype)
    with torch.no_grad():
        layer(torch.randn(rows, 33))
    assert is_packed(layer) is is_expected


def added(layer):
    layer.weight.add_(1)


def replaced(layer):
    layer.weight = nn.Parameter(layer.weight + 1)


def data_replaced(layer):
    """Repeats until a new storage has the address of a freed one, so that comparing addresses would fail."""
    address = layer.weight.data_ptr()
    for _ in range(50):
        layer.weight.data = layer.weight + 1
        if layer.weight.data_ptr() == address:
            return


def turned(layer):
    layer.weight = nn.Parameter(layer.weight.detach().T)


def loaded(layer):
    layer.load_state_dict({name: 2 * value for name, value in layer.state_dict().items()})


def to_double_and_back(layer):
    layer.double()
    assert layer.packed_weight.latest is None  # the copy of the old weight is freed
    layer.weight.mul_(3)
    layer.float()


CHANGES = [added, replaced, data_replaced, turned, loaded, to_double_and_back]


@torch.no_grad()
@pytest.mark.parametrize("change", CHANGES)
def test_a_packed_layer_follows_its_weight(change):
    linear = nn.Linear(20, 20)
    layer, x = packed_copy(linear), torch.randn(9, 20)
    before = layer(x)
    change(layer)
    linear.load_state_dict(layer.state_dict())
    assert_close(layer(x), linear(x))
    assert not torch.allclose(layer(x), before)


def test_a_packed_layer_trains(layers):
    linear, packed_linear = layers
    assert dict(packed_linear.named_parameters()).keys() == {"weight", "bias"}
    packed_linear(torch.randn(9, 33)).sum().backward()
    assert linear.weight.grad is not None
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert packed_linear(torch.randn(9, 33)).dtype == torch.bfloat16


def test_a_packed_model_finds_the_same():
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


def test_subclasses_and_small_layers_stay(monkeypatch):
    class Own(nn.Linear):
        pass

    monkeypatch.setattr(packed, "SMALLEST", 400)
    model = nn.Sequential(Own(400, 400), nn.Linear(3, 3), nn.Linear(400, 400))
    pack_linear_layers(model)
    assert [type(layer) for layer in model] == [Own, nn.Linear, PackedLinear]


# Hooks, parametrizations and other things attached to a layer


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


def forward_hook(layer):
    layer.register_forward_hook(lambda _, __, y: 0 * y)


def pre_hook(layer):
    layer.register_forward_pre_hook(lambda _, inputs: (inputs[0] + 1,))


def pre_hook_with_keywords(layer):
    layer.register_forward_pre_hook(lambda _, inputs, __: ((inputs[0] + 1,), {}), with_kwargs=True)


def parametrization(layer):
    parametrize.register_parametrization(layer, "weight", Doubled())


def parametrized_bias(layer):
    parametrize.register_parametrization(layer, "bias", Doubled())


def weight_norm(layer):
    nn.utils.parametrizations.weight_norm(layer)
    layer.parametrizations.weight.original0.mul_(2)


def spectral_norm(layer):
    nn.utils.parametrizations.spectral_norm(layer)


def old_weight_norm(layer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        nn.utils.weight_norm(layer)
    layer.weight_g.mul_(2)


def old_spectral_norm(layer):
    nn.utils.spectral_norm(layer)


def pruning(layer):
    prune.l1_unstructured(layer, "weight", 0.5)


def own_forward(layer):
    layer.forward = lambda x: 3 * nn.functional.linear(x, layer.weight)


ATTACHMENTS = [
    *(forward_hook, pre_hook, pre_hook_with_keywords, parametrization, parametrized_bias, weight_norm),
    *(spectral_norm, old_weight_norm, old_spectral_norm, pruning, own_forward),
]


@torch.no_grad()
@pytest.mark.parametrize("attach", ATTACHMENTS)
@pytest.mark.parametrize("when", ["before", "after", "after a call"])
def test_what_is_attached_to_a_layer_has_its_effect(attach, when):
    linear, x = nn.Linear(33, 20), torch.randn(9, 33)
    layer, plain = copy.deepcopy(linear), linear(x)
    if when != "before":
        pack_linear_layers(layer)
    if when == "after a call":
        layer(x)
    for each in (linear, layer):
        torch.manual_seed(1)  # spectral norm starts from a random vector
        attach(each.eval())
    pack_linear_layers(layer)
    for factor in (1, 2):
        x = factor * x
        assert_close(layer(x), linear(x))
    assert not torch.allclose(linear(x / 2), plain)
    with torch.enable_grad():
        assert_close(layer(x), linear(x))


def test_a_parametrization_can_be_removed_again(layers):
    linear, layer = layers
    x = torch.randn(9, 33)
    with torch.no_grad():
        expected, _ = 2 * (linear(x) - linear.bias) + linear.bias, layer(x)
        parametrization(layer)
        parametrize.remove_parametrizations(layer, "weight")
        assert type(layer) is PackedLinear
        assert_close(layer(x), expected)
        assert is_packed(layer)


def test_a_backward_hook_is_called(layers):
    called = []
    layers[1].register_full_backward_hook(lambda *_: called.append("full"))
    layers[1].weight.register_hook(lambda _: called.append("weight"))
    layers[1](torch.randn(9, 33, requires_grad=True)).sum().backward()
    assert sorted(called) == ["full", "weight"]


def test_a_layer_stays_the_object_that_it_is():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(20, 20)
            self.second = self.again = self.first
            self.listed = [self.first]
            self.first.dtype, self.first.note = "own", "kept"

    model = Pair()
    shared, parameters = model.first, dict(model.named_parameters())
    pack_linear_layers(model)
    assert model.first is model.second is model.again is model.listed[0] is shared
    assert type(shared) is PackedLinear
    assert (shared.dtype, shared.note) == ("own", "kept")
    assert all(value is parameters[name] for name, value in model.named_parameters())


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # torch's own use
def test_a_packed_layer_has_a_forward_derivative(layers):
    linear, layer = layers
    x, tangent = torch.randn(9, 33), torch.randn(9, 33)
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(layer(forward_ad.make_dual(x, tangent)))
    assert_close(found.tangent, tangent @ linear.weight.T)


def test_other_weights_than_a_float32_parameter_are_not_packed(layers):
    linear, layer = layers
    x = torch.randn(9, 33)
    with torch.no_grad():
        doubled = {name: 2 * value for name, value in layer.named_parameters()}
        assert_close(torch.func.functional_call(layer, doubled, x), 2 * linear(x))
        assert layer.double()(x.double()).dtype == torch.float64
    with torch.inference_mode():
        made_there = packed_copy(nn.Linear(33, 20))
        before = made_there(x)
        made_there.weight.add_(1)
        assert not torch.allclose(made_there(x), before)


# Loaded models


def test_a_hook_of_a_builder_has_its_effect_in_a_loaded_model(tiny_run):
    def build(config):
        model = build_model(config)
        model.decoder.blocks[0].self_attention.w_o.register_forward_hook(lambda _, __, y: 0 * y)
        return model

    source, target = torch.tensor([[5, 6, 7, 8, 2]]), torch.tensor([[1, 5, 6, 7, 8, 9, 10, 11, 12]])
    for precision in ("float32", "bfloat16"):
        load = partial(Translator.from_pretrained, tiny_run, device="cpu", precision=precision)
        with torch.no_grad():
            hooked = load(build=build).model(source, target)
            model = load().model
            assert type(model.decoder.blocks[0].self_attention.w_o) is PackedLinear
            assert not torch.allclose(hooked, model(source, target))
            model.decoder.blocks[0].self_attention.w_o.weight.zero_()
            assert_close(hooked, model(source, target))


def test_layers_with_parametrizations_load_and_translate_as_they_were_trained(tmp_path):
    """With the old and the new weight norm, `weight` is computed and not a parameter."""

    def build(config):
        model = build_model(config)
        block = model.decoder.blocks[0]
        for layer in (block.self_attention.w_k, block.feed_forward.w_1):
            nn.utils.parametrizations.weight_norm(layer)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            nn.utils.weight_norm(block.self_attention.w_v)
        return model

    run = train(tiny_settings(tmp_path / "normed", max_steps=2), build=build)
    lines = ["The old man sleeps .", "A dog"]
    translator = Translator.from_pretrained(run, build=build, device="cpu")
    frozen = translator.translate_n_best(lines, n_best=2)
    model = load_run(run, task="translation", build=build, device="cpu").model
    plain = Translator(
        model, translator.tokenizer, model_config=translator.config, decoding=translator.decoding
    )
    expected = plain.translate_n_best(lines, n_best=2)
    for row, right in zip(frozen, expected, strict=True):
        assert [found.tokens for found in row] == [found.tokens for found in right]
        assert_close([found.score for found in row], [found.score for found in right])


def test_weights_that_hooks_compute_follow_a_model_to_another_type():
    model, tokens = tiny_model(kind="decoder_only"), torch.tensor([[5, 6, 7]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        for block in model.decoder.blocks:
            nn.utils.weight_norm(block.self_attention.w_k)
    model.double()
    with torch.no_grad():
        logits, _ = model.prefill(tokens, max_length=2)
        assert_close(logits, model(tokens)[:, -1])
