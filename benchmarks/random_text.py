"""Batches of random tokens with sentence lengths as in WMT, without a corpus or tokenizer."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from transformer.data.batches import Batch
from transformer.data.epochs import EpochBatches, Plan
from transformer.data.token_budget import cut_by_tokens
from transformer.data.tokenizers.protocol import BOS_ID, EOS_ID, PAD_ID, SPECIAL_IDS

LONGEST = 250


def wmt_lengths(pairs: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Source and target lengths with EOS: log-normal, mean about 28 tokens, correlated within each pair."""
    generator = np.random.default_rng(1)
    source = generator.lognormal(3.15, 0.6, pairs)
    target = source * generator.normal(1, 0.15, pairs)
    return tuple(np.clip(side, 2, LONGEST).astype(np.int64) for side in (source, target))  # type: ignore[return-value]


class RandomPairs(EpochBatches[Batch]):
    """Batches of at most `tokens_per_batch` tokens per side, like those of `TokenBatches`."""

    def __init__(self, pairs: int, *, vocab_size: int, tokens_per_batch: int) -> None:
        self.source, self.target = wmt_lengths(pairs)
        self.vocab_size = vocab_size
        self.tokens_per_batch = tokens_per_batch
        super().__init__()

    def epoch(self, number: int) -> Plan:
        longer = np.maximum(self.source, self.target)
        plan = cut_by_tokens(np.lexsort((self.target, longer)), longer, self.tokens_per_batch)
        return [plan[at] for at in np.random.default_rng(number).permutation(len(plan))]

    def fetch(self, rows: NDArray[np.int64]) -> Batch:
        generator = np.random.default_rng(rows[0])
        source, target = (
            self.random_rows(lengths[rows], generator) for lengths in (self.source, self.target)
        )
        tokens = int(self.target[rows].sum())
        return Batch(source, F.pad(target, (1, 0), value=BOS_ID), rows + 1, tokens)

    def random_rows(self, lengths: NDArray[np.int64], generator: np.random.Generator) -> torch.Tensor:
        places = np.arange(lengths.max())
        tokens = generator.integers(len(SPECIAL_IDS), self.vocab_size, (len(lengths), len(places)))
        tokens[places >= lengths[:, None]] = PAD_ID
        tokens[places == lengths[:, None] - 1] = EOS_ID
        return torch.from_numpy(tokens)

    def sizes(self, rows: NDArray[np.int64]) -> tuple[int, ...]:
        longest = max(int(self.source[rows].max()), int(self.target[rows].max()))
        return len(rows) * longest, len(rows) * longest**2

    def content(self) -> Iterator[NDArray[Any]]:
        yield from (self.source, self.target)
