"""Files of sentence vectors: `.npy` files have only the vectors, `.jsonl` files also have the sentences."""

import json
import math
import os
import warnings
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib.format import read_array_header_1_0, read_array_header_2_0
from numpy.typing import NDArray

from transformer.config.errors import shortened
from transformer.data.json_text import parse_json, why_no_text
from transformer.data.text import CorpusError, read_lines
from transformer.files import whole_file

SUFFIXES = (".npy", ".jsonl")


def require_vector_file(path: str) -> None:
    if Path(path).suffix not in SUFFIXES:
        raise ValueError(f"{path}: the name of a file of vectors must end in {' or '.join(SUFFIXES)}")


def write_vectors(path: str, sentences: Sequence[str], vectors: NDArray[np.float32]) -> None:
    """Write the vectors and, in a `.jsonl` file, the sentences; the file appears only when it is complete."""
    with whole_file(Path(path)) as unfinished:
        if Path(path).suffix == ".npy":
            with unfinished.open("wb") as file:
                vectors = np.ascontiguousarray(vectors)
                header = np.lib.format.header_data_from_array_1_0(vectors)
                np.lib.format.write_array_header_1_0(file, header)
                file.write(vectors.data)  # not np.save, because it does not report a full disk
        else:
            with unfinished.open("w", encoding="utf-8") as lines:
                for sentence, vector in zip(sentences, vectors.tolist(), strict=True):
                    entry = {"text": sentence, "embedding": vector}
                    lines.write(json.dumps(entry, ensure_ascii=False) + "\n")


@np.errstate(over="ignore", invalid="ignore")  # values that are not finite are refused below
def read_vectors(path: str, sentences: str | None) -> tuple[list[str], NDArray[np.float32]]:
    """Read sentences and their vectors, which must have length 1.

    A `.npy` file has no sentences, so they are read from the file `sentences`. Raises `ValueError` if the
    vectors cannot be used as an index; the message names the file and, if possible, the line.
    """
    require_vector_file(path)
    if path.endswith(".jsonl"):
        if sentences is not None:
            raise ValueError(f"{path} contains its sentences; leave out --sentences {sentences}")
        texts, vectors = read_jsonl(path)
    else:
        if sentences is None:
            raise ValueError(f"{path} holds only vectors; give the file of the sentences with --sentences")
        texts, vectors = list(read_lines(sentences)), read_npy(path)
        if vectors.ndim != 2 or len(vectors) != len(texts):
            raise CorpusError(
                f"{path} has the shape {vectors.shape}, and {sentences} has {len(texts)} lines; "
                "the vectors need one row for each line"
            )
    if not texts:
        raise CorpusError(f"{path}: there are no vectors in it")
    lengths = np.linalg.norm(vectors, axis=1)
    for row in np.flatnonzero(~(np.abs(lengths - 1) < 0.01))[:1]:  # not `>=`, so that NaN is refused too
        raise CorpusError(
            f"{path}: vector {row + 1} has the length {lengths[row]:.3g}; `transformer embed` writes vectors "
            "of length 1, whose products are cosines"
        )
    return texts, vectors


def read_npy(path: str) -> NDArray[np.float32]:
    try:
        with Path(path).open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy warns about headers that were written by Python 2
            require_content(file)
            vectors = np.lib.format.read_array(file, allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # numpy's header parser raises many types of errors
        why = shortened(" ".join(str(error).split()), 200)
        raise CorpusError(f"{path}: not an array of numbers in numpy's format ({why})") from None
    return vectors.astype(np.float32)


def require_content(file: BinaryIO) -> None:
    """Raise `ValueError` if a `.npy` file is too short for the array that its header describes.

    Without this check, numpy would allocate the memory for any shape in the header of a damaged file.
    """
    version = np.lib.format.read_magic(file)
    read_header = read_array_header_1_0 if version == (1, 0) else read_array_header_2_0
    shape, _, kind = read_header(file)
    if kind.kind not in "fiu" or min(shape, default=0) < 0:
        raise ValueError(f"it has the type {kind} and the shape {shape}")
    start = file.tell()
    promised, there = math.prod(shape) * kind.itemsize, file.seek(0, os.SEEK_END) - start
    if promised > there:
        raise ValueError(f"its header promises {promised:,} bytes, but the file has {there:,}")
    file.seek(0)


def read_jsonl(path: str) -> tuple[list[str], NDArray[np.float32]]:
    texts: list[str] = []
    vectors: list[NDArray[np.float32]] = []
    with closing(read_lines(path)) as lines:
        for number, line in enumerate(lines, start=1):
            try:
                entry = parse_json(line, path)
                text, vector = entry["text"], np.array(entry["embedding"], dtype=np.float32)
                is_vector = vector.ndim == 1 and bool(np.isfinite(vector).all())
                if why_no_text(text) or not is_vector or (vectors and len(vector) != len(vectors[0])):
                    raise ValueError
            except (ValueError, KeyError, TypeError):
                raise CorpusError(
                    f'{path}, line {number}: not {{"text": …, "embedding": [numbers]}} '
                    "with as many numbers as the first line"
                ) from None
            texts.append(text)
            vectors.append(vector)
    return texts, np.stack(vectors) if vectors else np.empty((0, 0), dtype=np.float32)
