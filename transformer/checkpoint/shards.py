"""Writing tensors that are split among processes: each process writes its parts, and one merges the parts.

The parts are written by the safetensors writer of `torch.distributed.checkpoint`, and merged in this module.
The writer can also merge (`enable_consolidation`), but in torch 2.13 it then replaces scalar tensors, such as
Adam's step counts, by zeros, and fails for tensors of integers.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from transformer.checkpoint.writing import WriteFile, bytes_of
from transformer.files import naming

FILE_BYTES = 2**28
"""The approximate number of bytes that each process writes to one file. torch's writer holds a copy of a
whole file in memory."""
OFFSETS = "DCP_SHARDING_INFO"
"""The key in a file's metadata under which torch's writer stores where each part begins in its tensor."""


class Layout(NamedTuple):
    """The shape and the type of a whole tensor."""

    shape: torch.Size
    dtype: torch.dtype


class Piece(NamedTuple):
    """One process's part of a tensor."""

    path: Path
    """The file that contains the part."""
    place: tuple[slice, ...]
    """The part's indices in the whole tensor."""
    dtype: str
    """The type as safetensors names it, such as `F32`."""

    @property
    def size(self) -> int:
        """The number of elements in the part."""
        return torch.Size(index.stop - index.start for index in self.place).numel()


def write_shards(tensors: Mapping[str, Tensor], folder: Path, group: Any) -> WriteFile:
    """Write this process's part of the tensors to `folder`; all processes of `group` must call this function.

    Returns a function that merges the parts into one file. Raises `OSError` in all processes if one process
    cannot write.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    writer = HuggingFaceStorageWriter(
        str(folder), fqn_to_index_mapping=file_numbers(tensors, group.size()), save_distributed=True
    )
    with naming(folder):
        try:
            parts = {name: contiguous(tensor) for name, tensor in tensors.items()}
            save(parts, storage_writer=writer, process_group=group)
        except CheckpointException as error:  # contains the exceptions of the processes that failed
            raise next(iter(error.failures.values()))[0] from None
    layouts = {name: Layout(tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
    return partial(merge, folder, layouts)


def contiguous(tensor: Tensor) -> Tensor:
    """Make this process's part of a tensor contiguous, because torch's writer rejects other parts.

    A tensor that is not divided is copied, because the writer also rejects tensors that share memory; it is
    small. `DTensor.contiguous` is not enough, because it looks at the strides of the whole tensor.
    """
    from torch.distributed.tensor import DTensor

    if not isinstance(tensor, DTensor):
        return tensor.clone(memory_format=torch.contiguous_format)
    part = tensor.to_local().contiguous()
    return DTensor.from_local(
        part, tensor.device_mesh, tensor.placements, shape=tensor.shape, stride=tensor.stride()
    )


def file_numbers(tensors: Mapping[str, Tensor], processes: int) -> dict[str, int]:
    """Return, for each tensor, the number of the file for its parts; the numbers start at 1."""
    numbers, total = {}, 0
    for name, tensor in tensors.items():
        numbers[name] = 1 + total // (processes * FILE_BYTES)
        total += tensor.numel() * tensor.element_size()
    return numbers


def merge(folder: Path, layouts: Mapping[str, Layout], path: Path) -> str:
    """Write the file `path` with the tensors whose parts are in `folder`, and return the file's SHA-256.

    Only one tensor is in memory at a time. Raises `OSError` if parts are missing or cannot be read.
    """
    digest = hashlib.sha256()
    with naming(path):
        try:
            pieces = found_pieces(folder)
            require_complete(pieces, layouts, folder)
            with path.open("wb") as file:
                for block in blocks(pieces, layouts):
                    file.write(block)
                    digest.update(block)
        except SafetensorError as error:
            raise OSError(f"{folder}: cannot be read ({error})") from error
    return digest.hexdigest()


def found_pieces(folder: Path) -> dict[str, list[Piece]]:
    """Find the parts of each tensor in the files of `folder`."""
    found: dict[str, list[Piece]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            stored = json.loads(file.metadata()[OFFSETS])
            for name in file.keys():  # noqa: SIM118
                part = file.get_slice(name)
                starts = stored[name]["saved_offsets"]
                ends = [start + length for start, length in zip(starts, part.get_shape(), strict=True)]
                piece = Piece(path, tuple(map(slice, starts, ends)), part.get_dtype())
                found.setdefault(name, []).append(piece)
    return found


def require_complete(pieces: Mapping[str, list[Piece]], layouts: Mapping[str, Layout], folder: Path) -> None:
    """Raise `OSError` if parts of tensors are missing, because a network file system may show files late."""
    for name, layout in layouts.items():
        if sum(piece.size for piece in pieces.get(name, [])) != layout.shape.numel():
            raise OSError(f"{folder}: parts of {name} are missing")


def blocks(pieces: Mapping[str, list[Piece]], layouts: Mapping[str, Layout]) -> Iterator[Any]:
    """Yield the content of a safetensors file: its header, then the bytes of each tensor.

    As in the files that safetensors itself writes, the tensors with the largest types come first, so that all
    tensors are aligned.
    """
    names = sorted(layouts, key=lambda name: (-layouts[name].dtype.itemsize, name))
    header, end = {}, 0
    for name in names:
        shape, dtype = layouts[name]
        start, end = end, end + shape.numel() * dtype.itemsize
        header[name] = {"dtype": pieces[name][0].dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in names:
        yield bytes_of(assembled(name, pieces[name], layouts[name]))


def assembled(name: str, pieces: list[Piece], layout: Layout) -> Tensor:
    whole = torch.empty(layout.shape, dtype=layout.dtype)
    for piece in pieces:
        with safe_open(piece.path, framework="pt") as file:
            whole[piece.place] = file.get_tensor(name)
    return whole
