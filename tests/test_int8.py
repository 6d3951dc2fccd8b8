"""Products of 8-bit integers: the same as with rounded numbers, row by row."""

import os
import platform
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from helpers import assert_close, tiny_config, tiny_model
from test_commands import Streams
from torch import nn

from transformer.config import Settings
from transformer.decoding import inference
from transformer.decoding.inference import freeze, inference_dtype, padded_rows
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
from transformer.model.build import build_model
from transformer.trained import load_pretrained

needs_int8 = pytest.mark.skipif(not has_int8_products(), reason="this CPU has no fast int8 products")


@pytest.fixture
def call(monkeypatch):
    return Streams(monkeypatch)


def random_layer(width=300, outputs=70):
    """Weights and rows of very different sizes, as one scale for all of them would show."""
    weight = torch.randn(outputs, width) * torch.logspace(-3, 3, outputs)[:, None]
    x = torch.randn(9, width) * torch.logspace(-4, 4, 9)[:, None]
    return weight, torch.randn(outputs), x


@needs_int8
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


@needs_int8
def test_a_batch_equals_its_rows_exactly():
    weight, bias, x = random_layer()
    copy = quantized_weight(weight)
    together = int8_linear(x, copy, bias)
    for row in range(len(x)):
        assert torch.equal(int8_linear(x[row], copy, bias), together[row])
    assert torch.equal(int8_linear(x.view(3, 3, -1), copy, bias), together.view(3, 3, -1))


@needs_int8
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


@needs_int8
@torch.no_grad()
def test_an_int8_layer_follows_its_weight_and_ignores_the_number_of_rows():
    layer = nn.Linear(40, 20)
    pack(layer, torch.int8)
    x = torch.randn(12, 40)
    assert_close(layer(x), dequantized_linear(x, layer.weight, layer.bias))
    layer.weight.mul_(3)
    assert_close(layer(x), dequantized_linear(x, layer.weight, layer.bias))
    assert torch.equal(layer(x[:1]), layer(x)[:1])


@needs_int8
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
    assert (packed_too.matrix is None) == has_amx  # kept only if it is read
    for rows in (1, 2, 9, 100):
        assert torch.equal(int8_linear(x[:rows], packed_too, bias), int8_linear(x[:rows], plain, bias))


@needs_int8
@pytest.mark.parametrize("width", [1, 2, 15, 17])
@pytest.mark.parametrize("outputs", [1, 3, 16])
def test_narrow_layers_are_exact(width, outputs):
    weight, x = torch.randn(outputs, width), torch.randn(5, width)
    assert_close(int8_linear(x, quantized_weight(weight), None), dequantized_linear(x, weight, None))


# Whole models


@pytest.fixture
def model(monkeypatch):
    """A tiny model frozen in int8, all of whose layers are large enough."""
    monkeypatch.setattr(linear, "SMALLEST", 1)
    monkeypatch.setattr(projections, "SMALL", 1)
    model = tiny_model()
    freeze(model, "int8")
    return model


@pytest.fixture(params=["sinusoidal", "learned"])
def translator(request, tiny_run, monkeypatch):
    """A translator with random weights, all of whose layers compute in int8."""
    monkeypatch.setattr(linear, "SMALLEST", 1)
    monkeypatch.setattr(projections, "SMALLEST", 1)
    loaded = load_pretrained(tiny_run)
    config = replace(loaded.settings.model, positions=request.param, max_positions=60)
    model = build_model(config).eval()
    freeze(model, "int8")
    return Translator(model, loaded.tokenizer, model_config=config, decoding=loaded.settings.decoding)


LINES = [" ".join(["the dog sleeps", *["very well"] * count]) for count in (0, 1, 2, 5, 0, 8, 3)]


@needs_int8
def test_a_sentence_does_not_depend_on_the_other_sentences_of_its_batch(translator):
    """To the last digit, although the others are shorter or longer."""
    targets = LINES[::-1]
    pairs = list(zip(LINES, targets, strict=True))
    assert translator.score(LINES, targets) == [translator.score([a], [b])[0] for a, b in pairs]
    together = translator.translate_n_best(LINES, beam_size=3, n_best=2)
    assert together == [translator.translate_n_best([line], beam_size=3, n_best=2)[0] for line in LINES]


@needs_int8
@pytest.mark.parametrize("length", [1, 15, 16, 17, 48, 59, 60])
def test_padding_does_not_exceed_the_number_of_learned_positions(translator, length):
    width = padded_rows(translator.model, [[5] * length]).shape[1]
    assert length <= width
    assert width % 16 == 0 or width == 60
    assert width <= 60 or translator.config.positions == "sinusoidal"


@needs_int8
@torch.no_grad()
@pytest.mark.parametrize("d_model", [208, 216, 256])
def test_a_hook_does_not_decide_whether_a_projection_is_rounded(d_model):
    """A hook on w_q switches from the joined product to three products."""
    model = build_model(tiny_config(d_model=d_model)).eval()
    freeze(model, "int8")
    tokens = torch.tensor([[5, 7, 3, 2]])
    before = model(tokens, tokens)
    for block in [*model.encoder.blocks, *model.decoder.blocks]:
        block.self_attention.w_q.register_forward_hook(lambda *_: None)
    assert_close(model(tokens, tokens), before)


@needs_int8
@torch.no_grad()
@pytest.mark.parametrize("second", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("first", ["float32", "bfloat16", "int8"])
def test_a_model_can_be_frozen_again_in_another_precision(first, second, monkeypatch):
    for module in (linear, projections):
        monkeypatch.setattr(module, "SMALLEST", 1)
        monkeypatch.setattr(module, "SMALL", 1)
    model, tokens = tiny_model(), torch.tensor([[5, 7, 3, 2]])
    once = deepcopy(model)
    freeze(once, second)
    freeze(model, first)
    freeze(model, second)
    assert torch.equal(model(tokens, tokens), once(tokens, tokens))


@needs_int8
@torch.no_grad()
def test_int8_is_close_to_float32(model):
    tokens = torch.tensor([[5, 7, 3, 2]])
    found = model(tokens, tokens)
    exact = tiny_model()
    exact.load_state_dict(model.state_dict())
    expected = exact(tokens, tokens)
    assert 0 < (found - expected).abs().max() < 0.1 * expected.abs().max()


@pytest.mark.parametrize(("precision", "named"), [("int8", "VNNI"), ("bfloat16", "AVX-512")])
def test_a_cpu_without_the_instructions_computes_in_float32_and_says_so(
    precision, named, monkeypatch, capsys
):
    monkeypatch.setattr(inference, "has_packed_products", lambda dtype: dtype == torch.float32)
    model, tokens = tiny_model(), torch.tensor([[5, 7, 3, 2]])
    expected = model(tokens, tokens)
    freeze(model, precision)
    assert_close(model(tokens, tokens), expected)
    [line] = capsys.readouterr().err.splitlines()
    assert named in line
    assert line.endswith(f"computing in float32, not {precision}")


@torch.no_grad()
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_a_torch_without_onednn_computes_in_float32(precision, monkeypatch):
    def missing(*_):
        raise AttributeError("torch was built without this operator")

    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(
        inference, "has_packed_products", linear.has_packed_products.__wrapped__
    )  # not cached
    for name in ("packed_copy", "packed_linear", "packed_product"):
        monkeypatch.setattr(linear, name, missing)
    for name in ("packed_copy", "packed_linear"):
        monkeypatch.setattr(projections, name, missing)
    monkeypatch.setattr(projections, "SMALL", 1)
    model, tokens = build_model(tiny_config(d_model=256)).eval(), torch.tensor([[5, 7, 3, 2]])
    expected = model(tokens, tokens)
    freeze(model, precision)
    assert_close(model(tokens, tokens), expected)


@needs_int8
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="these instructions are x86's")
def test_instructions_that_onednn_may_not_use_are_not_used():
    """The user can forbid oneDNN the instructions that make int8 exact and bfloat16 possible."""
    program = (
        "import torch; from transformer.decoding.inference import inference_dtype; "
        "print(*(inference_dtype(each, torch.device('cpu')) for each in ('int8', 'bfloat16')))"
    )
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert found.stdout.split() == ["torch.float32", "torch.float32"]
    assert found.stderr.count("computing in float32") == 2


def test_int8_is_only_for_cpus_and_only_where_it_is_asked_for():
    with pytest.raises(ValueError, match="'int8', which is for CPUs; on cuda choose float32"):
        inference_dtype("int8", torch.device("cuda"))
    assert inference_dtype("auto", torch.device("cpu")) != torch.int8


def test_training_refuses_int8():
    with pytest.raises(ValueError, match="precision is 'int8'"):
        Settings(precision="int8")


@needs_int8
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
