"""Exported and traced models work for any batch size and length, not only for those of the example input."""

import os
import subprocess
from pathlib import Path

import pytest
from fork_server import python
from helpers import VARIANTS

# Runs in a separate process without the run-time shape checks, because tracing breaks them.
EXPORTED = """
import sys
import warnings

import torch
from helpers import VARIANTS, random_rows, right_padded, tiny_model
from torch import nn
from torch.export import Dim, export

from transformer.kernels import linear as packed
from transformer.decoding.inference import freeze
from transformer.model.heads import MaskedLanguageModel, SentenceEmbedder, SequenceClassifier

packed.SMALLEST = packed.SMALL = 1
warnings.simplefilter("error", torch.jit.TracerWarning)  # warns when a size becomes a constant


class Decoder(nn.Module):
    '''The decoder alone, as an exported search would call it with the memory computed once.'''

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, memory, mask, tokens):
        return self.model.decode(tokens, memory, mask)


def tokens(*lengths):
    return right_padded(random_rows(*lengths))


def check(model, example, others):
    # (batch, length, ...), or a mask, (batch, 1, 1, length)
    dynamic = tuple({0: Dim.DYNAMIC, 3 if part.dim() == 4 else 1: Dim.DYNAMIC} for part in example)
    exported = export(model, example, dynamic_shapes=dynamic).module()
    with torch.no_grad():
        traced_without_gradients = torch.jit.trace(model, example)
    for compute in (exported, torch.jit.trace(model, example), traced_without_gradients):
        for inputs in (example, *others):
            torch.testing.assert_close(compute(*inputs), model(*inputs), rtol=1e-5, atol=1e-5)


SIZES = [((5, 3), (6, 4)), ((7, 7, 2, 9), (4, 1, 8, 2)), ((1,), (11,)), ((4, 4), (3, 3))]
variants = sys.argv[1:]
for kind in ("encoder_decoder", "decoder_only", "encoder_only"):
    inputs = [(tokens(*source), tokens(*target)) for source, target in SIZES]
    inputs = inputs if kind == "encoder_decoder" else [pair[:1] for pair in inputs]
    for name in variants:
        model = tiny_model(kind=kind, **VARIANTS[name])
        check(model, inputs[0], inputs[1:])
    if "paper" in variants:  # the quick test
        training = tiny_model(kind=kind, dropout=0.5, attention_dropout=0.5, activation_dropout=0.5).train()
        traced = torch.jit.trace(training, inputs[0], check_trace=False)
        assert not torch.equal(traced(*inputs[1]), traced(*inputs[1]))  # dropout is drawn again in each call
        continue
    freeze(model)
    check(model, inputs[0], inputs[1:])
    if kind == "encoder_decoder":
        given = [(*model.encode(source), target) for source, target in inputs]
        check(Decoder(model), given[0], given[1:])
    if kind == "encoder_only":
        filler = MaskedLanguageModel(model, nn.Linear(16, 13))
        for head in (filler, SequenceClassifier(model, 3), SentenceEmbedder(model)):
            check(head.eval(), inputs[0], inputs[1:])
"""


def run(*variants):
    tests = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests)])}
    command = [python(), "-c", EXPORTED, *variants]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_an_exported_or_traced_model_serves_any_batch_and_length():
    run("paper")


@pytest.mark.slow
def test_so_does_every_variant_and_every_use_of_an_encoder():
    """Learned positions are excluded: their number is fixed, and a traced graph cannot check the limit."""
    run(*(name for name in VARIANTS if name not in ("paper", "learned")))
