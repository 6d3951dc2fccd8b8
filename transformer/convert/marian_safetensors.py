"""Reading the weights of a Hugging Face Marian folder: one safetensors file, or several with an index."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from transformer.checkpoint.weights import read_tensors
from transformer.config import ModelConfig
from transformer.convert.common import ConversionError
from transformer.convert.marian_names import Correspondence
from transformer.convert.marian_programs import PROGRAMS, ProgramName
from transformer.convert.marian_weights import Embeddings, MarianWeights, position_table
from transformer.data.tokenizers.marian import LARGEST_FILE
from transformer.files import read_bounded

WEIGHTS, INDEX, SHARDS = "model.safetensors", "model.safetensors.index.json", "model-*.safetensors"
SHARED, SOURCE, TARGET, OUTPUT = (
    "model.shared.weight",
    "model.encoder.embed_tokens.weight",
    "model.decoder.embed_tokens.weight",
    "lm_head.weight",
)
OUTPUT_BIAS = "final_logits_bias"
POSITIONS = ("model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight")


class SafetensorsWeights(MarianWeights):
    """The weights of a folder. The folder's settings say how the embeddings are tied and scaled."""

    def __init__(self, folder: Path, *, is_shared: bool, is_output_tied: bool, is_scaled: bool) -> None:
        super().__init__(*read_folder(folder))
        self.is_shared, self.is_output_tied, self.is_scaled = is_shared, is_output_tied, is_scaled

    def name(self, weight: Correspondence) -> str:
        return weight.hugging_face

    def layer(self, weight: Correspondence, shape: Sequence[int]) -> Tensor:
        return self.take(weight.hugging_face, shape)

    def embeddings(self, rows: tuple[int, int], d_model: int) -> Embeddings:
        """Return the embeddings for our model, which multiplies them by √d_model.

        If the Marian model does not multiply its embeddings, this method divides them by √d_model.
        """
        source_rows, target_rows = rows
        sizes = {SHARED: source_rows, SOURCE: source_rows, TARGET: target_rows, OUTPUT: target_rows}
        found = {name: self.take(name, (size, d_model)) for name, size in sizes.items() if name in self.left}
        if self.is_shared and self.is_output_tied:
            source = target = output = self.first(found, *sizes)  # stored under any of these names
        else:
            fallback = (SHARED,) if self.is_shared else ()
            source, target = self.first(found, SOURCE, *fallback), self.first(found, TARGET, *fallback)
            output = target if self.is_output_tied else self.first(found, OUTPUT)
        scale = 1.0 if self.is_scaled else 1 / math.sqrt(d_model)
        return Embeddings(source * scale, target * scale, output)

    def output_bias(self, rows: int) -> Tensor:
        return self.take(OUTPUT_BIAS, (1, rows))[0]

    def take_positions(self, config: ModelConfig) -> ProgramName | None:
        """Remove stored positional encodings from `left`; return the program that computes them, if any."""
        found = None
        for name in POSITIONS:
            if name not in self.left:
                continue
            length = len(self.left[name]) if self.left[name].dim() else 0
            stored = self.take(name, (length, config.d_model))
            for program, settings in PROGRAMS.items():
                table = position_table(settings.applied_to(config), length)
                if torch.allclose(stored, table, atol=1e-3):  # loose: the file may store 16-bit floats
                    found = program
                    break
            else:
                raise ConversionError(f"{self.path}: {name} is not the sinusoidal encoding")
        return found


def read_folder(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    """Return the file that error messages should name, and the weights."""
    if (folder / WEIGHTS).is_file():
        return folder / WEIGHTS, read_tensors(folder / WEIGHTS)
    index = folder / INDEX
    if not index.is_file():
        raise ConversionError(
            f"{folder}: no {WEIGHTS}; a pytorch_model.bin is a pickle, which is never read here; rewrite "
            "it with transformers: MarianMTModel.from_pretrained(DIR).save_pretrained(DIR)"
        )
    try:
        file_of = json.loads(read_bounded(index, LARGEST_FILE))["weight_map"]
        files = sorted({Path(name).name for name in file_of.values()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ConversionError(f"{index}: not an index of safetensors files, or damaged") from None
    weights: dict[str, Tensor] = {}
    for name in files:
        weights |= read_tensors(folder / name)
    return index, weights
