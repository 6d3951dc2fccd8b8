"""Greedy and beam search: the rules in docs/decoding.md on hand-made probability trees, and brute force."""

import collections
import itertools
import math
import re

import pytest
import torch
from helpers import BOS, EOS, PAD, assert_close, random_rows, right_padded, tiny_model
from torch.overrides import TorchFunctionMode

from transformer.decoding.beam import Closed, beam_search, search_n_best
from transformer.decoding.length_penalty import length_penalty
from transformer.decoding.sampling import Sampler
from transformer.decoding.search import Hypotheses, generate, greedy_search

A, B, C = 3, 4, 5
LIMITS = [1, 2, 3]


class Histories(list):
    """A decoding state that consists of the tokens read so far."""

    def select(self, rows):
        return Histories(self[row] for row in rows.tolist())


class HistoryModel:
    """A model whose next token depends on the source and all earlier tokens; counts the rows of each step."""

    vocab_size = 4

    def __init__(self):
        self.rows_per_step = []

    def prefill(self, tokens, *, max_length):
        assert max_length >= 1
        state = Histories(tuple(row) for row in tokens.tolist())
        return self.logits(state), state

    def step(self, tokens, state):
        assert tokens.shape == (len(state),)  # one new token per row
        self.rows_per_step.append(len(tokens))
        state[:] = [(*history, token) for history, token in zip(state, tokens.tolist(), strict=True)]
        return self.logits(state)

    def logits(self, state):
        return torch.stack([self.row(history) for history in state])

    def row(self, history):
        seed = int("".join(str(token + 1) for token in history))
        return 2 * torch.randn(self.vocab_size, generator=torch.Generator().manual_seed(seed))


class Tree(HistoryModel):
    """Hand-written probabilities, {tokens so far: {next token: probability}}; all other histories end."""

    vocab_size = 6

    def __init__(self, branches):
        super().__init__()
        self.branches = branches

    def row(self, history):
        chances = self.branches.get(history[1:], {EOS: 1.0})  # without the source
        return torch.tensor([chances.get(token, 0.0) for token in range(self.vocab_size)]).log()


ONE = torch.tensor([[9]])  # one source; a tree ignores it


def outputs(found: Hypotheses):
    """(tokens, score) of every hypothesis of every row, best first."""
    return [
        [
            (tuple(tokens[:length].tolist()), float(score))
            for tokens, score, length in zip(*row, strict=True)
            if length
        ]
        for row in zip(*found, strict=True)
    ]


def only(found: Hypotheses):
    """Tokens and probability of the only output of the only row, from a search without length penalty."""
    [[(tokens, score)]] = outputs(found)
    return tokens, pytest.approx(math.exp(score))


# Brute force


def every_output(model, source, alpha, limit):
    """All outputs of at most `limit` tokens with their normalised scores, best first."""
    found = []
    for length in range(1, limit + 1):
        for tokens in itertools.product(range(model.vocab_size), repeat=length):
            if EOS in tokens[:-1] or (tokens[-1] != EOS and length < limit):
                continue
            score = sum(
                model.row((*source, *tokens[:i])).log_softmax(dim=-1)[token].item()
                for i, token in enumerate(tokens)
            )
            found.append((tokens, score / ((5 + length) / 6) ** alpha))
    return sorted(found, key=lambda output: -output[1])


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0, 2.5])
def test_a_full_beam_equals_brute_force(alpha):
    """There are forty outputs of at most three tokens, so a beam of forty must find them all, in order."""
    model, sources = HistoryModel(), torch.tensor([[3, 5], [7, 0], [6, 6]])
    found = beam_search(model, sources, beam_size=40, alpha=alpha, max_length=torch.tensor(LIMITS), n_best=40)
    assert found.tokens.shape == (3, 40, 3)
    for source, limit, row in zip(sources.tolist(), LIMITS, outputs(found), strict=True):
        expected = every_output(model, source, alpha, limit)
        assert len(row) == len(expected) == [4, 13, 40][limit - 1]
        assert [tokens for tokens, _ in row] == [tokens for tokens, _ in expected]
        assert [score for _, score in row] == pytest.approx([score for _, score in expected], abs=1e-5)


def test_missing_outputs_are_empty_and_impossible():
    found = beam_search(HistoryModel(), ONE, beam_size=6, alpha=0.6, max_length=1, n_best=6)
    assert found.lengths.tolist() == [[1, 1, 1, 1, 0, 0]]
    assert (found.scores[0, 4:] == -math.inf).all()
    assert (found.tokens[0, 4:] == PAD).all()


# The rules, on hand-written trees


def test_a_wider_beam_finds_what_greedy_search_misses():
    tree = Tree({(): {A: 0.6, B: 0.4}, (A,): {EOS: 0.55, C: 0.45}})
    assert only(greedy_search(tree, ONE, max_length=4)) == ((A, EOS), 0.33)
    assert only(beam_search(tree, ONE, beam_size=1, alpha=0, max_length=4)) == ((A, EOS), 0.33)
    assert only(beam_search(tree, ONE, beam_size=2, alpha=0, max_length=4)) == ((B, EOS), 0.4)


def test_an_end_counts_only_among_the_best_candidates():
    """EOS ranks third in the first step, so a beam of two drops it, although nothing better follows."""
    tree = Tree(
        {
            (): {A: 0.5, B: 0.3, EOS: 0.2},
            (A,): {A: 0.36, B: 0.34, EOS: 0.3},
            (B,): {A: 0.31, B: 0.29, EOS: 0.4},
        }
    )
    assert only(beam_search(tree, ONE, beam_size=2, alpha=0, max_length=4)) == ((A, A, EOS), 0.18)
    assert only(beam_search(tree, ONE, beam_size=3, alpha=0, max_length=4)) == ((EOS,), 0.2)


def test_a_sentence_stays_open_while_a_live_hypothesis_can_still_win():
    """Two finished hypotheses fill a beam of two, but a live one with a better score needs only its EOS."""
    tree = Tree({(): {A: 0.98, EOS: 0.02}, (A,): {B: 0.98, EOS: 0.02}, (A, B): {C: 1.0}})
    assert only(beam_search(tree, ONE, beam_size=2, alpha=0, max_length=6)) == ((A, B, C, EOS), 0.98**2)


def test_a_sentence_closes_when_no_live_hypothesis_can_win():
    """After one step, a hypothesis with probability 0.6 has ended, and the live one has 0.4.

    Without a length penalty, 0.4 can only decrease, so there is no second step. With a penalty, a longer
    hypothesis may still win, so the search continues to the limit.
    """
    tree = Tree({(): {EOS: 0.6, A: 0.4}, (A,): {A: 1.0}, (A, A): {A: 1.0}})
    assert only(beam_search(tree, ONE, beam_size=2, alpha=0, max_length=9)) == ((EOS,), 0.6)
    assert tree.rows_per_step == []
    [[(tokens, _)]] = outputs(beam_search(tree, ONE, beam_size=2, alpha=3, max_length=9))
    assert tokens == (A, A, A, EOS)


def test_the_length_penalty_favours_longer_outputs():
    tree = Tree({(): {EOS: 0.5, A: 0.45, B: 0.05}, (A,): {A: 1.0}, (B,): {B: 1.0}})
    short, long = math.log(0.5), math.log(0.45)
    for alpha, expected in [(0.0, [(EOS,), (A, A, EOS)]), (1.0, [(A, A, EOS), (EOS,)])]:
        [row] = outputs(beam_search(tree, ONE, beam_size=2, alpha=alpha, max_length=4, n_best=2))
        assert [tokens for tokens, _ in row] == expected
        scores = sorted([short, long / (8 / 6) ** alpha], reverse=True)
        assert [score for _, score in row] == pytest.approx(scores)


def test_at_the_limit_what_is_alive_competes_at_the_same_normalisation():
    tree = Tree({(): {A: 0.6, EOS: 0.4}, (A,): {B: 0.9, EOS: 0.1}})
    [row] = outputs(beam_search(tree, ONE, beam_size=2, alpha=1, max_length=2, n_best=2))
    assert row[0] == ((A, B), pytest.approx(math.log(0.54) / (7 / 6)))
    assert row[1] == ((EOS,), pytest.approx(math.log(0.4)))


def test_a_beam_wider_than_the_tree_keeps_what_there_is():
    tree = Tree({(): {A: 0.7, EOS: 0.3}})
    [row] = outputs(beam_search(tree, ONE, beam_size=5, alpha=0, max_length=9, n_best=5))
    assert row == [((A, EOS), pytest.approx(math.log(0.7))), ((EOS,), pytest.approx(math.log(0.3)))]
    assert tree.rows_per_step == [5, 5][: len(tree.rows_per_step)]  # stops when none is alive


def test_length_penalty_is_the_papers():
    assert length_penalty(1, 0.6) == 1
    assert length_penalty(7, 0.6) == pytest.approx(2**0.6)
    assert length_penalty(torch.tensor([1.0, 13.0]), 2).tolist() == [1, 9]
    assert length_penalty(100, 0) == 1


@pytest.mark.parametrize("alpha", [-0.5, 0.0, 0.6, 2.5])
@pytest.mark.parametrize("n_best", [1, 2, 4])
def test_closing_early_changes_no_output(alpha, n_best):
    """An n-best list too long to fill keeps sentences open to the limit; its first outputs are the same."""
    early, late = HistoryModel(), HistoryModel()
    sources = torch.tensor(random_rows(*[3] * 40, vocab_size=9))
    options = {"beam_size": 4, "alpha": alpha, "max_length": 9}
    found = beam_search(early, sources, n_best=n_best, **options)
    whole = search_n_best(late, sources, n_best=100, **options)
    assert outputs(found) == [row[:n_best] for row in outputs(whole)]
    assert min(len(row) for row in outputs(whole)) > 4  # more finished hypotheses than `beam_size`
    if alpha < 1:  # with a strong penalty, nearly every live hypothesis can still win
        assert sum(early.rows_per_step) < sum(late.rows_per_step)


# Real models


def sentence_model(**changes):
    """A tiny model that ends its sentences often enough."""
    model = tiny_model(output_bias=True, **changes)
    with torch.no_grad():
        model.output.bias[EOS] += 2
    return model


SOURCES = [[5, 7, 3, 9], [4], [8, 8, 12, 6, 3, 10], [11, 3], [9, 4, 4]]
kinds = pytest.mark.parametrize("kind", ["encoder_decoder", "decoder_only"])


@torch.no_grad()
def log_probs_by_forward(model, source, tokens):
    """(T + 1, V): log probabilities at each position of `tokens` and after the last, without a cache."""
    if hasattr(model, "encoder"):
        logits = model(torch.tensor([source]), torch.tensor([[BOS, *tokens]]))[0]
    else:
        logits = model(torch.tensor([[*source, *tokens]]))[0, len(source) - 1 :]
    return logits.log_softmax(dim=-1)


def greedy_by_forward(model, source, limit):
    tokens, score = [], 0.0
    while len(tokens) < limit and EOS not in tokens:
        log_probs = log_probs_by_forward(model, source, tokens)[-1]
        tokens.append(int(log_probs.argmax()))
        score += log_probs.max().item()
    return tuple(tokens), score


@kinds
def test_greedy_search_takes_the_best_token_of_every_forward(kind):
    model = sentence_model(kind=kind)
    found = outputs(greedy_search(model, right_padded(SOURCES), max_length=9))
    assert {tokens[-1] == EOS for [(tokens, _)] in found} == {True, False}  # some end, some are cut off
    for source, [(tokens, score)] in zip(SOURCES, found, strict=True):
        expected, expected_score = greedy_by_forward(model, source, 9)
        assert tokens == expected
        assert score == pytest.approx(expected_score, abs=1e-4)


@kinds
@pytest.mark.parametrize("limit", [1, 2, 12])
def test_a_beam_of_one_is_greedy_search(limit, kind):
    model, sources = sentence_model(kind=kind), right_padded(SOURCES)
    greedy = greedy_search(model, sources, max_length=limit)
    beam = beam_search(model, sources, beam_size=1, alpha=0.0, max_length=limit)
    assert torch.equal(beam.tokens, greedy.tokens)
    assert torch.equal(beam.lengths, greedy.lengths)
    assert_close(beam.scores, greedy.scores)
    normalised = beam_search(model, sources, beam_size=1, alpha=0.6, max_length=limit)
    assert torch.equal(normalised.tokens, greedy.tokens)
    assert_close(normalised.scores, greedy.scores / length_penalty(greedy.lengths, 0.6))


@pytest.mark.parametrize("alpha", [-1.0, 0.6, 3.0, 10.0])
def test_a_beam_of_one_is_greedy_search_on_any_table(alpha):
    sources = torch.tensor(random_rows(*[3] * 50, vocab_size=9))
    greedy = greedy_search(HistoryModel(), sources, max_length=9)
    beam = beam_search(HistoryModel(), sources, beam_size=1, alpha=alpha, max_length=9)
    assert torch.equal(beam.tokens, greedy.tokens)
    assert_close(beam.scores, greedy.scores / length_penalty(greedy.lengths, alpha))


def test_a_beam_of_one_ends_with_its_best_candidate_although_the_second_could_win():
    tree = Tree({(): {A: 0.5, B: 0.5}, (A,): {EOS: 0.52, A: 0.48}, (A, A): {A: 1.0}, (A, A, A): {EOS: 1.0}})
    options = {"alpha": 3.0, "max_length": 4}
    assert only(beam_search(tree, ONE, beam_size=1, **options))[0] == (A, EOS)
    assert only(beam_search(tree, ONE, beam_size=2, **options))[0] == (A, A, A, EOS)


def test_where_no_token_is_left_there_is_no_output():
    """If all tokens of a row are forbidden in some step, greedy search and a beam of one return no output."""
    sources = torch.tensor(random_rows(*[3] * 20, vocab_size=9))

    def forbid(log_probs, tokens, rows):
        return log_probs.masked_fill(((rows % 4 == 1) & (tokens.shape[1] == rows // 4))[:, None], -math.inf)

    def searched(search, part, **options):
        return search(HistoryModel(), part, max_length=6, processors=[forbid], **options)

    for part in (sources, sources[:2]):
        greedy = searched(greedy_search, part)
        beam = searched(beam_search, part, beam_size=1, alpha=0.0)
        for found, expected in zip(greedy, beam, strict=True):
            torch.testing.assert_close(found, expected)
        is_missing = greedy.lengths[:, 0] == 0
        assert is_missing[1]
        assert not is_missing[::2].any()
        assert (greedy.scores[is_missing] == -math.inf).all()


@pytest.mark.parametrize("vocab_size", [4, 60, 1000])
def test_a_beam_of_one_breaks_ties_as_greedy_search_does(vocab_size):
    """Logits in bfloat16 are often equal; these take only three values."""
    model = HistoryModel()
    model.vocab_size = vocab_size
    generator = torch.Generator().manual_seed(1)
    table = torch.randint(0, 3, (50, vocab_size), generator=generator).float()
    model.row = lambda history: table[sum(history) % 50]
    sources = torch.arange(30)[:, None]
    greedy = greedy_search(model, sources, max_length=5)
    assert torch.equal(greedy.tokens[:, 0, 0], table[:30].argmax(dim=1))
    beam = beam_search(model, sources, beam_size=1, alpha=0.6, max_length=5)
    assert torch.equal(beam.tokens, greedy.tokens)


@kinds
@pytest.mark.parametrize("beam_size", [1, 2, 4])
def test_a_batch_equals_its_rows(beam_size, kind):
    model = sentence_model(kind=kind)
    limits = [9, 2, 12, 1, 5]

    def search(sources, limits):
        return beam_search(
            model,
            right_padded(sources),
            beam_size=beam_size,
            alpha=0.6,
            max_length=torch.tensor(limits),
            n_best=beam_size,
        )

    batch = outputs(search(SOURCES, limits))
    for source, limit, row in zip(SOURCES, limits, batch, strict=True):
        [alone] = outputs(search([source], [limit]))
        assert [tokens for tokens, _ in row] == [tokens for tokens, _ in alone]
        assert [score for _, score in row] == pytest.approx([score for _, score in alone], abs=1e-4)
        assert max(len(tokens) for tokens, _ in row) <= limit


@kinds
def test_a_greedy_batch_equals_its_rows_in_any_order(kind):
    model, order = sentence_model(kind=kind), [3, 0, 4, 2, 1]
    limits = torch.tensor([9, 2, 12, 1, 5])
    batch = outputs(greedy_search(model, right_padded(SOURCES), max_length=limits))
    shuffled = [SOURCES[row] for row in order]
    again = outputs(greedy_search(model, right_padded(shuffled), max_length=limits[order]))
    for place, row in enumerate(order):
        [[(alone, _)]] = outputs(
            greedy_search(model, torch.tensor([SOURCES[row]]), max_length=int(limits[row]))
        )
        assert batch[row][0][0] == again[place][0][0] == alone


def test_the_order_of_rows_does_not_matter_to_a_beam():
    model, order = sentence_model(), [3, 0, 4, 2, 1]
    sources = right_padded(SOURCES)
    found = beam_search(model, sources, beam_size=3, alpha=0.6, max_length=8, n_best=3)
    again = beam_search(model, sources[order], beam_size=3, alpha=0.6, max_length=8, n_best=3)
    assert torch.equal(again.tokens, found.tokens[order])
    assert torch.equal(again.lengths, found.lengths[order])
    assert_close(again.scores, found.scores[order])


@kinds
@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_scores_are_those_of_forced_decoding(alpha, kind):
    model = sentence_model(kind=kind)
    found = beam_search(model, right_padded(SOURCES), beam_size=4, alpha=alpha, max_length=7, n_best=4)
    for source, row in zip(SOURCES, outputs(found), strict=True):
        for tokens, score in row:
            log_probs = log_probs_by_forward(model, source, tokens)[range(len(tokens)), tokens]
            expected = log_probs.sum().item() / ((5 + len(tokens)) / 6) ** alpha
            assert score == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("search", ["greedy", "beam"])
def test_outputs_end_at_eos_or_at_their_limit_and_pads_follow(search):
    model, sources, limits = sentence_model(), right_padded(SOURCES), torch.tensor([9, 2, 12, 1, 5])
    if search == "greedy":
        found = greedy_search(model, sources, max_length=limits)
    else:
        found = beam_search(model, sources, beam_size=3, alpha=0.6, max_length=limits, n_best=3)
    assert found.tokens.shape[2] == found.lengths.max()
    assert (found.scores.diff(dim=1) <= 0).all()
    for row, limit in enumerate(limits.tolist()):
        for tokens, length in zip(found.tokens[row].tolist(), found.lengths[row].tolist(), strict=True):
            assert EOS not in tokens[: length - 1]
            assert tokens[length - 1] == EOS or length == limit
            assert set(tokens[length:]) <= {PAD}


def test_a_models_own_special_tokens_are_used():
    model = sentence_model(pad_id=7, eos_id=5, unk_id=0)
    with torch.no_grad():
        model.output.bias[5] += 3
    found = greedy_search(model, torch.tensor([[4], [9]]), max_length=torch.tensor([1, 9]))
    for tokens, length in zip(found.tokens[:, 0].tolist(), found.lengths[:, 0].tolist(), strict=True):
        assert set(tokens[length:]) <= {7}
    assert 5 in found.tokens[1, 0].tolist()


# Observing a search


def observed(model, sources, **options):
    steps = []
    found = beam_search(model, sources, observe=steps.append, **options)
    return steps, outputs(found)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.5])
@pytest.mark.parametrize("n_best", [1, 3])
def test_an_observer_sees_the_whole_search(alpha, n_best):
    """A step starts with the hypotheses that the previous one kept; the last finished ones are the result."""
    sources, limits = torch.tensor(random_rows(*[3] * 30, vocab_size=9)), torch.arange(30) % 8 + 1
    options = {"beam_size": 3, "alpha": alpha, "max_length": limits, "n_best": n_best}
    steps, found = observed(HistoryModel(), sources, **options)
    assert found == outputs(beam_search(HistoryModel(), sources, **options))
    assert [step.length for step in steps] == list(range(1, len(steps) + 1))
    still_open = list(range(30))
    for step, following in itertools.zip_longest(steps, steps[1:]):
        assert step.before.rows.tolist() == step.after.rows.tolist() == still_open
        assert step.log_probs.shape == (step.before.scores.numel(), HistoryModel.vocab_size)
        assert (step.candidates.scores.diff(dim=1) <= 0).all()
        finished = dict(zip(still_open, outputs(step.finished), strict=True))
        for row, why in step.closed.items():
            assert finished[row][:n_best] == found[row]
            assert (why is Closed.LIMIT) == (limits[row] == step.length)
        still_open = [row for row in still_open if row not in step.closed]
        if following is not None:
            kept = [place for place, row in enumerate(step.after.rows.tolist()) if row in still_open]
            for part in ("tokens", "scores"):
                assert torch.equal(getattr(step.after, part)[kept], getattr(following.before, part))
    assert still_open == []


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.5])
def test_closing_never_drops_a_live_hypothesis_that_is_ahead_at_its_own_length(alpha):
    sources = torch.tensor(random_rows(*[3] * 60, vocab_size=9))
    steps, found = observed(HistoryModel(), sources, beam_size=4, alpha=alpha, max_length=9)
    closed_before_limit = 0
    for step in steps:
        for row, scores in zip(step.after.rows.tolist(), step.after.scores.tolist(), strict=True):
            if row in step.closed:
                [(_, best)] = found[row]
                assert max(scores) / length_penalty(step.length, alpha) <= best + 1e-5
                closed_before_limit += step.length < 9
    assert closed_before_limit or alpha > 1


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.5])
@pytest.mark.parametrize("beam_size", [2, 4])
def test_no_output_scores_below_a_greedy_path_that_stayed_in_the_beam(alpha, beam_size):
    model = HistoryModel()
    model.vocab_size = 12
    sources = torch.tensor(random_rows(*[3] * 100, vocab_size=9))
    greedy = outputs(greedy_search(model, sources, max_length=9))
    steps, found = observed(model, sources, beam_size=beam_size, alpha=alpha, max_length=9)
    stayed = set(range(100))
    for step in steps:
        rows = step.after.rows.tolist()
        alive, ending = step.after.tokens.tolist(), step.candidates.tokens[:, :beam_size].tolist()
        for row, *kept in zip(rows, alive, ending, strict=True):
            [(path, _)] = greedy[row]
            has_left = len(path) >= step.length and list(path[: step.length]) not in kept[0] + kept[1]
            stayed -= {row} if has_left else set()
    assert 20 < len(stayed) < 100  # some paths stay in the beam, and some leave it
    for row in stayed:
        [(path, score)], [(_, best)] = greedy[row], found[row]
        assert best >= score / length_penalty(len(path), alpha) - 1e-5


class Reads(TorchFunctionMode):
    """Counts the calls that need a tensor's value, and so would make the CPU wait for a GPU."""

    NAMES = frozenset(
        (
            *("tolist", "item", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__"),
            *("nonzero", "equal", "allclose", "unique", "unique_consecutive", "masked_select"),
        )
    )

    def __init__(self):
        super().__init__()
        self.counts = collections.Counter()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        has_mask = name in ("__getitem__", "__setitem__") and any(
            isinstance(index, torch.Tensor) and index.dtype == torch.bool
            for index in (args[1] if isinstance(args[1], tuple) else (args[1],))
        )
        self.counts[name] += name in self.NAMES or has_mask
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", ["encoder_decoder", "decoder_only"])
def test_a_step_of_a_beam_reads_from_the_device_once(kind):
    """The number of reads is a constant plus one per step, even when sentences close."""
    model, sources = sentence_model(kind=kind), right_padded(SOURCES)
    counts = {}
    for limits in ([2] * 5, [12] * 5, [12, 3, 4, 5, 6]):
        steps = []
        beam_search(
            model, sources, beam_size=4, alpha=2.5, max_length=torch.tensor(limits), observe=steps.append
        )
        with Reads() as reads:
            beam_search(model, sources, beam_size=4, alpha=2.5, max_length=torch.tensor(limits))
        counts[len(steps)] = sum(reads.counts.values()) - len(steps)
    assert len(counts) > 1
    assert len(set(counts.values())) == 1, counts


# The model and its input


SEARCHES = {
    "greedy": lambda model, sources: greedy_search(model, sources, max_length=7),
    "beam": lambda model, sources: beam_search(model, sources, beam_size=3, alpha=0.6, max_length=7),
    "sampling": lambda model, sources: generate(
        model, sources, choose=Sampler(generator=torch.Generator().manual_seed(1)), max_length=7
    ),
}
searches = pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)


@kinds
@searches
def test_a_model_left_in_training_mode_is_searched_in_evaluation_mode(kind, search):
    model, sources = sentence_model(kind=kind, dropout=0.5), right_padded(SOURCES)
    expected = search(model, sources)
    model.train()
    block = model.decoder.blocks[0].eval()  # a part in evaluation mode must stay in it
    for _ in range(2):
        for found, right in zip(search(model, sources), expected, strict=True):
            assert torch.equal(found, right)
    assert model.training
    assert not block.training
    with pytest.raises(ValueError, match="max_length is 0"):
        greedy_search(model, sources, max_length=0)
    assert model.training


@kinds
@searches
def test_tokens_of_any_integer_type_are_searched(kind, search):
    model, sources = sentence_model(kind=kind), right_padded(SOURCES)
    for found, expected in zip(search(model, sources.int()), search(model, sources), strict=True):
        assert torch.equal(found, expected)
        assert found.dtype == expected.dtype


@kinds
@searches
def test_rows_that_are_not_right_padded_are_refused(kind, search):
    model = sentence_model(kind=kind)
    for row, message in [
        ([PAD, 5, 7], "row 1 of the batch begins with a pad (0); pads belong after all tokens of a row"),
        ([PAD, PAD, PAD], "row 1 of the batch holds no token, only pads (0); leave such rows out"),
        ([5, PAD, 7], "row 1 of the batch has a pad (0) between tokens; pads belong after all"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            search(model, torch.tensor([[3, 4, 5], row]))
    with pytest.raises(ValueError, match="row 0 of the batch holds no token"):
        search(model, torch.zeros(2, 0, dtype=torch.int64))


# Cost


def test_finished_rows_leave_the_batch():
    model, limits = HistoryModel(), torch.tensor([4, 1, 2, 4])
    never = torch.tensor([[3], [5], [6], [8]])
    model.row = lambda history: torch.tensor([0.0, 1.0, -9.0, float(sum(history) % 3)])
    greedy_search(model, never, max_length=limits)
    assert model.rows_per_step == [3, 2, 2]
    model.rows_per_step.clear()
    beam_search(model, never, beam_size=2, alpha=0.6, max_length=limits)
    assert model.rows_per_step == [6, 4, 4]


def test_no_step_follows_the_last_token():
    model = Tree({(): {A: 1.0}})
    greedy_search(model, ONE, max_length=2)
    assert model.rows_per_step == [1]
    greedy_search(model, ONE, max_length=1)
    assert model.rows_per_step == [1]


@kinds
def test_a_step_computes_one_position(kind):
    """The cost of a token does not grow with the number of tokens before it."""
    model, widths = sentence_model(kind=kind), []
    model.decoder.embedding.register_forward_hook(lambda *call: widths.append(call[-1].shape[1]))
    sources = right_padded(SOURCES)
    beam_search(model, sources, beam_size=3, alpha=0.6, max_length=6)
    assert widths[0] == (1 if kind == "encoder_decoder" else sources.shape[1])
    assert len(widths) > 2
    assert set(widths[1:]) == {1}


def test_searching_builds_no_graph():
    model = sentence_model()
    for found in (
        greedy_search(model, torch.tensor([[5]]), max_length=3),
        beam_search(model, torch.tensor([[5]]), beam_size=2, alpha=0.6, max_length=3),
    ):
        assert not found.scores.requires_grad


# Choosing tokens, and invalid arguments


def test_choosing_a_token_is_a_callable():
    model = HistoryModel()
    found = generate(model, ONE, choose=lambda logits: logits.argmin(dim=-1), max_length=3)
    history, expected, score = (9,), [], 0.0
    while len(expected) < 3 and EOS not in expected:
        log_probs = model.row((*history, *expected)).log_softmax(dim=-1)
        expected.append(int(log_probs.argmin()))
        score += log_probs.min().item()
    [[(tokens, found_score)]] = outputs(found)
    assert tokens == tuple(expected)
    assert found_score == pytest.approx(score)


@pytest.mark.parametrize(("beam_size", "n_best"), [(4, 5), (4, 0), (0, 1), (1, 2)])
def test_n_best_is_at_most_the_beam(beam_size, n_best):
    message = f"n_best is {n_best}; it must be between 1 and beam_size, {beam_size}"
    with pytest.raises(ValueError, match=message):
        beam_search(HistoryModel(), ONE, beam_size=beam_size, alpha=0, max_length=3, n_best=n_best)


@pytest.mark.parametrize("max_length", [0, -1, torch.tensor([3, 0])])
def test_a_limit_leaves_room_for_a_token(max_length):
    for search in (greedy_search, lambda *a, **k: beam_search(*a, beam_size=2, alpha=0, **k)):
        with pytest.raises(ValueError, match=r"max_length is (0|-1); it must be at least 1"):
            search(HistoryModel(), torch.tensor([[9], [9]]), max_length=max_length)


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="the batch has no rows"):
        greedy_search(HistoryModel(), torch.zeros(0, 3, dtype=torch.int64), max_length=3)


@pytest.mark.parametrize("alpha", [300.0, -300.0, 1e300, math.inf, -math.inf, math.nan])
def test_a_length_penalty_beyond_float32_is_refused(alpha):
    with pytest.raises(
        ValueError, match=re.escape(f"alpha is {alpha}: float32 cannot hold the length penalty")
    ):
        beam_search(HistoryModel(), ONE, beam_size=2, alpha=alpha, max_length=7)


@pytest.mark.parametrize("max_length", [torch.ones(2), torch.ones(3).int(), torch.ones(2, 1).int()])
def test_a_limit_is_a_whole_number_or_one_for_each_row(max_length):
    for search in (greedy_search, lambda *a, **k: beam_search(*a, beam_size=2, alpha=0, **k)):
        with pytest.raises(ValueError, match=r"max_length has type .* one for each of the 2 rows"):
            search(HistoryModel(), torch.tensor([[9], [9]]), max_length=max_length)


@searches
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_logits_without_probabilities_are_refused(search, value):
    """Row 2 fails in the third step, when row 0 has ended and left the batch."""

    class Broken(HistoryModel):
        def row(self, history):
            if history[0] == 7 and len(history) == 3:
                return torch.full((self.vocab_size,), value)
            chances = {5: [0, 0, 1, 0], 6: [0.5, 0.5, 0, 0], 7: [0, 0.5, 0, 0.5]}[history[0]]
            return torch.tensor(chances).log()

    with pytest.raises(ValueError, match=r"row 2 of the batch is not a number|no token can be drawn"):
        search(Broken(), torch.tensor([[5], [6], [7]]))
