"""Masked language modelling: which tokens of a sentence are hidden, and what replaces them.

A tokenizer trained for this task has the token `<mask>`, and encodes `<mask>` in a sentence as that token.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from transformer.data.epochs import TensorBatch
from transformer.data.padding import right_padded
from transformer.data.sentences import SentenceBatches
from transformer.data.tokenizers.protocol import EOS_ID, PAD_ID, SPECIAL_IDS, Tokenizer

MASK = "<mask>"
MASK_ID = len(SPECIAL_IDS)
"""SentencePiece gives the first user-defined symbol the first id after the special tokens."""

CHOSEN_SHARE = 0.15
"""Share of a sentence's tokens that are predicted."""
MASKED_SHARE = 0.8
"""Share of the predicted tokens that are replaced by `<mask>`."""
RANDOM_SHARE = 0.1
"""Share of the predicted tokens that are replaced by a random token. The remaining predicted tokens are left
unchanged, so the model must represent every token, not only the masked ones."""


def has_mask(tokenizer: Tokenizer) -> bool:
    return tokenizer.encode([MASK])[0][-1:] == [MASK_ID]


def encode_with_masks(lines: Sequence[str], tokenizer: Tokenizer) -> list[list[int]]:
    """Encode lines in which `<mask>` replaces tokens.

    SentencePiece makes the space before `<mask>` a separate token. This token is left out, because in
    training the space is part of the word that is masked.
    """
    blank = tokenizer.encode([MASK])[0][:-1]
    encoded = []
    for ids in tokenizer.encode(lines):
        is_kept = (place + 1 == len(ids) or ids[place + 1] != MASK_ID for place in range(len(ids)))
        encoded.append(
            [number for number, kept in zip(ids, is_kept, strict=True) if kept or [number] != blank]
        )
    return encoded


@dataclass(frozen=True)
class MaskedBatch(TensorBatch):
    """Sentences with hidden tokens."""

    tokens: Int[Tensor, "batch length"]
    places: Int[Tensor, " hidden"]
    """The positions to predict, as indices of `tokens.flatten()`."""
    labels: Int[Tensor, " hidden"]
    """The original tokens at these positions."""

    @property
    def target_tokens(self) -> int:
        """Number of tokens to predict."""
        return len(self.labels)


def hide(
    ids: NDArray[np.int64], generator: np.random.Generator, vocab_size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hide about 15 % of a sentence's tokens, at least one, and return the new tokens and the labels.

    A label is the original token where one is hidden, and PAD elsewhere. EOS is never chosen, nor is a
    `<mask>` that the sentence already contains.
    """
    places = np.flatnonzero((ids != EOS_ID) & (ids != MASK_ID))
    wanted = int(CHOSEN_SHARE * len(places) + generator.random())  # 15 % on average at any length
    chosen = generator.permutation(places)[: max(1, wanted)]
    draws = generator.random(len(chosen))
    others = generator.integers(MASK_ID + 1, vocab_size, len(chosen))
    tokens, labels = ids.copy(), np.full_like(ids, PAD_ID)
    labels[chosen] = ids[chosen]
    tokens[chosen] = np.select(
        [draws < MASKED_SHARE, draws < MASKED_SHARE + RANDOM_SHARE], [MASK_ID, others], ids[chosen]
    )
    return tokens, labels


class MaskedBatches(SentenceBatches[MaskedBatch]):
    """Batches that hide different tokens in each epoch, chosen by the seed, epoch and sentence number."""

    def __init__(self, sentences: Sequence[NDArray[np.int64]], vocab_size: int, **options: int) -> None:
        self.vocab_size = vocab_size
        super().__init__(sentences, **options)  # type: ignore[arg-type]

    def fetch(self, rows: NDArray[np.int64]) -> MaskedBatch:
        tokens, labels = zip(*self.hidden(rows), strict=True)
        originals = right_padded(labels).flatten()
        [places] = originals.nonzero(as_tuple=True)
        return MaskedBatch(right_padded(tokens), places, originals[places])

    def hidden(self, rows: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        for row, epoch in rows.tolist():
            generator = np.random.default_rng((self.seed, epoch, row))
            yield hide(self.sentences[row], generator, self.vocab_size)
