"""Products of 8-bit integers: the same as with rounded numbers, row by row."""

import pytest
import torch
from helpers import assert_close, random_rows, tiny_model
from test_commands import Streams
from torch import nn

from transformer.config import Settings
from transformer.decoding import inference
from transformer.decoding.beam import beam_search
from transformer.decoding.inference import freeze, inference_dtype
from transformer.decoding.translator import Translator
from transformer.kernels import int8, linear
from transformer.kernels.int8 import (
    as_quantized,
    dequantized_linear,
    has_int8_products,
    int8_linear,
    quantized_weight,
)
from transformer.kernels.linear import pack
from transformer.model import projections

pytestmark = pytest.mark.skipif(not has_int8_products(), reason="this CPU has no fast int8 products")


@pytest.fixture
def call(monkeypatch):
    return Streams(monkeypatch)


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


@pytest.mark.parametrize("has_amx", [False, True])
def test_both_operators_give_the_same_numbers(monkeypatch, has_amx):
    monkeypatch.setattr(int8, "HAS_AMX", has_amx)
    weight, bias, x = random_layer()
    plain = quantized_weight(weight)
    monkeypatch.setattr(int8, "LARGE", 1)
    packed_too = quantized_weight(weight)
    assert plain.packed is None
    assert packed_too.packed is not None
    x = torch.cat([x] * 20)
    for rows in (1, 2, 9, 100):
        assert torch.equal(int8_linear(x[:rows], packed_too, bias), int8_linear(x[:rows], plain, bias))


# Whole models


@pytest.fixture
def model(monkeypatch):
    """A tiny model frozen in int8, all of whose layers are large enough."""
    monkeypatch.setattr(linear, "SMALLEST", 1)
    monkeypatch.setattr(projections, "SMALL", 1)
    model = tiny_model()
    freeze(model, "int8")
    return model


@torch.no_grad()
def test_a_batch_of_sentences_equals_its_sentences(model):
    """Within a rounding step: attention in float32 may round the last digit of a number the other way."""
    rows = random_rows(5, 5, 5, 5, 5, 5)
    src_tokens = torch.tensor(rows)
    options = {"beam_size": 3, "alpha": 0.6, "max_length": 8}
    together = beam_search(model, src_tokens, **options)
    for row in range(len(rows)):
        alone = beam_search(model, src_tokens[row : row + 1], **options)
        length = int(alone.lengths[0, 0])
        assert torch.equal(alone.tokens[0, 0], together.tokens[row, 0, :length])
        assert_close(alone.scores[0], together.scores[row], rtol=1e-2, atol=1e-2)


@torch.no_grad()
def test_int8_is_close_to_float32(model):
    tokens = torch.tensor([[5, 7, 3, 2]])
    found = model(tokens, tokens)
    exact = tiny_model()
    exact.load_state_dict(model.state_dict())
    expected = exact(tokens, tokens)
    assert 0 < (found - expected).abs().max() < 0.1 * expected.abs().max()


def test_a_cpu_without_the_instructions_computes_in_float32_and_says_so(monkeypatch, capsys):
    monkeypatch.setattr(inference, "has_int8_products", lambda: False)
    model, tokens = tiny_model(), torch.tensor([[5, 7, 3, 2]])
    expected = model(tokens, tokens)
    freeze(model, "int8")
    assert_close(model(tokens, tokens), expected)
    [line] = capsys.readouterr().err.splitlines()
    assert "VNNI" in line
    assert "float32" in line


def test_int8_is_only_for_cpus_and_only_where_it_is_asked_for():
    with pytest.raises(ValueError, match="'int8', which is for CPUs; on cuda choose float32"):
        inference_dtype("int8", torch.device("cuda"))
    assert inference_dtype("auto", torch.device("cpu")) != torch.int8


def test_training_refuses_int8():
    with pytest.raises(ValueError, match="precision is 'int8'"):
        Settings(precision="int8")


def test_translate_and_score_take_int8(call, tiny_run):
    translator = Translator.from_pretrained(tiny_run, device="cpu", precision="int8")
    [expected] = translator.translate(["the dog sleeps ."])
    options = ["--run", str(tiny_run), "--device", "cpu", "--precision", "int8"]
    code, out, _ = call("translate", *options, given=b"the dog sleeps .\n")
    assert (code, out.decode()) == (0, f"{expected}\n")
    [score] = translator.score(["the dog"], ["der Hund"])
    code, out, _ = call("score", *options, given=b"the dog\tder Hund\n")
    assert (code, out.decode()) == (0, f"{score.total:.4f}\n")


def test_commands_refuse_int8_where_it_is_not_possible(call, tiny_run):
    code, _, err = call("train", "--config", str(tiny_run / "config.yaml"), "--precision", "int8")
    assert code == 2
    assert err.count("\n") == 1
    assert "expected one of auto, float32, bfloat16, float16, found 'int8'" in err
