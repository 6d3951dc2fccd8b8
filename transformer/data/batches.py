"""Token-limited batches of sentence pairs of similar length, in a resumable order (§5.1)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch.nn.functional as F
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from transformer.data.epochs import EpochBatches, TensorBatch
from transformer.data.flat import FlatPairs
from transformer.data.padding import padded
from transformer.data.token_budget import cut_by_tokens
from transformer.data.tokenizers.protocol import BOS_ID

if TYPE_CHECKING:
    import datasets  # slow to import, and needed only for type annotations


@dataclass(frozen=True)
class Batch(TensorBatch):
    """Right-padded pairs; `src_tokens` end in EOS, `tgt_tokens` start with BOS and end in EOS.

    The decoder reads `tgt_tokens[:, :-1]` and predicts `tgt_tokens[:, 1:]`.
    """

    src_tokens: Int[Tensor, "batch source"]
    tgt_tokens: Int[Tensor, "batch target"]
    lines: NDArray[np.int64]
    """The line number of each pair in its corpus, counted from 1."""
    target_tokens: int
    """Number of tokens to predict: all target tokens, with EOS but without padding."""


class TokenBatches(EpochBatches[Batch]):
    """Endless batches from a tokenized table, epoch after epoch; the current position can be saved.

    In each batch, the number of pairs times the length of the longest source is at most `tokens_per_batch`.
    The same limit applies to the targets. Lengths include EOS. The order depends only on the seed and the
    epoch. Each pair takes 16 bytes of memory, and 8 more while the next epoch's order is in memory too. If
    pairs were dropped, the table stores the indices of the remaining rows, which takes another 8 bytes per
    pair. The tokens are not copied.
    """

    def __init__(
        self, table: "datasets.Dataset", *, tokens_per_batch: int, seed: int, shuffle: bool = True
    ) -> None:
        if not len(table):
            raise ValueError("no pairs are left to make batches of; data.max_tokens may be too low")
        self.pairs = FlatPairs(table)
        self.tokens_per_batch = tokens_per_batch
        self.seed = seed
        self.shuffle = shuffle
        src_lengths, tgt_lengths = self.pairs.lengths("src"), self.pairs.lengths("tgt")
        self.longer_side = np.maximum(src_lengths, tgt_lengths)
        self.difference = src_lengths - tgt_lengths
        self.require_room()
        super().__init__()

    def require_room(self) -> None:
        """Raise `ValueError` if a pair is too long for any batch."""
        row = int(self.longer_side.argmax())
        if self.longer_side[row] > self.tokens_per_batch:
            line = self.pairs.take(np.array([row])).line[0]
            raise ValueError(
                f"training.tokens_per_batch is {self.tokens_per_batch}, but the pair on line {line} has "
                f"{self.longer_side[row]} tokens; raise it or lower data.max_tokens"
            )

    def epoch(self, number: int) -> list[NDArray[np.int64]]:
        """The rows of each batch of an epoch; every row of the table is in exactly one batch."""
        generator = np.random.default_rng((self.seed, number))
        rows = len(self.longer_side)
        ties = generator.permutation(rows) if self.shuffle else np.arange(rows)
        batches = cut_by_tokens(self.by_length(ties), self.longer_side, self.tokens_per_batch)
        if self.shuffle:
            batches = [batches[place] for place in generator.permutation(len(batches))]
        return [np.sort(batch) for batch in batches]  # reading the table in order is faster

    def by_length(self, ties: NDArray[np.int64]) -> NDArray[np.int64]:
        """All rows sorted by the length of the longer side; pairs of equal lengths are ordered by `ties`.

        Pairs whose longer sides have the same length are sorted by the difference of their two lengths:
        in ascending order if the length of the longer side is odd, in descending order if it is even.
        Neighbours therefore have similar lengths on both sides, even where the length of the longer side
        changes. This order leaves half as much padding as sorting by target length and then by source length.
        """
        # This gives the same result as `lexsort((ties, in_turn, longer_side))`, but is five times as fast.
        # The inverse of the permutation `ties` lists the rows by increasing `ties` without a sort, and
        # `lexsort` keeps this order among equal pairs. NumPy sorts 16-bit numbers in linear time.
        first = np.empty_like(ties)
        first[ties] = np.arange(len(ties))
        longer_side = self.longer_side[first]
        difference = self.difference[first]
        in_turn = np.where(longer_side % 2, difference, -difference)
        small = np.int16 if longer_side.max() < 2**15 else np.int32
        return first[np.lexsort((in_turn.astype(small), longer_side.astype(small)))]

    def sizes(self, rows: NDArray[np.int64]) -> tuple[int, ...]:
        difference = self.difference[rows]  # source - target
        sources = self.longer_side[rows] + np.minimum(difference, 0)
        source, target = int(sources.max()), int((sources - difference).max())
        count = len(rows)
        return count * (source + target), count * target, count * max(source, target) ** 2

    def content(self) -> Iterator[NDArray[Any]]:
        rows = np.arange(len(self.longer_side))
        for start in range(0, len(rows), 100_000):
            yield from self.pairs.content(rows[start : start + 100_000])

    def fetch(self, rows: NDArray[np.int64]) -> Batch:
        src, tgt, lines = self.pairs.take(rows)
        return Batch(
            src_tokens=padded(*src),
            tgt_tokens=F.pad(padded(*tgt), (1, 0), value=BOS_ID),
            lines=lines,
            target_tokens=len(tgt.elements),
        )


class PairBatches(TokenBatches):
    """`TokenBatches` for the task of matching sentences with their translations: one prediction per pair."""

    def fetch(self, rows: NDArray[np.int64]) -> Batch:
        return replace(super().fetch(rows), target_tokens=len(rows))
