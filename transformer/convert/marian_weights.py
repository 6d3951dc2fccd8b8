"""Converting Marian's weights to ours."""

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from transformer.checkpoint.reading import read_tensors, unique_tensors
from transformer.config import ModelConfig
from transformer.convert.common import ConversionError
from transformer.convert.marian_folder import WEIGHTS, MarianFolder
from transformer.convert.marian_names import interleaved, layer_weights
from transformer.model.build import build_model
from transformer.model.positions import SinusoidalEncoding

NEVER = -1e4
"""Output bias of tokens that must not be produced: far below any logit, but finite even in float16."""
SHARED, SOURCE, TARGET, OUTPUT = (
    "model.shared.weight",
    "model.encoder.embed_tokens.weight",
    "model.decoder.embed_tokens.weight",
    "lm_head.weight",
)
OUTPUT_BIAS = "final_logits_bias"
POSITIONS = ("model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight")


def convert_weights(folder: MarianFolder, config: ModelConfig, marian_ids: list[int]) -> dict[str, Tensor]:
    """Our model's weights by name, tied ones once; `marian_ids` are Marian's ids of our tokens."""
    theirs = MarianWeights(folder)
    theirs.require(part.theirs for part in layer_weights(config.num_layers))  # before a model is built
    with torch.device("meta"):  # shapes without memory
        expected = {name: tensor.shape for name, tensor in unique_tensors(build_model(config)).items()}
    channels, rows = interleaved(config.d_model), torch.tensor(marian_ids)
    weights = {}
    for ours, name, dimension in layer_weights(config.num_layers):
        tensor = theirs.take(name, expected[ours])
        weights[ours] = tensor if dimension is None else tensor.index_select(dimension, channels)
    for ours, matrix in theirs.embeddings(folder.vocab_size, config.d_model).items():
        if ours in expected:
            weights[ours] = matrix[rows][:, channels]
    weights["output.bias"] = theirs.take(OUTPUT_BIAS, (1, folder.vocab_size))[0, rows]
    if marian_ids.count(marian_ids[config.bos_id]) > 1:  # BOS is Marian's pad
        weights["output.bias"][[config.pad_id, config.bos_id]] = NEVER
    theirs.require_static_positions(config.d_model)
    theirs.require_nothing_left()
    return weights


class MarianWeights:
    """The weights file; weights are removed as they are read, so any left at the end were not converted."""

    def __init__(self, folder: MarianFolder) -> None:
        self.folder = folder
        self.path = folder.path / WEIGHTS
        if not self.path.is_file():
            raise ConversionError(
                f"{folder.path}: no {WEIGHTS}; a pytorch_model.bin is pickled and never read here; rewrite "
                "it: MarianMTModel.from_pretrained(DIR).save_pretrained(DIR) in transformers"
            )
        self.left = read_tensors(self.path)

    def require(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self.left:
                raise ConversionError(f"{self.path}: lacks {name}, which config.json requires")

    def take(self, name: str, shape: Iterable[int]) -> Float[Tensor, "..."]:
        self.require([name])
        tensor, expected = self.left.pop(name), tuple(shape)
        if tuple(tensor.shape) != expected:
            raise ConversionError(
                f"{self.path}: {name} has shape {tuple(tensor.shape)}, but config.json says {expected}"
            )
        if not tensor.is_floating_point():
            raise ConversionError(f"{self.path}: {name} is {tensor.dtype}; only plain weights can be read")
        return tensor.float()

    def embeddings(self, vocab_size: int, d_model: int) -> dict[str, Float[Tensor, "vocabulary d_model"]]:
        """The embeddings and the output matrix by our names; tied ones are the same tensor.

        Our model always multiplies embeddings by √d_model, so if Marian's does not, they are divided by it.
        """
        is_shared = self.folder.flag("share_encoder_decoder_embeddings", True)
        is_output_tied = self.folder.flag("tie_word_embeddings", True)
        names = (SHARED, SOURCE, TARGET, OUTPUT)
        found = {name: self.take(name, (vocab_size, d_model)) for name in names if name in self.left}
        if is_shared and is_output_tied:
            source = target = output = self.first(found, *names)  # the file may use any of its names
        else:
            fallback = (SHARED,) if is_shared else ()
            source, target = self.first(found, SOURCE, *fallback), self.first(found, TARGET, *fallback)
            output = target if is_output_tied else self.first(found, OUTPUT)
        scale = 1.0 if self.folder.flag("scale_embedding", False) else 1 / math.sqrt(d_model)
        return {
            "encoder.embedding.embedding.weight": source * scale,
            "decoder.embedding.embedding.weight": target * scale,
            "output.weight": output,
        }

    def first(self, found: dict[str, Tensor], *names: str) -> Tensor:
        for name in names:
            if name in found:
                return found[name]
        raise ConversionError(f"{self.path}: lacks {' or '.join(names)}, which config.json requires")

    def require_static_positions(self, d_model: int) -> None:
        """Check a stored positional encoding, which only old files have, against the formula."""
        for name in POSITIONS:
            if name not in self.left:
                continue
            length = len(self.left[name]) if self.left[name].dim() else 0
            ours = SinusoidalEncoding(d_model)(torch.arange(length))
            theirs = self.take(name, (length, d_model))[:, interleaved(d_model)]
            if not torch.allclose(theirs, ours, atol=1e-3):  # the file may hold 16 bits
                raise ConversionError(f"{self.path}: {name} is not the sinusoidal encoding")

    def require_nothing_left(self) -> None:
        if self.left:
            raise ConversionError(
                f"{self.path}: {min(self.left)} cannot be converted ({len(self.left)} such)"
            )
