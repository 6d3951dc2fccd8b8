"""Observing a forward pass with hooks: the records are the model's numbers, and its output is unchanged."""

import pytest
import torch
from helpers import VARIANTS, assert_close, random_rows, right_padded, tiny_model

from transformer.model.attention import MultiHeadAttention
from transformer.model.layers import PreNorm
from transformer.model.recording import (
    record_attention,
    record_calls,
    record_scores,
    record_sublayers,
    without_head,
)

NAMES = {
    "encoder_decoder": [
        *(f"encoder.blocks.{i}.self_attention" for i in range(2)),
        *(f"decoder.blocks.{i}.{which}_attention" for i in range(2) for which in ("self", "cross")),
    ],
    "decoder_only": ["decoder.blocks.0.self_attention", "decoder.blocks.1.self_attention"],
    "encoder_only": ["blocks.0.self_attention", "blocks.1.self_attention"],
}


def some_inputs(kind):
    source, target = right_padded(random_rows(6, 4)), right_padded(random_rows(5, 3))
    return (source, target) if kind == "encoder_decoder" else (source,)


@pytest.mark.parametrize("kind", NAMES)
def test_recording_names_every_layer_and_changes_nothing(kind):
    model, inputs = tiny_model(kind=kind), some_inputs(kind)
    before = model(*inputs)
    with record_attention(model) as weights:
        assert torch.equal(model(*inputs), before)
    assert sorted(weights) == sorted(NAMES[kind])
    for recorded in weights.values():
        assert_close(recorded.sum(dim=-1), torch.ones(recorded.shape[:3]))
        assert not recorded.requires_grad


def test_recorded_weights_have_the_shape_of_queries_by_keys():
    model = tiny_model()
    with record_attention(model) as weights:
        model(*some_inputs("encoder_decoder"))
    assert weights["encoder.blocks.0.self_attention"].shape == (2, 2, 6, 6)
    assert weights["decoder.blocks.1.self_attention"].shape == (2, 2, 5, 5)
    assert weights["decoder.blocks.1.cross_attention"].shape == (2, 2, 5, 6)
    assert (weights["decoder.blocks.1.cross_attention"][1, :, :, 4:] == 0).all()  # the second source's pads
    assert (weights["decoder.blocks.1.self_attention"].triu(diagonal=1) == 0).all()


def test_recording_ends_with_its_block():
    model, inputs = tiny_model(), some_inputs("encoder_decoder")
    with record_attention(model) as weights:
        pass
    model(*inputs)
    assert weights == {}
    with pytest.raises(RuntimeError, match="from inside"), record_attention(model):
        raise RuntimeError("from inside")
    with record_scores(model), record_sublayers(model), record_calls(model):
        model(*inputs)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


def test_recording_follows_a_cached_decode():
    """The weights recorded in a decoding step equal the last row of those from a full forward pass."""
    model = tiny_model()
    source, target = right_padded(random_rows(6, 4)), torch.tensor(random_rows(4, 4, first=1))
    with record_attention(model) as whole:
        model(source, target)
    _, state = model.prefill(source, max_length=4)
    with record_attention(model) as last:
        for t in range(1, 4):
            model.step(target[:, t], state)
    for name in last:
        assert_close(last[name], whole[name][:, :, -1:])


def test_scores_are_what_the_softmax_of_equation_1_gets():
    model = tiny_model()
    with record_attention(model) as weights, record_scores(model) as scores:
        model(*some_inputs("encoder_decoder"))
    assert scores.keys() == weights.keys()
    for name, found in scores.items():
        hidden = found.masked_fill(weights[name] == 0, -torch.inf)
        assert_close(hidden.softmax(dim=-1), weights[name])


def test_modules_with_a_formula_of_their_own_have_weights_and_no_scores():
    class Uniform(MultiHeadAttention):
        def weights(self, x, kv, **_):
            shape = (*kv.keys.shape[:2], x.shape[1], kv.keys.shape[2])
            return torch.full(shape, 1 / shape[-1])

    module = Uniform(8, 2)
    x = torch.randn(1, 3, 8)
    with record_attention(module) as weights, record_scores(module) as scores:
        module(x, module.project_kv(x))
    assert_close(weights[""], torch.full((1, 2, 3, 3), 1 / 3))
    assert scores == {}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_sublayers_are_recorded_in_order_and_add_up(changes):
    model, inputs = tiny_model(**changes), some_inputs("encoder_decoder")
    before = model(*inputs)
    with record_sublayers(model) as found:
        assert torch.equal(model(*inputs), before)
    names = [name.replace("around_", "") for name in found]
    assert names[:2] == ["encoder.blocks.0.self_attention", "encoder.blocks.0.feed_forward"]
    assert names[-3:] == [
        f"decoder.blocks.1.{part}" for part in ("self_attention", "cross_attention", "feed_forward")
    ]
    assert len(names) == 2 * 2 + 2 * 3
    for name, sublayer in found.items():
        residual = model.get_submodule(name)
        total = sublayer.input + sublayer.update
        assert_close(sublayer.output, total if isinstance(residual, PreNorm) else residual.norm(total))
        assert not sublayer.output.requires_grad
    for first, second in zip(list(found)[4:], list(found)[5:], strict=False):
        assert torch.equal(found[first].output, found[second].input)


def test_calls_are_recorded_by_shape():
    model = tiny_model()
    with record_calls(model) as calls:
        model(*some_inputs("encoder_decoder"))
    assert calls["encoder.embedding"] == ("TokenEmbedding", (2, 6), (2, 6, 16))
    assert calls["decoder.blocks.1.feed_forward.w_1"] == ("Linear", (2, 5, 16), (2, 5, 24))
    assert calls["output"] == ("Linear", (2, 5, 16), (2, 5, 13))


@pytest.mark.parametrize("head", [0, 1])
def test_without_a_head_its_values_count_as_zero(head):
    model, inputs = tiny_model(), some_inputs("encoder_decoder")
    module = model.decoder.blocks[1].cross_attention
    whole = model(*inputs)
    with without_head(module, head):
        found = model(*inputs)
    assert torch.equal(model(*inputs), whole)
    with torch.no_grad():
        module.w_v.weight.view(module.num_heads, module.d_v, -1)[head] = 0
    assert_close(found, model(*inputs))
    assert not torch.allclose(found, whole)


def test_a_head_that_is_not_there_is_refused():
    model = tiny_model()
    for head in (-1, 2):
        with (
            pytest.raises(ValueError, match=f"head is {head}; it must be between 0 and 1"),
            without_head(model.decoder.blocks[0].cross_attention, head),
        ):
            pass
