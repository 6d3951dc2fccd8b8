"""Files with one sentence per line, with or without labels, as batches of ids."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from transformer.config import DataConfig
from transformer.data.epochs import BatchType, EpochBatches, TensorBatch
from transformer.data.padding import right_padded
from transformer.data.slices import require_file, split_slice
from transformer.data.text import MAX_CHARACTERS_PER_TOKEN, CorpusError, read_lines
from transformer.data.token_budget import cut_by_tokens
from transformer.data.tokenizers.protocol import EOS_ID, Tokenizer


def after_tab(line: str) -> tuple[str, str]:
    """Split `SENTENCE<TAB>LABEL` into sentence and label; a missing label becomes an empty string."""
    text, tab, label = line.rpartition("\t")
    return text, label if tab else ""


def before_colon(line: str) -> tuple[str, str]:
    """Split `LABEL:DETAIL SENTENCE` into sentence and label; a missing label becomes an empty string."""
    first, _, text = line.partition(" ")
    label, colon, _ = first.partition(":")
    return text, label if colon else ""


LABEL_FORMATS: dict[str, tuple[str, Callable[[str], tuple[str, str]]]] = {
    "tab": ("SENTENCE<TAB>LABEL", after_tab),
    "colon": ("LABEL:DETAIL SENTENCE", before_colon),
}
"""For each value of `data.label_format`, the layout of a line and the function that splits a line."""


@dataclass(frozen=True)
class Sentence:
    text: str
    label: str | None
    """None if the file has no labels."""
    where: str
    """The file and the line number, for error messages."""


def read_sentences(name: str, label_format: str | None) -> list[Sentence]:
    """Read a text file (plain, `.gz` or `.xz`) with one sentence per line.

    A slice at the end of `name`, such as `[:90%]` or `[100:200]`, selects some of the lines. Raises
    `CorpusError` if no line is selected, or if a line has no label; the message then gives the file and the
    line number.
    """
    path, part = split_slice(name)
    require_file(name, path)
    lines = list(read_lines(Path(path)))
    chosen = part.of(len(lines))
    if not chosen:
        raise CorpusError(f"{name}: there are no sentences in it")
    return [split_label(lines[row], label_format, f"{path}, line {row + 1}") for row in chosen]


def split_label(line: str, label_format: str | None, where: str) -> Sentence:
    if label_format is None:
        return Sentence(line, None, where)
    layout, split = LABEL_FORMATS[label_format]
    text, label = split(line)
    if not label.strip():
        raise CorpusError(f"{where}: no label; data.label_format {label_format} means {layout}")
    return Sentence(text, label.strip(), where)


def class_names(sentences: Sequence[Sentence], data: DataConfig) -> tuple[str, ...]:
    """The class names in the order of their numbers: `data.classes` or, by default, the sorted labels."""
    if data.classes is not None:
        names = tuple(name.strip() for name in data.classes.split(","))
    else:
        names = tuple(sorted({sentence.label or "" for sentence in sentences}))
    for sentence in sentences:
        if sentence.label and "," in sentence.label:
            raise CorpusError(f"{sentence.where}: the label {sentence.label!r} has a comma in it")
    if len(names) < 2 or len(set(names)) < len(names):
        raise CorpusError(
            f"the classes are {', '.join(names)}; a classifier needs at least two distinct classes"
        )
    return names


def class_numbers(sentences: Sequence[Sentence], names: Sequence[str]) -> NDArray[np.int64]:
    number_of = {name: number for number, name in enumerate(names)}
    for sentence in sentences:
        if sentence.label not in number_of:
            raise CorpusError(
                f"{sentence.where}: the label {sentence.label!r} is not in data.classes, {', '.join(names)}"
            )
    return np.array([number_of[sentence.label or ""] for sentence in sentences])


def encode_sentences(texts: Sequence[str], tokenizer: Tokenizer, max_tokens: int) -> list[NDArray[np.int64]]:
    """Encode each sentence, truncated if necessary, and append EOS: at most `max_tokens` ids in all."""
    starts = [text[: MAX_CHARACTERS_PER_TOKEN * max_tokens] for text in texts]
    return [np.array([*ids[: max_tokens - 1], EOS_ID]) for ids in tokenizer.encode(starts)]


class SentenceBatches(EpochBatches[BatchType]):
    """Batches of sentences of similar length, in a seeded order.

    A batch has at most `tokens_per_batch` tokens, including padding. The rows of an epoch have two columns:
    the index of a sentence and the number of the epoch. The second column lets a subclass make a different
    batch of the same sentences in each epoch.
    """

    def __init__(
        self, sentences: Sequence[NDArray[np.int64]], *, tokens_per_batch: int, seed: int, shuffle: bool
    ) -> None:
        self.sentences = sentences
        self.lengths = np.array([len(ids) for ids in sentences])
        self.tokens_per_batch = tokens_per_batch
        self.seed = seed
        self.shuffle = shuffle
        if tokens_per_batch < self.lengths.max():
            raise ValueError(
                f"training.tokens_per_batch is {tokens_per_batch}, but a sentence has {self.lengths.max()} "
                "tokens; raise the first or lower data.max_tokens"
            )
        super().__init__()

    def epoch(self, number: int) -> list[NDArray[np.int64]]:
        generator = np.random.default_rng((self.seed, number))
        rows = len(self.sentences)
        ties = generator.permutation(rows) if self.shuffle else np.arange(rows)
        batches = cut_by_tokens(np.lexsort((ties, self.lengths)), self.lengths, self.tokens_per_batch)
        if self.shuffle:
            batches = [batches[at] for at in generator.permutation(len(batches))]
        return [np.stack([np.sort(part), np.full_like(part, number)], axis=1) for part in batches]

    def sizes(self, rows: NDArray[np.int64]) -> tuple[int, ...]:
        longest = int(self.lengths[rows[:, 0]].max())
        return len(rows) * longest, len(rows) * longest**2

    def content(self) -> Iterator[NDArray[Any]]:
        yield self.lengths
        yield from self.sentences


@dataclass(frozen=True)
class LabelledBatch(TensorBatch):
    """Right-padded sentences and the class number of each."""

    tokens: Int[Tensor, "batch length"]
    classes: Int[Tensor, " batch"]
    target_tokens: int
    """Number of predictions: one class per sentence."""


class LabelledBatches(SentenceBatches[LabelledBatch]):
    """Batches of sentences with their classes."""

    def __init__(
        self, sentences: Sequence[NDArray[np.int64]], classes: NDArray[np.int64], **options: int
    ) -> None:
        self.classes = classes
        super().__init__(sentences, **options)  # type: ignore[arg-type]

    def content(self) -> Iterator[NDArray[Any]]:
        yield from super().content()
        yield self.classes

    def fetch(self, rows: NDArray[np.int64]) -> LabelledBatch:
        chosen = rows[:, 0]
        tokens = right_padded([self.sentences[row] for row in chosen])
        return LabelledBatch(tokens, torch.from_numpy(self.classes[chosen]), len(chosen))
