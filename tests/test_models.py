"""The three variants: which tokens each output depends on, shapes, types and dropout.

The laws that every model must satisfy (batching, padding, gradients) are in `transformer.testing`;
`test_contract.py` tests them on the same models.
"""

import os
import subprocess
from pathlib import Path

import pytest
import torch
from fork_server import python
from helpers import (
    VARIANTS,
    assert_close,
    random_rows,
    right_padded,
    tiny_model,
)
from torch import Tensor, nn

from transformer.decoding.inference import freeze
from transformer.model.attention import MultiHeadAttention
from transformer.model.recording import without_head

KINDS = ["encoder_decoder", "decoder_only", "encoder_only"]
variants = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)


def embeddings_of(embedding: nn.Module) -> list[Tensor]:
    """A list to which each output of this embedding will be appended, with its gradient retained."""
    seen: list[Tensor] = []

    def keep(*call):
        call[-1].retain_grad()
        seen.append(call[-1])

    embedding.register_forward_hook(keep)
    return seen


def random_sum(x: Tensor) -> Tensor:
    """A number that depends on every entry; the plain sum of a LayerNorm's output is constant."""
    return (x * torch.randn_like(x)).sum()


def is_zero(gradient: Tensor) -> Tensor:
    return (gradient == 0).all(dim=-1)


@variants
@pytest.mark.parametrize("kind", ["encoder_decoder", "decoder_only"])
def test_the_future_cannot_change_the_past(kind, variant):
    """Output t depends on all tokens up to t, and on none after it."""
    model = tiny_model(kind=kind, **variant)
    seen = embeddings_of(model.decoder.embedding)
    reaches = []
    for t in range(5):
        random_sum(call(model, right_padded(random_rows(4)), right_padded(random_rows(5)))[:, t]).backward()
        reaches.append(~is_zero(seen[t].grad[0]))
    assert torch.equal(torch.stack(reaches), torch.ones(5, 5).tril().bool())


@variants
def test_every_position_of_an_encoder_sees_every_other(variant):
    model = tiny_model(kind="encoder_only", **variant)
    for t in range(4):
        seen = embeddings_of(model.embedding)
        random_sum(model(right_padded(random_rows(4)))[:, t]).backward()
        assert not is_zero(seen[0].grad).any()


@variants
def test_pads_of_a_source_reach_no_logit(variant):
    model = tiny_model(**variant)
    seen = embeddings_of(model.encoder.embedding)
    source = right_padded(random_rows(6, 3))
    random_sum(model(source, right_padded(random_rows(5, 5)))).backward()
    assert torch.equal(is_zero(seen[0].grad), source == 0)


@variants
def test_pads_reach_no_real_position_of_an_encoder(variant):
    model = tiny_model(kind="encoder_only", **variant)
    seen = embeddings_of(model.embedding)
    tokens = right_padded(random_rows(6, 3))
    random_sum(model(tokens)[tokens != 0]).backward()
    assert torch.equal(is_zero(seen[0].grad), tokens == 0)


def call(model, source, target):
    return model(source, target) if hasattr(model, "encoder") else model(target)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_rows_does_not_matter(kind):
    model = tiny_model(kind=kind)
    source, target = right_padded(random_rows(6, 1, 4)), right_padded(random_rows(3, 5, 1))
    order = torch.tensor([2, 0, 1])
    assert_close(call(model, source[order], target[order]), call(model, source, target)[order])


@pytest.mark.parametrize("kind", KINDS)
def test_another_pad_id_is_as_good(kind):
    """With another `pad_id`, real positions get the same logits."""
    model = tiny_model(kind=kind, tie_embeddings=False)
    other = tiny_model(kind=kind, tie_embeddings=False, pad_id=9, unk_id=0)
    other.load_state_dict(model.state_dict())
    source, target = (right_padded(random_rows(*lengths, vocab_size=9)) for lengths in ((6, 2), (3, 5)))
    real = target != 0
    exchanged = [tokens.masked_fill(tokens == 0, 9) for tokens in (source, target)]
    assert_close(call(other, *exchanged)[real], call(model, source, target)[real])


@pytest.mark.parametrize("kind", KINDS)
def test_forward_gives_the_promised_shape(kind):
    width = 16 if kind == "encoder_only" else 13
    output = call(tiny_model(kind=kind), right_padded(random_rows(6, 2)), right_padded(random_rows(3, 5)))
    assert output.shape == (2, 5, width)
    assert output.dtype == torch.float32


@variants
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_without_rows_gives_outputs_without_rows(kind, variant):
    width = 16 if kind == "encoder_only" else 13
    model, tokens = tiny_model(kind=kind, **variant), torch.empty(0, 5, dtype=torch.long)
    for is_training in (True, False):
        output = call(model.train(is_training), tokens[:, :3], tokens)
        assert output.shape == (0, 5, width)
        for gradient in torch.autograd.grad(output.sum(), list(model.parameters())):
            assert not gradient.any()


@torch.no_grad()
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_frozen_model_takes_a_batch_without_rows(kind, precision, monkeypatch):
    monkeypatch.setattr("transformer.kernels.linear.SMALLEST", 1)  # packs even tiny matrices
    monkeypatch.setattr("transformer.model.projections.SMALL", 1)
    model, tokens = tiny_model(kind=kind), torch.empty(0, 5, dtype=torch.long)
    expected = call(model, tokens[:, :3], tokens)
    freeze(model, precision)
    assert_close(call(model, tokens[:, :3], tokens), expected)


def test_a_head_of_a_batch_without_rows_can_be_switched_off():
    attention, x = MultiHeadAttention(16, 2), torch.empty(0, 5, 16)
    with without_head(attention, 1):
        assert attention(x, attention.project_kv(x)).shape == x.shape


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["dropout", "attention_dropout", "activation_dropout"])
def test_dropout_acts_in_training_only(where, kind):
    model = tiny_model(kind=kind, **{where: 0.3})
    source, target = right_padded(random_rows(6, 4)), right_padded(random_rows(5, 3))
    assert torch.equal(call(model, source, target), call(model, source, target))
    model.train()
    assert not torch.equal(call(model, source, target), call(model, source, target))


@pytest.mark.parametrize("kind", KINDS)
def test_torch_func_computes_the_gradients_of_each_row(kind):
    # untied, because torch's functional_call does not restore a module that is used twice
    model = tiny_model(kind=kind, tie_embeddings=False)
    parameters = {name: each.detach() for name, each in model.named_parameters()}
    tokens = right_padded(random_rows(6, 4, 6))

    def loss(parameters, row):
        rows = (row[None],) * (2 if kind == "encoder_decoder" else 1)
        return torch.func.functional_call(model, parameters, rows).square().sum()

    found = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, tokens)
    for row in range(len(tokens)):
        alone = torch.func.grad(loss)(parameters, tokens[row])
        for name, gradient in alone.items():
            assert_close(found[name][row], gradient, rtol=1e-4, atol=1e-4)


def test_encode_gives_the_memory_and_its_mask():
    model = tiny_model()
    source, target = right_padded(random_rows(6, 4)), right_padded(random_rows(5, 3))
    memory, mask = model.encode(source)
    assert torch.equal(memory, model.encoder(source))
    assert torch.equal(mask, (source != 0)[:, None, None])
    assert torch.equal(model.decode(target, memory, mask), model(source, target))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_model_runs_in_the_type_it_is_turned_into(dtype, kind):
    model = tiny_model(kind=kind)
    source, target = right_padded(random_rows(6, 4)), right_padded(random_rows(5, 3))
    expected = call(model, source, target)
    output = call(model.to(dtype), source, target)
    assert output.dtype == dtype
    torch.testing.assert_close(output.float(), expected, rtol=0.1, atol=0.2)


TRACED = """
import sys
import torch
from helpers import random_rows, right_padded, tiny_model
model, graphs = tiny_model(kind=sys.argv[1]), []
def keep(graph, _):
    graphs.append(graph)
    return graph
traced = torch.compile(model, backend=keep, fullgraph=True, dynamic=True)
for source, target in [([6, 4], [5, 3]), ([7, 2, 5], [4, 6, 3])]:
    inputs = [right_padded(random_rows(*target))]
    if sys.argv[1] == "encoder_decoder":
        inputs.insert(0, right_padded(random_rows(*source)))
    torch.testing.assert_close(traced(*inputs), model(*inputs))
assert len(graphs) == 1, graphs
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_forward_is_one_graph_for_every_size(kind):
    """No graph breaks and no recompilation. Runs in a separate process without the run-time shape checks."""
    tests = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests)])}
    command = [python(), "-c", TRACED, kind]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
