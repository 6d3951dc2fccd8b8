"""Token-limited batches of sentence pairs of similar length, in a resumable order (§5.1)."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch.nn.functional as F
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from transformer.data.corpus import quiet_datasets
from transformer.data.epochs import EpochBatches, TensorBatch
from transformer.data.flat import FlatPairs
from transformer.data.padding import cut_by_tokens, padded
from transformer.data.text import MAX_CHARACTERS_PER_TOKEN
from transformer.data.tokenizers.protocol import BOS_ID, EOS_ID, Tokenizer

if TYPE_CHECKING:
    import datasets  # slow to import, so the functions below import it when they are called


@dataclass(frozen=True)
class Counts:
    """The number of pairs kept and of pairs dropped, by reason."""

    kept: int
    empty: int
    """Pairs with a side that is blank, or empty after normalisation."""
    too_long: int
    """Pairs with more than `data.max_tokens` tokens (with EOS), or 64 times as many characters, on a side."""


def tokenize_pairs(
    table: "datasets.Dataset", tokenizer: Tokenizer, *, max_tokens: int
) -> tuple["datasets.Dataset", Counts]:
    """The pairs of a parallel table as ids: `src` and `tgt`, each ending in EOS, and `line`, counted from 1.

    If the table is on disk, the result is stored there too, and the next call with the same tokenizer reuses
    it.
    """
    import datasets

    ids = datasets.Sequence(datasets.Value("int32"))
    with quiet_datasets():
        tokenized = table.map(
            partial(keep_pairs, tokenizer=tokenizer, max_tokens=max_tokens),
            input_columns=["source", "target"],
            with_indices=True,
            batched=True,
            batch_size=10_000,
            remove_columns=table.column_names,
            features=datasets.Features(src=ids, tgt=ids, line=datasets.Value("int64")),
        )
    # Counted afterwards, because `keep_pairs` does not run if the result comes from the cache.
    dropped = np.setdiff1d(np.arange(len(table)), tokenized.data.column("line").to_numpy() - 1)
    reasons: Counter[str] = Counter()
    for pairs in table.select(dropped).iter(batch_size=10_000):
        reasons.update(encode_pairs(pairs["source"], pairs["target"], tokenizer, max_tokens)[2])
    return tokenized, Counts(len(tokenized), reasons["empty"], reasons["too long"])


def keep_pairs(
    sources: list[str],
    targets: list[str],
    rows: list[int],
    *,
    tokenizer: Tokenizer,
    max_tokens: int,
) -> dict[str, list[Any]]:
    src, tgt, reasons = encode_pairs(sources, targets, tokenizer, max_tokens)
    kept = [pair for pair, reason in enumerate(reasons) if not reason]
    return {
        "src": [src[pair] for pair in kept],
        "tgt": [tgt[pair] for pair in kept],
        "line": [rows[pair] + 1 for pair in kept],
    }


def encode_pairs(
    sources: list[str], targets: list[str], tokenizer: Tokenizer, max_tokens: int
) -> tuple[list[list[int]], list[list[int]], list[str]]:
    """The ids of both sides, and why each pair is dropped: "empty", "too long", or "" if it is kept."""
    longest = MAX_CHARACTERS_PER_TOKEN * max_tokens
    src = [[*ids, EOS_ID] for ids in tokenizer.encode([source[:longest] for source in sources])]
    tgt = [[*ids, EOS_ID] for ids in tokenizer.encode_target([target[:longest] for target in targets])]
    reasons = []
    for source, target, src_ids, tgt_ids in zip(sources, targets, src, tgt, strict=True):
        if not source.strip() or not target.strip() or len(src_ids) == 1 or len(tgt_ids) == 1:
            reasons.append("empty")
        else:
            fits = max(len(src_ids), len(tgt_ids)) <= max_tokens and max(len(source), len(target)) <= longest
            reasons.append("" if fits else "too long")
    return src, tgt, reasons


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
    """Number of tokens to predict: every target with its EOS, without padding."""


class TokenBatches(EpochBatches[Batch]):
    """Endless batches of a tokenized table, epoch after epoch; the position can be saved.

    In each batch, the number of pairs times the longest source is at most `tokens_per_batch`, and so is the
    number of pairs times the longest target (both with EOS). The order depends only on seed and epoch. A pair
    takes 16 bytes of memory, and 8 more while the next epoch's order is in memory too. The tokens stay in the
    table.
    """

    def __init__(
        self, table: "datasets.Dataset", *, tokens_per_batch: int, seed: int, shuffle: bool = True
    ) -> None:
        if not len(table):
            raise ValueError("no pairs are left to make batches of; data.max_tokens may be too low")
        self.table = table.with_format("arrow")
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
        """`ValueError` if a pair is too long for any batch."""
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
        """All rows sorted by the length of their longer side; `ties` orders pairs of equal lengths.

        Pairs with equal longer sides are sorted by the difference of their two lengths: in ascending order
        for one length, in descending order for the next. So neighbours have similar lengths on both sides,
        even where the longer side changes. There is half as much padding as with a sort by target length and
        then by source length.
        """
        in_turn = np.where(self.longer_side % 2, self.difference, -self.difference)
        return np.lexsort((ties, in_turn, self.longer_side))

    def sizes(self, rows: NDArray[np.int64]) -> tuple[int, ...]:
        difference = self.difference[rows]  # source - target
        sources = self.longer_side[rows] + np.minimum(difference, 0)
        source, target = int(sources.max()), int((sources - difference).max())
        count = len(rows)
        return count * (source + target), count * target, count * max(source, target) ** 2

    def content(self) -> Iterator[NDArray[Any]]:
        for part in self.table.iter(batch_size=100_000):
            for column in ("src", "tgt"):
                rows = part[column].combine_chunks()
                yield np.diff(rows.offsets.to_numpy())
                yield rows.flatten().to_numpy()

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
