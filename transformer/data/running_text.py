"""Reads running text for language models, encodes it as one long sequence of ids, and cuts it into blocks."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from transformer.data.epochs import EpochBatches, TensorBatch
from transformer.data.slices import require_file, split_slice
from transformer.data.text import CorpusError, read_lines
from transformer.data.tokenizers.protocol import EOS_ID, PAD_ID, Tokenizer


def read_text(name: str) -> str:
    """Read a text file (plain, `.gz` or `.xz`) into one string, in which every line ends in a line break.

    A slice at the end of `name`, such as `[:90%]` or `[1000:2000]`, selects some of the characters. Raises
    `CorpusError` if the file cannot be read or the slice is empty.
    """
    path, part = split_slice(name)
    require_file(name, path)
    text = "".join(f"{line}\n" for line in read_lines(Path(path)))
    chosen = part.of(len(text))
    text = text[chosen.start : chosen.stop]
    if not text:
        raise CorpusError(f"{name}: there is no text in it")
    return text


def token_ids(text: str, tokenizer: Tokenizer) -> NDArray[np.int32]:
    """Encode `text` as one sequence. If the tokenizer has no token for line breaks, each becomes EOS."""
    if tokenizer.keeps_lines:
        return np.array(tokenizer.encode([text])[0], dtype=np.int32)
    lines = tokenizer.encode(text.split("\n"))
    ids = np.fromiter(chain.from_iterable([*line, EOS_ID] for line in lines), dtype=np.int32)
    return ids[:-1]  # there is no line break after the last part


@dataclass(frozen=True)
class TextBatch(TensorBatch):
    """Blocks of running text: the model reads `tokens[:, :-1]` and predicts `tokens[:, 1:]`."""

    tokens: Int[Tensor, "batch length"]
    target_tokens: int
    """Number of tokens to predict, without padding."""


class BlockBatches(EpochBatches[TextBatch]):
    """Batches of contiguous blocks of running text, in a seeded order.

    In each epoch, every token of the text except the first is predicted once. A block has at most `context`
    tokens to predict. Each epoch cuts the text at different positions. Without `shuffle`, every epoch starts
    at the first token and goes through the text in order.
    """

    def __init__(
        self, ids: NDArray[np.int32], *, context: int, tokens_per_batch: int, seed: int, shuffle: bool
    ) -> None:
        if len(ids) < 2:
            raise CorpusError(f"the text has {len(ids)} tokens; a language model needs at least 2")
        if tokens_per_batch < context:
            raise ValueError(
                f"training.tokens_per_batch is {tokens_per_batch}, but a block has {context} tokens "
                "(data.context); raise the first or lower the second"
            )
        self.ids = ids
        self.context = context
        self.blocks_per_batch = tokens_per_batch // context
        self.seed = seed
        self.shuffle = shuffle
        super().__init__()

    def epoch(self, number: int) -> list[NDArray[np.int64]]:
        """The batches of one epoch; for each block in a batch, the index of the block's first token.

        The index may be negative for the first block of the text; `fetch` makes that block shorter.
        """
        generator = np.random.default_rng((self.seed, number))
        offset = int(generator.integers(self.context)) if self.shuffle else 0
        starts = np.arange(-offset, len(self.ids) - 1, self.context)
        if self.shuffle:
            starts = generator.permutation(starts)
        return [
            starts[first : first + self.blocks_per_batch]
            for first in range(0, len(starts), self.blocks_per_batch)
        ]

    def sizes(self, rows: NDArray[np.int64]) -> tuple[int, ...]:
        return (len(rows) * self.context,)

    def content(self) -> Iterator[NDArray[Any]]:
        yield self.ids

    def fetch(self, rows: NDArray[np.int64]) -> TextBatch:
        blocks = [self.ids[max(0, start) : start + self.context + 1] for start in rows]
        longest = max(map(len, blocks))
        tokens = np.full((len(blocks), longest), PAD_ID, dtype=np.int64)
        for row, block in zip(tokens, blocks, strict=True):
            row[: len(block)] = block
        return TextBatch(torch.from_numpy(tokens), sum(map(len, blocks)) - len(blocks))
