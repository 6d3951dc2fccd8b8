"""Search options: each is compared with brute force over all outputs that it allows."""

import itertools
from functools import partial

import pytest
import torch
from helpers import EOS, assert_close, right_padded
from test_search import HistoryModel, every_output, outputs, sentence_model

from transformer.decoding.beam import beam_search
from transformer.decoding.ensemble import Ensemble
from transformer.decoding.processors import ForcedPrefix, MinLength, NoRepeat
from transformer.decoding.sampling import Sampler
from transformer.decoding.search import generate, greedy, greedy_search

SOURCES = torch.tensor([[3, 5], [7, 0], [6, 6]])


def repeats(tokens, size):
    windows = [tokens[i : i + size] for i in range(len(tokens) - size + 1)]
    return len(set(windows)) < len(windows)


def starts(prefix, tokens):
    return tokens[: len(prefix)] == tuple(prefix)


PREFIXES = [[3, 0], [], [1]]
OPTIONS = {
    "no option": ([], lambda *_: True),
    "min length 3": ([MinLength(3, EOS)], lambda _, tokens: len(tokens) >= 3),
    "no token twice": ([NoRepeat(1)], lambda _, tokens: not repeats(tokens, 1)),
    "no pair twice": ([NoRepeat(2)], lambda _, tokens: not repeats(tokens, 2)),
    "prefix": ([ForcedPrefix(PREFIXES)], lambda row, tokens: starts(PREFIXES[row], tokens)),
    "two": (
        [MinLength(2, EOS), NoRepeat(1)],
        lambda _, tokens: len(tokens) >= 2 and not repeats(tokens, 1),
    ),
    "prefix, then others": (
        [ForcedPrefix([[3, 3], [], [1]], [NoRepeat(1), MinLength(3, EOS)])],
        lambda row, tokens: (
            starts([[3, 3], [], [1]][row], tokens)
            and len(tokens) >= 3
            and not any(token in tokens[:i] for i, token in enumerate(tokens) if i >= [2, 0, 1][row])
        ),
    ),
}


@pytest.mark.parametrize(("processors", "allows"), OPTIONS.values(), ids=OPTIONS)
def test_a_full_beam_finds_exactly_the_outputs_that_are_allowed(processors, allows):
    model = HistoryModel()
    found = beam_search(
        model, SOURCES, beam_size=121, alpha=0.6, max_length=4, n_best=121, processors=processors
    )
    for row, (source, found_row) in enumerate(zip(SOURCES.tolist(), outputs(found), strict=True)):
        expected = [output for output in every_output(model, source, 0.6, 4) if allows(row, output[0])]
        found_row = [output for output in found_row if output[1] > -torch.inf]
        assert [tokens for tokens, _ in found_row] == [tokens for tokens, _ in expected]
        assert [score for _, score in found_row] == pytest.approx([s for _, s in expected], abs=1e-5)


@pytest.mark.parametrize(("processors", "allows"), OPTIONS.values(), ids=OPTIONS)
def test_greedy_search_takes_the_best_token_that_is_allowed(processors, allows):
    model = HistoryModel()
    found = greedy_search(model, SOURCES, max_length=4, processors=processors)
    beam = beam_search(model, SOURCES, beam_size=1, alpha=0, max_length=4, processors=processors)
    for row, [(tokens, _)] in enumerate(outputs(found)):
        assert allows(row, tokens)
    assert torch.equal(found.tokens, beam.tokens)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_repeat_bans_what_a_loop_finds(size):
    tokens, vocab_size = torch.randint(0, 4, (50, 9)), 4
    allowed = NoRepeat(size)(torch.zeros(50, vocab_size), tokens, torch.arange(50)) == 0
    for row, token in itertools.product(range(50), range(vocab_size)):
        history = tokens[row].tolist()
        newest = (*history[len(history) - size + 1 :], token)
        seen = {tuple(history[i : i + size]) for i in range(len(history) - size + 1)}
        assert allowed[row, token] == (newest not in seen)


def test_no_repeat_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no-repeat size is 0; it must be at least 1"):
        NoRepeat(0)


def test_a_processor_is_told_the_row_of_each_hypothesis():
    seen = []

    def watch(log_probs, tokens, rows):
        seen.append((tokens.shape, rows.tolist()))
        return log_probs

    model = HistoryModel()
    model.row = lambda _: torch.tensor([0.0, 1.0, -9.0, 0.5])
    limits = torch.tensor([3, 1, 2])
    beam_search(model, SOURCES, beam_size=2, alpha=0, max_length=limits, processors=[watch])
    assert seen == [((3, 0), [0, 1, 2]), ((4, 1), [0, 0, 2, 2]), ((2, 2), [0, 0])]
    seen.clear()
    greedy_search(model, SOURCES, max_length=limits, processors=[watch])
    assert seen == [((3, 0), [0, 1, 2]), ((2, 1), [0, 2]), ((1, 2), [0])]


# Ensembles


class Other(HistoryModel):
    """A model with other probabilities."""

    def row(self, history):
        return super().row((*history, 1))


class Mixture(HistoryModel):
    """The mean of the probabilities of `HistoryModel` and `Other`, written out."""

    def row(self, history):
        probabilities = [kind().row(history).softmax(dim=-1) for kind in (HistoryModel, Other)]
        return sum(probabilities).div(2).log()


class Module(torch.nn.Module):
    """A `HistoryModel` as an `nn.Module`."""

    pad_id, bos_id, eos_id = 0, 1, 2

    def __init__(self, table):
        super().__init__()
        self.prefill, self.step = table.prefill, table.step


def test_an_ensemble_searches_the_mean_of_the_probabilities():
    ensemble = Ensemble([Module(HistoryModel()), Module(Other())])
    for search in (
        partial(beam_search, beam_size=3, alpha=0.6, max_length=5, n_best=3),
        partial(greedy_search, max_length=5),
    ):
        found, expected = search(ensemble, SOURCES), search(Mixture(), SOURCES)
        assert torch.equal(found.tokens, expected.tokens)
        assert_close(found.scores, expected.scores)


def test_an_ensemble_of_one_model_twice_is_that_model():
    model, sources = sentence_model(), right_padded([[5, 7, 3], [4], [8, 9]])
    twice = Ensemble([model, model])
    found = beam_search(twice, sources, beam_size=3, alpha=0.6, max_length=6, n_best=3)
    alone = beam_search(model, sources, beam_size=3, alpha=0.6, max_length=6, n_best=3)
    assert torch.equal(found.tokens, alone.tokens)
    assert_close(found.scores, alone.scores)
    targets = torch.tensor([[1, 5], [1, 6], [1, 7]])
    assert_close(twice(sources, targets), model(sources, targets).log_softmax(dim=-1))


def test_members_with_other_special_tokens_are_refused():
    with pytest.raises(ValueError, match="the members of an ensemble differ in eos_id"):
        Ensemble([sentence_model(), sentence_model(eos_id=5, unk_id=2)])


# Sampling with processors


def test_draws_keep_to_what_processors_leave():
    sampler = Sampler(generator=torch.Generator().manual_seed(1))
    sources = SOURCES.repeat(20, 1)
    found = generate(
        HistoryModel(), sources, choose=sampler, max_length=4, processors=[NoRepeat(1), MinLength(3, EOS)]
    )
    drawn = [tokens for [(tokens, _)] in outputs(found)]
    assert len(set(drawn)) > 5
    assert not any(repeats(tokens, 1) or len(tokens) < 3 for tokens in drawn)
    assert greedy(torch.tensor([[0.0, 1.0, 1.0]])).tolist() == [1]
