"""The model compared with `torch.nn`'s layers and with the paper's equations in NumPy."""

import itertools

import numpy as np
import pytest
import torch
from helpers import assert_close, random_rows, right_padded, tiny_model

from transformer.testing.parity import torch_layers
from transformer.testing.parity.numpy_reference import NumpyTransformer

CPU = torch.device("cpu")
layers = pytest.mark.parametrize(
    ("residual", "activation"),
    list(itertools.product(torch_layers.RESIDUALS, torch_layers.ACTIVATIONS)),
)


@pytest.mark.parametrize("parity", [torch_layers.equation_against_kernel, torch_layers.multi_head_attention])
def test_attention_equals_torch(parity):
    for comparison in parity(CPU):
        assert_close(comparison.actual, comparison.expected)


@layers
def test_an_encoder_layer_equals_torch(residual, activation):
    comparison = torch_layers.encoder_layer(residual, activation, CPU)
    assert_close(comparison.actual, comparison.expected)


@layers
def test_a_decoder_layer_equals_torch(residual, activation):
    comparison = torch_layers.decoder_layer(residual, activation, CPU)
    assert_close(comparison.actual, comparison.expected)


@pytest.mark.parametrize("widths", [{}, {"d_k": 5, "d_v": 3}], ids=["equal widths", "free widths"])
def test_the_model_equals_the_papers_equations(widths):
    model = tiny_model(**widths)
    by_hand = NumpyTransformer(model, num_heads=2, num_layers=2)
    sources, targets = random_rows(7, 4, 1), random_rows(5, 6, 1)
    with torch.no_grad():
        logits = model(right_padded(sources), right_padded(targets)).double().numpy()
    for source, target, ours in zip(sources, targets, logits, strict=True):
        np.testing.assert_allclose(ours[: len(target)], by_hand(source, target), rtol=1e-5, atol=1e-5)
