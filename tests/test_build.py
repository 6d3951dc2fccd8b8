"""From settings to models: sizes counted by hand, shared matrices and initial values."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from helpers import assert_close, count_parameters, tiny_config
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from transformer.config import ModelConfig
from transformer.model.attention import MultiHeadAttention
from transformer.model.build import ModelBuilder, build_model
from transformer.model.decoder_only import DecoderOnly
from transformer.model.encoder_decoder import EncoderDecoder
from transformer.model.encoder_only import EncoderOnly
from transformer.model.layers import PostNorm, PreNorm

BIG = {"d_model": 1024, "d_ff": 4096, "num_heads": 16}
KINDS = {"encoder_decoder": EncoderDecoder, "decoder_only": DecoderOnly, "encoder_only": EncoderOnly}


def parameters_by_hand(c: ModelConfig) -> int:
    """From the shapes of the paper's matrices."""
    d, h = c.d_model, c.num_heads
    d_k, d_v = c.d_k or d // h, c.d_v or d // h
    attention = 2 * d * h * d_k + 2 * d * h * d_v + c.attention_bias * (2 * h * d_k + h * d_v + d)
    feed_forward = 2 * d * c.d_ff + c.d_ff + d
    norm = 2 * d
    layer = attention + feed_forward + 2 * norm
    decoder_layer = layer + attention + norm
    final = norm if c.norm == "pre" else 0
    positions = c.max_positions * d if c.positions == "learned" else 0
    output_bias = c.vocab_size if c.output_bias else 0

    encoder = positions + c.num_layers * layer + final
    decoder = positions + c.num_layers * (decoder_layer if c.kind == "encoder_decoder" else layer) + final
    stacks, matrices = {
        "encoder_decoder": (encoder + decoder + output_bias, 3),
        "decoder_only": (decoder + output_bias, 2),
        "encoder_only": (encoder, 1),
    }[c.kind]
    return stacks + (1 if c.tie_embeddings else matrices) * c.vocab_size * d


def without_memory(config: ModelConfig) -> nn.Module:
    with torch.device("meta"):
        return build_model(config)


@pytest.mark.parametrize(
    ("changes", "count"),
    [({}, 63_045_632), ({"attention_bias": True}, 63_082_496), (BIG, 214_171_648)],
    ids=["base", "base with biases", "big"],
)
def test_the_papers_models_have_the_counts_derived_by_hand(changes, count):
    config = ModelConfig(**changes)
    assert parameters_by_hand(config) == count
    assert count_parameters(without_memory(config)) == count


configs = st.builds(
    ModelConfig,
    max_positions=st.just(7),
    d_model=st.sampled_from([12, 24, 36]),
    kind=st.sampled_from(list(KINDS)),
    vocab_size=st.integers(4, 50),
    num_heads=st.integers(1, 4),
    d_ff=st.integers(1, 40),
    num_layers=st.integers(1, 3),
    d_k=st.none() | st.integers(1, 9),
    d_v=st.none() | st.integers(1, 9),
    norm=st.sampled_from(["post", "pre"]),
    positions=st.sampled_from(["sinusoidal", "tensor2tensor", "learned"]),
    attention_bias=st.booleans(),
    output_bias=st.booleans(),
    tie_embeddings=st.booleans(),
)


@given(configs)
def test_the_weights_are_known_before_a_model_is_built(config):
    matrices = [parameter for parameter in without_memory(config).parameters() if parameter.dim() == 2]
    assert config.num_weights == sum(matrix.numel() for matrix in matrices)


@given(configs)
def test_every_model_has_the_count_derived_by_hand(config):
    assert count_parameters(without_memory(config)) == parameters_by_hand(config)


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_are_classes(kind):
    assert type(build_model(tiny_config(kind=kind))) is KINDS[kind]


# One matrix for source, target and output (§3.4)


def storages(model, names):
    return [model.get_parameter(name).data_ptr() for name in names]


THREE = ["encoder.embedding.embedding.weight", "decoder.embedding.embedding.weight", "output.weight"]
TWO = ["decoder.embedding.embedding.weight", "output.weight"]


@pytest.mark.parametrize(("kind", "names"), [("encoder_decoder", THREE), ("decoder_only", TWO)])
def test_tied_embeddings_are_one_storage(kind, names):
    assert len(set(storages(build_model(tiny_config(kind=kind)), names))) == 1
    assert len(set(storages(build_model(tiny_config(kind=kind, tie_embeddings=False)), names))) == len(names)


@pytest.mark.parametrize("tie_embeddings", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_state_dict_carries_everything(kind, tie_embeddings):
    config = tiny_config(kind=kind, tie_embeddings=tie_embeddings, positions="learned", max_positions=8)
    first, second = build_model(config).eval(), build_model(config).eval()
    second.load_state_dict(first.state_dict())
    tokens = torch.tensor([[4, 5, 6]])
    inputs = (tokens, tokens) if kind == "encoder_decoder" else (tokens,)
    assert torch.equal(first(*inputs), second(*inputs))


# Settings become parts


def test_settings_reach_the_parts():
    model = build_model(
        tiny_config(d_k=5, d_v=3, dropout=0.3, attention_dropout=0.2, activation_dropout=0.1, norm="pre")
    )
    block = model.decoder.blocks[1]
    assert (block.cross_attention.d_k, block.cross_attention.d_v) == (5, 3)
    assert block.self_attention.attention_dropout == 0.2
    assert block.feed_forward.dropout.p == 0.1
    assert model.encoder.embedding.dropout.p == model.decoder.embedding.dropout.p == 0.3
    residuals = [module for module in model.modules() if isinstance(module, PostNorm)]
    assert len(residuals) == 2 * 2 + 2 * 3
    assert all(type(residual) is PreNorm and residual.dropout.p == 0.3 for residual in residuals)


def test_without_a_final_norm_the_stack_gives_the_residual_sum():
    config = tiny_config(kind="encoder_only", norm="pre")
    normalised, plain = build_model(config), build_model(dataclasses.replace(config, final_norm=False))
    torch.nn.init.normal_(normalised.final_norm.weight)
    plain.load_state_dict(normalised.state_dict(), strict=False)
    tokens = torch.tensor([[5, 6, 7, 2]])
    assert_close(normalised.final_norm(plain(tokens)), normalised(tokens))


@pytest.mark.parametrize(("name", "function"), [("relu", F.relu), ("gelu", F.gelu), ("silu", F.silu)])
def test_activations_by_name(name, function):
    network = build_model(tiny_config(kind="encoder_only", activation=name)).blocks[0].feed_forward
    x = torch.randn(2, 3, 16)
    assert_close(network(x), network.w_2(function(network.w_1(x))))


def test_special_tokens_reach_the_model():
    config = tiny_config(pad_id=3, bos_id=2, eos_id=1, unk_id=0)
    model = build_model(config)
    assert (model.pad_id, model.bos_id, model.eos_id, model.encoder.pad_id) == (3, 2, 1, 3)
    decoder_only = build_model(dataclasses.replace(config, kind="decoder_only"))
    assert (decoder_only.pad_id, decoder_only.eos_id) == (3, 1)


def test_one_part_can_be_swapped():
    class Doubled(ModelBuilder):
        def feed_forward(self):
            return nn.Sequential(super().feed_forward(), nn.Identity())

    model = Doubled(tiny_config()).build()
    assert all(isinstance(block.feed_forward, nn.Sequential) for block in model.decoder.blocks)
    model(torch.tensor([[4, 5]]), torch.tensor([[1, 6]]))


# Initial values


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_embeddings_and_output_start_normal_with_unit_scale(kind, tie_embeddings):
    config = tiny_config(
        kind=kind, vocab_size=2000, d_model=64, tie_embeddings=tie_embeddings, positions="learned"
    )
    model = build_model(config)
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    tables += [] if kind == "encoder_only" else [model.output]
    for table in tables:
        scaled = table.weight * math.sqrt(64)  # as the embedding layers do
        assert abs(scaled.mean()) < 0.02
        assert abs(scaled.std() - 1) < 0.02
        within = (scaled.abs() < 1).float().mean()
        assert abs(within - math.erf(0.5**0.5)) < 0.02  # of a normal distribution


def assert_uniform(weight, bound):
    """All values are within ± bound, with the standard deviation of a uniform distribution, bound / √3."""
    assert weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_other_matrices_start_glorot_uniform():
    model = build_model(tiny_config(d_model=64, d_ff=96, num_heads=4, d_k=8, d_v=24, attention_bias=True))
    for module in model.modules():
        if isinstance(module, MultiHeadAttention):
            for projection in (module.w_q, module.w_k, module.w_v):
                assert_uniform(projection.weight, math.sqrt(6 / sum(projection.weight.shape) / 2))
            assert_uniform(module.w_o.weight, math.sqrt(6 / sum(module.w_o.weight.shape)))
    for block in [*model.encoder.blocks, *model.decoder.blocks]:
        assert_uniform(block.feed_forward.w_1.weight, math.sqrt(6 / (64 + 96)))
        assert_uniform(block.feed_forward.w_2.weight, math.sqrt(6 / (64 + 96)))


def test_the_three_projections_start_as_one_fused_matrix_would():
    """With d_k = d_v = d/h, Glorot's bound over (d, 3d) is √(6 / 4d)."""
    attention = build_model(tiny_config(kind="encoder_only", d_model=64)).blocks[0].self_attention
    fused = nn.init.xavier_uniform_(torch.empty(3 * 64, 64))
    ours = torch.cat([attention.w_q.weight, attention.w_k.weight, attention.w_v.weight])
    assert ours.std().item() == pytest.approx(fused.std().item(), rel=0.03)


@pytest.mark.parametrize("kind", KINDS)
def test_the_residual_gain_is_on_what_writes_to_the_residual_sum(kind):
    def built(gain):
        torch.manual_seed(5)
        return build_model(tiny_config(kind=kind, residual_gain=gain)).state_dict()

    plain, scaled = built(1.0), built(0.5)
    for name, weight in plain.items():
        writes = name.endswith(("w_o.weight", "w_2.weight"))
        assert torch.equal(scaled[name], weight * (0.5 if writes else 1.0)), name


def test_with_a_residual_gain_of_zero_an_encoder_starts_as_its_embedding():
    model = build_model(tiny_config(kind="encoder_only", norm="pre", final_norm=False, residual_gain=0.0))
    tokens = torch.tensor([[5, 6, 7, 2]])
    assert torch.equal(model(tokens), model.embedding(tokens, torch.arange(4)[None]))


def test_biases_start_at_zero_and_norms_as_the_identity():
    model = build_model(tiny_config(attention_bias=True, output_bias=True, tie_embeddings=False, norm="pre"))
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            assert (parameter == 1).all(), name
        elif name.endswith("bias"):
            assert (parameter == 0).all(), name


def test_a_seed_fixes_the_initial_values():
    def built(seed):
        torch.manual_seed(seed)
        return torch.cat([parameter.flatten() for parameter in build_model(tiny_config()).parameters()])

    assert torch.equal(built(3), built(3))
    assert not torch.equal(built(3), built(4))


def test_logits_start_with_unit_scale():
    model = build_model(tiny_config(vocab_size=500, d_model=64)).eval()
    logits = model(torch.randint(4, 500, (4, 10)), torch.randint(4, 500, (4, 10)))
    assert 0.8 < logits.std() < 1.2
