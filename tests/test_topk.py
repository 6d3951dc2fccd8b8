"""The most probable tokens found by blocks, and by torch over the whole vocabulary: the same."""

import math

import pytest
import torch

from transformer.decoding import search
from transformer.kernels import topk
from transformer.kernels.topk import BLOCK, best_first_by_blocks, is_faster_by_blocks

SIZES = [32 * BLOCK, 32 * BLOCK + 1, 40 * BLOCK + BLOCK - 1]


@pytest.fixture
def plain(monkeypatch):
    """`best_first` without blocks."""
    monkeypatch.setattr(search, "is_faster_by_blocks", lambda *_: False)
    return search.best_first


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [1, 2, 8])
def test_the_tokens_are_those_of_topk(plain, size, count):
    log_probs = torch.randn(20, size).log_softmax(dim=1)
    for ours, expected in zip(best_first_by_blocks(log_probs, count), plain(log_probs, count), strict=True):
        assert torch.equal(ours, expected)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("levels", [1, 2, 5, 50])
def test_among_ties_the_lowest_id_is_first_and_no_token_occurs_twice(plain, size, levels):
    log_probs = torch.randint(levels, (30, size)).float()
    log_probs[0] = -math.inf
    best, tokens = best_first_by_blocks(log_probs, 8)
    assert torch.equal(best, plain(log_probs, 8)[0])
    assert torch.equal(log_probs.gather(1, tokens), best)
    assert torch.equal(tokens[:, 0], log_probs.argmax(dim=1))
    assert all(len(set(row)) == 8 for row in tokens.tolist())


def test_the_choice_among_ties_does_not_depend_on_the_other_rows():
    log_probs = torch.randn(40, 2**13).bfloat16().float()
    best, tokens = search.best_first(log_probs, 8)
    assert (best[:, :-1] == best[:, 1:]).any(), "there are no ties"
    for row in range(len(log_probs)):
        ours = search.best_first(log_probs[row : row + 1], 8)
        assert torch.equal(ours[0][0], best[row])
        assert torch.equal(ours[1][0], tokens[row])


@pytest.mark.parametrize("place", [0, 5 * BLOCK, 33 * BLOCK + 3])
def test_a_nan_is_found_as_topk_finds_it(plain, place):
    log_probs = torch.randn(4, 33 * BLOCK + 7)
    log_probs[2, place] = math.nan
    ours, expected = best_first_by_blocks(log_probs, 4), plain(log_probs, 4)
    for found, wanted in zip(ours, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0, equal_nan=True)


def test_blocks_are_used_only_for_large_vocabularies_and_few_tokens(monkeypatch):
    log_probs = torch.zeros(2, 64 * BLOCK)
    assert not is_faster_by_blocks(log_probs, 8)
    monkeypatch.setattr(topk, "LARGE", 64 * BLOCK)
    assert is_faster_by_blocks(log_probs, 16)
    assert not is_faster_by_blocks(log_probs, 17)
    assert not is_faster_by_blocks(log_probs.to("meta"), 8)
