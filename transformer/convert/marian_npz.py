"""Reading the weights from an `.npz` file, Marian's own format, without unpickling anything."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from transformer.convert.common import ConversionError
from transformer.convert.marian_names import Correspondence
from transformer.convert.marian_weights import Embeddings, MarianWeights

SETTINGS = "special:model.yml"
SHARED, SOURCE, TARGET = "Wemb", "encoder_Wemb", "decoder_Wemb"
OUTPUT, OUTPUT_BIAS = "decoder_ff_logit_out_Wt", "decoder_ff_logit_out_b"
MOST_UNPACKED = 100
"""An archive is refused if its unpacked size is more than this many times its packed size. The archives that
Marian writes are not compressed at all."""
UNREADABLE = (
    ValueError,  # a damaged header, or an array of Python objects, which would have to be unpickled
    OSError,
    EOFError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


class NpzWeights(MarianWeights):
    """The weights of an `.npz` file. Its matrices are the transposes of ours, and its biases have one row."""

    def __init__(self, path: Path, tensors: dict[str, Tensor], *, is_output_tied: bool) -> None:
        super().__init__(path, tensors)
        self.is_shared = SHARED in tensors
        self.is_output_tied = is_output_tied

    @property
    def rows(self) -> tuple[int, int]:
        """The numbers of rows of the source embedding and of the target embedding."""
        names = (SHARED, SHARED) if self.is_shared else (SOURCE, TARGET)
        self.require(names)
        source, target = (len(self.left[name]) if self.left[name].dim() else 0 for name in names)
        return source, target

    def name(self, weight: Correspondence) -> str:
        return weight.marian

    def layer(self, weight: Correspondence, shape: Sequence[int]) -> Tensor:
        if len(shape) == 1:
            return self.take(weight.marian, (1, *shape))[0]
        return self.take(weight.marian, shape[::-1]).T.contiguous()

    def embeddings(self, rows: tuple[int, int], d_model: int) -> Embeddings:
        source_rows, target_rows = rows
        if self.is_shared:
            source = target = self.take(SHARED, (target_rows, d_model))
        else:
            source, target = (
                self.take(SOURCE, (source_rows, d_model)),
                self.take(TARGET, (target_rows, d_model)),
            )
        output = target if self.is_output_tied else self.take(OUTPUT, (target_rows, d_model))
        return Embeddings(source, target, output)

    def output_bias(self, rows: int) -> Tensor:
        return self.take(OUTPUT_BIAS, (1, rows))[0]


def read_npz(path: Path) -> tuple[str, dict[str, Tensor]]:
    """Return the settings, as YAML text, and the weights by name."""
    if not zipfile.is_zipfile(path):
        raise ConversionError(f"{path}: not an .npz file, or a damaged one")
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > MOST_UNPACKED * path.stat().st_size:
                raise ValueError("it is compressed far more than weights can be")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        if SETTINGS not in arrays:
            raise ValueError(f"it lacks {SETTINGS}, which every Marian model has")
        settings = bytes(arrays.pop(SETTINGS)).rstrip(b"\0").decode()
        return settings, {name: as_tensor(name, array) for name, array in arrays.items()}
    except UNREADABLE as error:
        raise ConversionError(f"{path}: cannot be read: {error}") from None


def as_tensor(name: str, array: Any) -> Tensor:
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        raise ValueError(f"{name} is not an array of floating-point numbers; only plain weights can be read")
    return torch.from_numpy(np.asarray(array, dtype=np.float32))
