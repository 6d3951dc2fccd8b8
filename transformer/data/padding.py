"""Pads rows of different lengths and combines them into one tensor."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from transformer.data.tokenizers.protocol import PAD_ID

Rows = Sequence[Sequence[int]] | Sequence[NDArray[Any]]


def right_padded(rows: Rows, pad_id: int = PAD_ID) -> Int[Tensor, "batch length"]:
    """Combine rows of ids into one tensor; shorter rows are padded with `pad_id`."""
    lengths = np.array([len(row) for row in rows])
    return padded(np.concatenate([np.asarray(row, dtype=np.int64) for row in rows]), lengths, pad_id)


def padded(ids: NDArray[Any], lengths: NDArray[Any], pad_id: int = PAD_ID) -> Int[Tensor, "batch length"]:
    """Like `right_padded`, for rows that are already concatenated: their `ids`, and each row's length."""
    tokens = np.full((len(lengths), lengths.max()), pad_id, dtype=np.int64)
    tokens[np.arange(tokens.shape[1]) < lengths[:, None]] = ids
    return torch.from_numpy(tokens)
