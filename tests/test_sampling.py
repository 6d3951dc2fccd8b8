"""Sampling: the distribution that tokens are drawn from, and the frequencies of the drawn tokens."""

import math

import pytest
import torch
from helpers import EOS, PAD, random_rows, right_padded, tiny_model
from hypothesis import assume, given
from hypothesis import strategies as st

from transformer.decoding.sampling import Sampler
from transformer.decoding.search import generate, greedy_search


def probabilities_by_hand(logits, temperature, top_k, top_p):
    """The definitions in plain Python: the k best tokens, then the fewest whose total probability is p."""
    weights = [math.exp(logit / temperature) for logit in logits]
    best_first = sorted(range(len(weights)), key=lambda token: -weights[token])[:top_k]
    total = sum(weights[token] for token in best_first)
    kept, held = [], 0.0
    for token in best_first:
        kept.append(token)
        held += weights[token] / total
        assume(top_p is None or abs(held - top_p) > 1e-4)  # rounding would decide
        if top_p is not None and held >= top_p:
            break
    rest = sum(weights[token] for token in kept)
    return [weights[token] / rest if token in kept else 0.0 for token in range(len(weights))]


@given(
    logits=st.lists(st.integers(-40, 40), min_size=1, max_size=8, unique=True),
    temperature=st.floats(0.3, 3),
    top_k=st.none() | st.integers(1, 10),
    top_p=st.none() | st.floats(0.01, 0.99),
)
def test_probabilities_are_those_of_the_definition(logits, temperature, top_k, top_p):
    logits = [logit / 10 for logit in logits]
    found = Sampler(temperature, top_k, top_p).probabilities(torch.tensor([logits]))[0]
    expected = probabilities_by_hand(logits, temperature, top_k, top_p)
    assert found.tolist() == pytest.approx(expected, abs=1e-5)


LOGITS = torch.tensor([[2.0, 1.0, 0.0, -1.0], [0.0, 3.0, 0.5, 0.2]])


def test_rows_are_independent():
    sampler = Sampler(0.7, top_k=3, top_p=0.8)
    alone = [sampler.probabilities(row[None]) for row in LOGITS]
    assert torch.equal(sampler.probabilities(LOGITS), torch.cat(alone))


def test_without_cuts_it_is_the_softmax():
    for sampler in (Sampler(), Sampler(top_p=1.0), Sampler(top_k=4), Sampler(top_k=99)):
        torch.testing.assert_close(sampler.probabilities(LOGITS), LOGITS.softmax(dim=-1))


def test_logits_are_left_as_they_were():
    before = LOGITS.clone()
    Sampler(0.5, top_k=2, top_p=0.5)(LOGITS)
    assert torch.equal(LOGITS, before)


@pytest.mark.parametrize(
    "sampler", [Sampler(), Sampler(0.5), Sampler(top_k=2), Sampler(top_p=0.85), Sampler(2.0, 3, 0.9)], ids=str
)
def test_tokens_come_as_often_as_they_should(sampler):
    """Each count is within five standard deviations of the binomial distribution."""
    draws = 20_000
    tokens = sampler(LOGITS[:1].expand(draws, -1))
    for token, p in enumerate(sampler.probabilities(LOGITS)[0].tolist()):
        count = int((tokens == token).sum())
        assert abs(count - draws * p) <= 5 * math.sqrt(draws * p * (1 - p))


def test_a_seed_repeats_the_draws():
    def draws(seed):
        sampler = Sampler(generator=torch.Generator().manual_seed(seed))
        return torch.stack([sampler(LOGITS.expand(-1, -1)) for _ in range(20)])

    assert torch.equal(draws(3), draws(3))
    assert not torch.equal(draws(3), draws(4))


@pytest.mark.parametrize(
    "cut",
    [{"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-3}, {"temperature": 1e-40}, {"temperature": 1e-320}],
    ids=str,
)
def test_the_narrowest_cuts_are_greedy(cut):
    model, prompts = tiny_model(kind="decoder_only"), right_padded(random_rows(3, 1, 5))
    sampled = generate(model, prompts, choose=Sampler(**cut), max_length=6)
    assert torch.equal(sampled.tokens, greedy_search(model, prompts, max_length=6).tokens)


def test_a_sampled_text_keeps_to_the_rules_of_generate():
    model, prompts = tiny_model(kind="decoder_only"), right_padded(random_rows(3, 1, 5, 2))
    limits = torch.tensor([1, 4, 9, 30])
    found = generate(model, prompts, choose=Sampler(2.0), max_length=limits)
    for row, limit in enumerate(limits.tolist()):
        tokens, length = found.tokens[row, 0].tolist(), int(found.lengths[row, 0])
        assert EOS not in tokens[: length - 1]
        assert tokens[length - 1] == EOS or length == limit
        assert set(tokens[length:]) <= {PAD}


def test_nothing_can_be_drawn_where_every_token_is_forbidden():
    forbidden = torch.full((2, 4), -torch.inf)
    forbidden[0, 1] = 0
    assert Sampler().probabilities(forbidden[:1]).tolist() == [[0, 1, 0, 0]]
    with pytest.raises(ValueError, match="no token can be drawn: every token"):
        Sampler()(forbidden)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"temperature": 0.0}, "temperature is 0.0; it must be greater than 0"),
        ({"temperature": math.nan}, "temperature is nan; it must be greater than 0"),
        ({"temperature": math.inf}, "temperature is inf; it must be finite"),
        ({"top_k": 0}, "top_k is 0; it must be at least 1"),
        ({"top_p": 0.0}, "top_p is 0.0; it must be greater than 0 and at most 1"),
        ({"top_p": 1.5}, "top_p is 1.5; it must be greater than 0 and at most 1"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_with_its_reason(values, reason):
    with pytest.raises(ValueError, match=reason):
        Sampler(**values)


@pytest.mark.parametrize("top_p", [5e-324, 1e-320, 1e-45, 1e-10])
@pytest.mark.parametrize("temperature", [5e-324, 1.0])
def test_the_most_probable_token_stays(temperature, top_p):
    found = Sampler(temperature, top_p=top_p).probabilities(LOGITS)
    assert torch.equal(found, torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0]]))
