"""The contract for researchers' models: our models satisfy it, and each check detects a planted bug."""

import functools
import random
import re

import numpy as np
import pytest
import torch
from helpers import VARIANTS, tiny_config, tiny_model
from torch import nn

from transformer.model.attention import MultiHeadAttention
from transformer.model.build import ModelBuilder
from transformer.model.cache import DecodeState
from transformer.model.decoder_only import DecoderOnly
from transformer.model.encoder_decoder import EncoderDecoder
from transformer.model.layers import FeedForward
from transformer.testing import assert_transformer_contract
from transformer.testing.checks import CHECKS
from transformer.testing.comparison import Comparison, Tolerance, largest_difference
from transformer.testing.contract import Status, check_contract
from transformer.testing.subject import left_as_found, seed_everything

KINDS = ["encoder_decoder", "decoder_only", "encoder_only"]


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("kind", KINDS)
def test_our_models_keep_the_contract(kind, variant):
    report = assert_transformer_contract(tiny_model(kind=kind, **variant), atol=1e-5)
    assert report.kind == kind
    assert report.vocab_size == 13
    apply = [result.name for result in report.results if result.status is Status.OK]
    left_out = {"encoder_decoder": 0, "decoder_only": 1, "encoder_only": 7}[kind]
    assert len(apply) == len(CHECKS) - left_out
    # A key bias adds the same number to all scores of a query, and softmax is invariant to that.
    zero = re.findall(r"[\w.]+", report.results[-1].detail.partition("exactly 0: ")[2])
    assert all(name.endswith("w_k.bias") for name in zero), zero


@pytest.mark.parametrize("kind", KINDS)
def test_our_models_keep_it_with_dropout(kind):
    rates = {"dropout": 0.3, "attention_dropout": 0.2, "activation_dropout": 0.1}
    report = assert_transformer_contract(tiny_model(kind=kind, **rates))
    assert "same seed" not in str(report)


# Planted bugs


class BlindToOrder(MultiHeadAttention):
    def forward(self, x, kv, *, positions=None, mask=None, is_causal=False):  # noqa: ARG002
        return super().forward(x, kv, positions=positions, mask=mask)


class BlindToPads(MultiHeadAttention):
    def forward(self, x, kv, *, positions=None, mask=None, is_causal=False):
        is_padding_mask = mask is not None and mask.shape[2] == 1
        mask = None if is_padding_mask else mask
        return super().forward(x, kv, positions=positions, mask=mask, is_causal=is_causal)


class CentredOverTheBatch(FeedForward):
    """Like batch normalisation in training mode."""

    def forward(self, x):
        return super().forward(x - x.mean(dim=0))


class CentredInTraining(FeedForward):
    """Like instance normalisation with running statistics: in training it mixes the positions of a row."""

    def forward(self, x):
        return super().forward(x - x.mean(dim=1, keepdim=True) if self.training else x)


class BatchNormalised(FeedForward):
    def __init__(self, d_model, *arguments):
        super().__init__(d_model, *arguments)
        self.norm = nn.BatchNorm1d(d_model)

    def forward(self, x):
        return self.norm(super().forward(x).flatten(0, 1)).view(x.shape)


class AlwaysDropping(FeedForward):
    def forward(self, x):
        return nn.functional.dropout(super().forward(x), 0.1)


class RootOfZero(FeedForward):
    def forward(self, x):
        return super().forward(x) + torch.sqrt(x - x)


class OneDetached(FeedForward):
    def forward(self, x):
        hidden = self.activation(nn.functional.linear(x, self.w_1.weight, self.w_1.bias.detach()))
        return self.w_2(hidden)


class ChunksStandStill(DecoderOnly):
    """Decoding a whole chunk does not advance the cache's positions."""

    def forward(self, tokens, *, state=None):
        return self.output(self.decoder(tokens, state=state))


class StepStandsStill(DecoderOnly):
    def step(self, tokens, state):
        return self.output(self.decoder(tokens[:, None], state=state)[:, -1])


class AnotherForward(EncoderDecoder):
    def forward(self, src_tokens, tgt_tokens):
        memory, mask = self.encode(src_tokens)
        return self.decode(tgt_tokens, 0.9 * memory, mask)


class MasksInOldOrder(DecodeState):
    def select(self, rows):
        chosen = super().select(rows)
        chosen.memory_mask = self.memory_mask[: len(self.positions)].repeat(2, 1, 1, 1)[: len(rows)]
        return chosen


class ForgetfulState(DecodeState):
    """Loses the cached values in `select`.

    Beam search calls it at each step, greedy search only when a row ends, so their results differ.
    """

    def select(self, rows):
        chosen = super().select(rows)
        for cache in chosen.caches:
            cache.values.zero_()
        return chosen


class Bugs(ModelBuilder):
    """Our models with one part replaced."""

    def __init__(self, config, attention=MultiHeadAttention, feed_forward=FeedForward):
        super().__init__(config)
        self.attention_class, self.feed_forward_class = attention, feed_forward

    def attention(self):
        return self.attention_class(self.config.d_model, self.config.num_heads)

    def feed_forward(self):
        return self.feed_forward_class(self.config.d_model, self.config.d_ff, torch.relu)


def with_part(kind, **parts):
    return Bugs(tiny_config(kind=kind), **parts).build()


def with_class(kind, model_class):
    model = tiny_model(kind=kind)
    model.__class__ = model_class
    return model


def with_state(kind, state_class):
    """A model whose states are all instances of `state_class`."""
    model = tiny_model(kind=kind)
    new_state = model.new_state

    @functools.wraps(new_state)
    def make(*arguments):
        state = new_state(*arguments)
        state.__class__ = state_class
        return state

    model.new_state = make
    return model


PLANTED = {
    "deterministic in eval": lambda: with_part("encoder_only", feed_forward=AlwaysDropping),
    "no future leak": lambda: with_part("decoder_only", attention=BlindToOrder),
    "padding invariance": lambda: with_part("encoder_only", attention=BlindToPads),
    "batch invariance": lambda: with_part("decoder_only", feed_forward=CentredOverTheBatch),
    "no future leak in training": lambda: with_part("decoder_only", feed_forward=CentredInTraining),
    "batch invariance in training": lambda: with_part("decoder_only", feed_forward=BatchNormalised),
    "encode and decode = forward": lambda: with_class("encoder_decoder", AnotherForward),
    "any chunking of the cache = forward": lambda: with_class("decoder_only", ChunksStandStill),
    "prefill and step = forward": lambda: with_class("decoder_only", StepStandsStill),
    "state.select": lambda: with_state("encoder_decoder", MasksInOldOrder),
    "beam 1 = greedy": lambda: with_state("decoder_only", ForgetfulState),
    "finite gradients for every parameter": lambda: with_part("encoder_only", feed_forward=RootOfZero),
}


def test_every_check_has_its_bug():
    assert list(PLANTED) == list(CHECKS)


@pytest.mark.parametrize("name", PLANTED)
def test_each_check_finds_its_bug(name):
    with pytest.raises(AssertionError) as failure:
        assert_transformer_contract(PLANTED[name]())
    [line] = [line for line in str(failure.value).splitlines() if f"  {name}  " in line]
    assert line.startswith("  FAILED  "), failure.value


@pytest.mark.parametrize(
    "name", ["padding invariance", "encode and decode = forward", "finite gradients for every parameter"]
)
def test_a_bug_is_told_from_others(name):
    """Each of these bugs breaks its own law, and no other except for the two cache laws."""
    failed = check_contract(PLANTED[name]()).failed
    assert name in failed
    assert set(failed) <= {name, "any chunking of the cache = forward", "prefill and step = forward"}


def test_a_parameter_without_gradient_is_named():
    report = check_contract(with_part("decoder_only", feed_forward=OneDetached))
    assert report.failed == ["finite gradients for every parameter"]
    assert (
        "no gradient reaches decoder.blocks.0.feed_forward.w_1.bias, decoder.blocks.1.feed_forward.w_1.bias"
        in str(report)
    )


def test_a_leak_that_has_no_gradient_is_found():
    class Counting(DecoderOnly):
        def forward(self, tokens, *, state=None):
            return super().forward(tokens, state=state) + (tokens % 2).sum(dim=1)[:, None, None]

    assert "no future leak" in check_contract(with_class("decoder_only", Counting)).failed


def test_a_model_that_raises_fails_with_what_it_says():
    class Raising(DecodeState):
        def select(self, rows):  # noqa: ARG002
            raise KeyError("rows")

    report = check_contract(with_state("decoder_only", Raising))
    assert report.failed == ["state.select", "beam 1 = greedy"]
    assert "raised KeyError: 'rows'" in str(report)


# Inferring a model's kind


class Recurrent(nn.Module):
    """A language model without a cache, without the step protocol, and with other module names than ours."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(11, 8)
        self.recurrence = nn.LSTM(8, 8, batch_first=True)
        self.to_logits = nn.Linear(8, 11)

    def forward(self, tokens):
        return self.to_logits(self.recurrence(self.table(tokens))[0])


class Pooled(nn.Module):
    """One vector for each sentence."""

    def __init__(self):
        super().__init__()
        self.encoder = tiny_model(kind="encoder_only")

    def forward(self, tokens):
        is_real = (tokens != 0)[:, :, None]
        return (self.encoder(tokens) * is_real).sum(dim=1) / is_real.sum(dim=1)


def test_a_custom_model_reports_its_sizes():
    report = assert_transformer_contract(Recurrent(), kind="decoder_only")
    assert report.vocab_size == 11
    assert [result.name for result in report.results if result.status is Status.OK] == [
        "deterministic in eval",
        "no future leak",
        "padding invariance",
        "batch invariance",
        "no future leak in training",
        "batch invariance in training",
        "finite gradients for every parameter",
    ]


def test_a_pooled_output_is_compared_by_rows():
    assert assert_transformer_contract(Pooled()).kind == "encoder_only"


def test_a_vocabulary_that_cannot_be_found_is_asked_for():
    class OneHot(nn.Module):
        def forward(self, tokens):
            return nn.functional.one_hot(tokens, 9).float()

    with pytest.raises(ValueError, match="give vocab_size"):
        assert_transformer_contract(OneHot())
    with pytest.raises(ValueError, match="the checks need 2 tokens beside"):
        assert_transformer_contract(OneHot(), vocab_size=4)
    report = assert_transformer_contract(OneHot(), vocab_size=9)
    assert "no parameter requires a gradient" in str(report)


def test_the_model_is_left_as_it_was_found():
    class Counting(BatchNormalised):
        """Replaces its statistics by new tensors in each call, and has a buffer that cannot be written to."""

        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.register_buffer("calls", torch.zeros(()))
            self.register_buffer("last", None)
            self.register_buffer("ones", torch.ones(1).expand(4))

        def forward(self, x):
            self.calls = self.calls + 1
            self.last = x.detach()
            return super().forward(x)

    model = with_part("decoder_only", feed_forward=Counting).eval()
    model.decoder.blocks[0].train()
    states = {name: value.clone() for name, value in model.state_dict().items()}
    before = torch.random.get_rng_state()
    assert check_contract(model).failed
    assert [block.training for block in model.decoder.blocks] == [True, False]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.state_dict().keys() == states.keys()
    for name, value in model.state_dict().items():
        assert torch.equal(value, states[name]), name
    assert model.decoder.blocks[0].feed_forward.last is None
    assert torch.equal(before, torch.random.get_rng_state())


def test_random_numbers_of_every_kind_are_left_as_they_were_found():
    """Tested inside the contract, because the run-time type checks also draw from Python's generator."""

    def draw():
        return float(torch.rand(())), float(np.random.random()), random.random()

    model, again = nn.Linear(2, 2), []
    for _ in range(2):
        with left_as_found(model):
            seed_everything(3)
            again.append(draw())
        draw()  # so that the second round starts from another state
    assert again[0] == again[1]
    with left_as_found(model):
        expected = draw()
        seed_everything(3)
    assert draw() == expected


# Training mode


TRAINING = ["no future leak in training", "batch invariance in training"]


class Skipping(FeedForward):
    """Skips the layer at random, drawing from Python and NumPy, as some implementations of LayerDrop do."""

    def forward(self, x):
        draws = random.random() < 0.5, np.random.random() < 0.5
        return x if self.training and any(draws) else super().forward(x)


class WithState(FeedForward):
    """Its output in training depends on the number of earlier calls, which is not stored in a buffer."""

    calls = 0

    def forward(self, x):
        self.calls += self.training
        return super().forward(x) * (1 + self.calls)


class Spectral(FeedForward):
    """Each call in training mode updates the buffers of the spectral norm, which changes the output."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        nn.utils.parametrizations.spectral_norm(self.w_1)


class FrozenStatistics(BatchNormalised):
    def train(self, mode=True):
        super().train(mode)
        self.norm.eval()
        return self


@pytest.mark.parametrize("feed_forward", [Skipping, Spectral, FrozenStatistics])
def test_what_does_not_mix_rows_may_draw_and_change_in_training(feed_forward):
    report = assert_transformer_contract(with_part("decoder_only", feed_forward=feed_forward))
    assert {result.name for result in report.results if result.status is Status.OK} >= set(TRAINING)


def test_dropout_between_recurrent_layers_draws_by_shape():
    model = Recurrent()
    model.recurrence = nn.LSTM(8, 8, num_layers=2, dropout=0.5, batch_first=True)
    assert_transformer_contract(model, kind="decoder_only")


def test_a_training_mode_that_does_not_repeat_itself_is_not_judged():
    report = assert_transformer_contract(with_part("decoder_only", feed_forward=WithState))
    left_out = {result.name for result in report.results if result.status is Status.DOES_NOT_APPLY}
    assert left_out == {"encode and decode = forward", *TRAINING}
    assert "in training mode, two runs with the same seed give different outputs" in str(report)


def test_a_batch_norm_breaks_the_laws_of_training_alone():
    assert check_contract(with_part("decoder_only", feed_forward=BatchNormalised)).failed == TRAINING
    assert check_contract(with_part("encoder_only", feed_forward=BatchNormalised)).failed == TRAINING[1:]


# The comparison


def test_the_largest_difference_that_is_not_allowed_comes_first():
    zeros = torch.zeros(2, 3)
    small, large = zeros.clone(), zeros.clone()
    small[1, 2], large[0, 1] = 1e-3, 0.5
    comparisons = [
        Comparison("large", large, zeros),
        Comparison("small", small, zeros, is_exact=True),
    ]
    worst = largest_difference(comparisons, Tolerance(absolute=1.0))
    assert worst.where == "small, at [1, 2]"
    assert worst.error == pytest.approx(1e-3)
    assert not worst.is_allowed
    assert largest_difference(comparisons[:1], Tolerance(absolute=1.0)).is_allowed


@pytest.mark.parametrize(
    ("actual", "expected", "is_allowed"),
    [
        (float("nan"), 0.0, False),
        (float("nan"), float("nan"), False),
        (-torch.inf, -torch.inf, True),
        (0.0, torch.inf, False),
        (1000.005, 1000.0, True),
    ],
)
def test_what_is_not_finite(actual, expected, is_allowed):
    comparison = Comparison("here", torch.tensor([actual]), torch.tensor([expected]))
    assert largest_difference([comparison], Tolerance()).is_allowed is is_allowed


def test_another_shape_is_a_difference():
    worst = largest_difference([Comparison("here", torch.zeros(2), torch.zeros(3))], Tolerance())
    assert worst.where == "here: shape (2,) in place of (3,)"
    assert not worst.is_allowed
