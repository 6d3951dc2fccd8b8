"""The two masks: True where a query may attend."""

import jaxtyping
import pytest
import torch

from transformer.model.masks import causal_mask, padding_mask


def test_padding_mask_is_true_at_real_tokens():
    mask = padding_mask(torch.tensor([[5, 6, 9], [7, 9, 9]]), pad_id=9)
    assert mask.shape == (2, 1, 1, 3)
    assert mask[:, 0, 0].tolist() == [[True, True, False], [True, False, False]]


def test_causal_mask_of_whole_sequences_is_the_lower_triangle():
    mask = causal_mask(torch.arange(4)[None], 4)
    assert torch.equal(mask, torch.ones(1, 1, 4, 4, dtype=torch.bool).tril())


def test_causal_mask_follows_each_rows_own_positions():
    mask = causal_mask(torch.tensor([[2, 3], [0, 1]]), 5)
    visible = [[3, 4], [1, 2]]  # keys 0 … position
    for row in range(2):
        for query in range(2):
            expected = [key < visible[row][query] for key in range(5)]
            assert mask[row, 0, query].tolist() == expected


def test_masks_combine():
    both = padding_mask(torch.tensor([[5, 5, 0]]), 0) & causal_mask(torch.arange(3)[None], 3)
    expected = [[True, False, False], [True, True, False], [True, True, False]]
    assert both[0, 0].tolist() == expected


def test_the_tests_check_shapes_as_they_run():
    with pytest.raises(jaxtyping.TypeCheckError, match="padding_mask"):
        padding_mask(torch.zeros(3, dtype=torch.int64), 0)
