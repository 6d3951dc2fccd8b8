"""Inference with a trained encoder: classification, sentence vectors, and filling `<mask>`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from transformer.checkpoint.pretrained import Build, load_run, no_head
from transformer.config import InferencePrecision, Settings
from transformer.data.masking import MASK, MASK_ID, encode_with_masks
from transformer.data.sentences import encode_sentences
from transformer.data.text import MAX_CHARACTERS_PER_TOKEN, CorpusError, one_line, text_list
from transformer.data.token_budget import longest_first
from transformer.data.tokenizers.protocol import EOS_ID, Tokenizer
from transformer.decoding.inference import freeze, padded_rows, without_gradients
from transformer.model.build import build_model
from transformer.model.heads import masked_language_model, sentence_embedder, sequence_classifier

AnyReader = TypeVar("AnyReader", bound="Reader")


class Reader:
    """Base class of the predictors: encodes lines as in training, and runs the model on batches of lines."""

    task: ClassVar[str]
    head = staticmethod(no_head)

    def __init__(self, model: nn.Module, tokenizer: Tokenizer, settings: Settings) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.settings = settings

    @classmethod
    def from_pretrained(
        cls: type[AnyReader],
        path: str | Path,
        *,
        build: Build = build_model,
        device: str = "auto",
        precision: InferencePrecision = "float32",
    ) -> AnyReader:
        """Load the best checkpoint of a run's folder, or one checkpoint, for inference only.

        `precision` applies to the matrix products, as in training. The model is frozen; use `load_pretrained`
        to train it further.
        """
        loaded = load_run(path, task=cls.task, build=build, head=cls.head, device=device)
        freeze(loaded.model, precision)
        return cls(*loaded)

    def outputs(
        self, sentences: Sequence[NDArray[np.int64]]
    ) -> Iterator[tuple[list[int], Float[Tensor, "batch ..."]]]:
        """Yield (row indices, model outputs) batch by batch until every row is done."""
        device = next(self.model.parameters()).device
        budget = self.settings.decoding.one_pass_limit(device.type)
        for rows in longest_first([len(ids) for ids in sentences], budget):
            tokens = padded_rows(self.model, [sentences[row] for row in rows])
            with torch.no_grad(), without_gradients(self.model):
                outputs = self.model(tokens).float().cpu()
            yield rows, outputs

    def encode(self, lines: Sequence[str]) -> list[NDArray[np.int64]]:
        return encode_sentences(lines, self.tokenizer, self.settings.data.max_tokens)


class Label(NamedTuple):
    """The most probable class of a line."""

    name: str
    probability: float


class Classifier(Reader):
    """Predicts the class of each line."""

    task, head = "classification", staticmethod(sequence_classifier)

    def classify(self, lines: Sequence[str]) -> list[Label | None]:
        """Predict one label per line, or None for a blank line."""
        lines = text_list(lines)
        names = (self.settings.data.classes or "").split(",")
        labels: list[Label | None] = [None] * len(lines)
        for rows, logits in self.outputs(self.encode(lines)):
            probabilities, numbers = (part.tolist() for part in logits.softmax(dim=1).max(dim=1))
            for row, number, probability in zip(rows, numbers, probabilities, strict=True):
                labels[row] = Label(names[number], probability) if lines[row].strip() else None
        return labels


class Embedder(Reader):
    """Turns lines into unit vectors, whose dot products are cosines."""

    task, head = "sentence_embedding", staticmethod(sentence_embedder)

    def embed(self, lines: Sequence[str]) -> NDArray[np.float32]:
        """Compute an array (lines, d_model) with one vector per line; blank lines have vectors too."""
        lines = text_list(lines)
        parts = dict[int, Any]()
        for rows, vectors in self.outputs(self.encode(lines)):
            parts.update(zip(rows, vectors.numpy(), strict=True))
        width = self.settings.model.d_model
        return np.array([parts[row] for row in range(len(lines))], dtype=np.float32).reshape(-1, width)


class Candidate(NamedTuple):
    """A token that could replace a `<mask>`, as text, and its probability."""

    text: str
    probability: float


class MaskFiller(Reader):
    """Predicts the tokens hidden by `<mask>`."""

    task, head = "masked_language_model", staticmethod(masked_language_model)

    def fill(self, lines: Sequence[str], *, count: int, first_line: int = 1) -> list[list[list[Candidate]]]:
        """Find the `count` most probable tokens for each `<mask>` of each line, best first.

        Raises `CorpusError` for a line that has no `<mask>` or is too long. Its message counts lines from
        `first_line`.
        """
        lines = text_list(lines, first=first_line)
        sentences = [self.read(line, number) for number, line in enumerate(lines, first_line)]
        return self.fill_ids(sentences, count)

    def fill_ids(self, sentences: Sequence[NDArray[np.int64]], count: int) -> list[list[list[Candidate]]]:
        """Like `fill`, for sentences that `read` has already encoded."""
        results: list[list[list[Candidate]]] = [[] for _ in sentences]
        for rows, logits in self.outputs(sentences):
            for row, row_logits in zip(rows, logits, strict=True):
                masked = row_logits[np.flatnonzero(sentences[row] == MASK_ID)]
                results[row] = [self.candidates(scores, count) for scores in masked]
        return results

    def read(self, line: str, number: int) -> NDArray[np.int64]:
        """Encode line `number`. Raises `CorpusError` if the line has no `<mask>` or is too long."""
        limit = self.settings.data.max_tokens
        if len(line) > MAX_CHARACTERS_PER_TOKEN * limit:
            raise CorpusError(
                f"line {number} has {len(line)} characters; the model reads at most {limit} tokens"
            )
        ids = np.array([*encode_with_masks([line], self.tokenizer)[0], EOS_ID])
        if MASK_ID not in ids:
            raise CorpusError(f"line {number} has no {MASK} to fill")
        if len(ids) > limit:
            raise CorpusError(f"line {number} has {len(ids)} tokens; the model reads at most {limit}")
        return ids

    def candidates(self, logits: Float[Tensor, " vocabulary"], count: int) -> list[Candidate]:
        best = logits.softmax(dim=0).topk(min(count, len(logits)))
        texts = self.tokenizer.decode([[number] for number in best.indices.tolist()])
        return [
            Candidate(one_line(text), probability)
            for text, probability in zip(texts, best.values.tolist(), strict=True)
        ]


def nearest(
    queries: NDArray[np.float32], index: NDArray[np.float32], count: int
) -> list[list[tuple[int, float]]]:
    """For each query, the rows of `index` with the highest cosine, each with its cosine, best first.

    All vectors must have length 1.
    """
    if queries.shape[1] != index.shape[1]:
        raise ValueError(
            f"the index has vectors of {index.shape[1]} numbers, but this run's have {queries.shape[1]}; "
            "make the index with the same run"
        )
    best = torch.from_numpy(queries @ index.T).topk(min(count, len(index)), dim=1)
    return [
        list(zip(rows, cosines, strict=True))
        for rows, cosines in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
