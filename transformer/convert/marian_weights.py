"""Converting Marian's weights, from Hugging Face's folders or from Marian's own files, to our weights."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from transformer.checkpoint.weights import require_finite_floats, unique_tensors
from transformer.config import ModelConfig
from transformer.convert.common import ConversionError
from transformer.convert.marian_names import Correspondence, interleaved, layer_weights
from transformer.data.tokenizers.marian import MarianTokenizer
from transformer.model.build import build_model
from transformer.model.positions import POSITIONS

NEVER = -1e4
"""Output bias of tokens that must not be produced: far below any logit, but finite even in float16."""

Matrix = Float[Tensor, "vocabulary d_model"]


class Embeddings(NamedTuple):
    """The three matrices with a row for each token; tied matrices are the same tensor.

    `source` and `target` are the values before the model multiplies them by √d_model.
    """

    source: Matrix
    target: Matrix
    output: Matrix


class MarianWeights(ABC):
    """The weights of a file. `left` holds the weights that are not converted yet; `take` pops one of them."""

    def __init__(self, path: Path, tensors: dict[str, Tensor]) -> None:
        self.path = path
        self.left = tensors

    @abstractmethod
    def name(self, weight: Correspondence) -> str:
        """Return the name of the weight in this file."""

    @abstractmethod
    def layer(self, weight: Correspondence, shape: Sequence[int]) -> Tensor:
        """Take a layer's weight, in the `shape` that our model expects."""

    @abstractmethod
    def embeddings(self, rows: tuple[int, int], d_model: int) -> Embeddings:
        """Take the embeddings; `rows` are the sizes of the source and target vocabularies."""

    @abstractmethod
    def output_bias(self, rows: int) -> Float[Tensor, " vocabulary"]: ...

    def require(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self.left:
                raise ConversionError(f"{self.path}: lacks {name}, which its settings require")

    def take(self, name: str, shape: Iterable[int]) -> Float[Tensor, "..."]:
        self.require([name])
        tensor, expected = self.left.pop(name), tuple(shape)
        if tuple(tensor.shape) != expected:
            raise ConversionError(
                f"{self.path}: {name} has shape {tuple(tensor.shape)}, but its settings say {expected}"
            )
        if not tensor.is_floating_point():
            raise ConversionError(f"{self.path}: {name} is {tensor.dtype}; only plain weights can be read")
        require_finite_floats({name: tensor}, self.path)
        return tensor.float()

    def first(self, found: dict[str, Tensor], *names: str) -> Tensor:
        for name in names:
            if name in found:
                return found[name]
        raise ConversionError(f"{self.path}: lacks {' or '.join(names)}, which its settings require")

    def require_nothing_left(self) -> None:
        if self.left:
            raise ConversionError(
                f"{self.path}: {min(self.left)} cannot be converted ({len(self.left)} such)"
            )


def convert_weights(
    theirs: MarianWeights, config: ModelConfig, tokenizer: MarianTokenizer, rows: tuple[int, int]
) -> dict[str, Tensor]:
    """Return our model's weights by name; tied weights appear once.

    `rows` are the sizes of Marian's source and target vocabularies.
    """
    theirs.require(map(theirs.name, layer_weights(config.num_layers)))  # fail before a model is built
    with torch.device("meta"):  # only the shapes are needed
        expected = {name: tensor.shape for name, tensor in unique_tensors(build_model(config)).items()}
    channels = interleaved(config.d_model)
    weights = {}
    for part in layer_weights(config.num_layers):
        tensor = theirs.layer(part, expected[part.ours])
        weights[part.ours] = tensor if part.channels is None else tensor.index_select(part.channels, channels)
    source, target, output = theirs.embeddings(rows, config.d_model)
    for ours, matrix, ids in (
        ("encoder.embedding.embedding.weight", source, tokenizer.source_ids),
        ("decoder.embedding.embedding.weight", target, tokenizer.marian_ids),
        ("output.weight", output, tokenizer.marian_ids),
    ):
        if ours in expected:
            weights[ours] = select_rows(matrix, ids, missing=0.0)[:, channels]
    bias = select_rows(theirs.output_bias(rows[1]), tokenizer.marian_ids, missing=NEVER)
    # Our BOS may be a copy of another token, such as pad, with the same Marian id and hence the same bias.
    # Our model must then never produce BOS or pad.
    if tokenizer.marian_ids.count(tokenizer.marian_ids[config.bos_id]) > 1:
        bias[[config.pad_id, config.bos_id]] = NEVER
    weights["output.bias"] = bias
    theirs.require_nothing_left()
    return weights


def select_rows(tensor: Tensor, ids: Sequence[int | None], missing: float) -> Tensor:
    """Return a tensor whose row i is row `ids[i]` of `tensor`; rows without an id hold `missing`."""
    rows = torch.tensor([-1 if number is None else number for number in ids])
    selected = tensor[rows]
    selected[rows == -1] = missing
    return selected


def position_table(config: ModelConfig, length: int) -> Float[Tensor, "length d_model"]:
    """Compute the positional encoding of a model, in Marian's order of channels."""
    encoding = POSITIONS[config.positions](config)(torch.arange(length))
    return encoding[:, interleaved(config.d_model).argsort()]
