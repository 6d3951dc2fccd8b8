"""Several processes, on one machine or more, that share the lines of a file: `torchrun … -m transformer …`.

Process r of n works on every n-th chunk, from chunk r on, and writes its results beside the output, which all
machines must see. When all are done, the first puts the parts together in order.
"""

from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import TypeVar

from transformer.files import UNFINISHED, whole_file

Chunk = TypeVar("Chunk")


def require_plain(output: Path) -> None:
    """`ValueError` unless a file can take the name `output`: a folder or a device is not to be replaced."""
    if not output.parent.is_dir():
        raise ValueError(f"{output}: there is no folder {output.parent}")
    if output.exists() and not output.is_file():
        raise ValueError(f"{output} is not a plain file; name one that may be replaced")


def write_shared(
    output: Path,
    chunks: Iterable[Chunk],
    work: Callable[[int, Chunk], bytes],
    lines_per_chunk: int,
    rank: int,
    count: int,
) -> None:
    """Write what `work` makes of each numbered chunk to `output`, in order, whole or not at all.

    A chunk makes `lines_per_chunk` lines, the last one perhaps fewer.
    """
    output = output.resolve()  # what a link points to is replaced, not the link
    parts = [output.with_name(f"{UNFINISHED}{output.name}-{number}") for number in range(count)]
    try:
        with parts[rank].open("wb") as part:
            for number, chunk in enumerate(chunks):
                if number % count == rank:
                    part.write(work(number, chunk))
        with Meeting(count) as meeting:
            meeting.wait()
            if rank == 0:
                with whole_file(output) as whole:
                    join(parts, whole, lines_per_chunk)
            meeting.wait()
    finally:
        parts[rank].unlink(missing_ok=True)


def join(parts: list[Path], whole: Path, lines_per_chunk: int) -> None:
    """Take a chunk's lines from each part in turn, until one has none left."""
    streams = [part.open("rb") for part in parts]
    try:
        with whole.open("wb") as file:
            number = 0
            while lines := list(islice(streams[number % len(streams)], lines_per_chunk)):
                file.writelines(lines)
                number += 1
    finally:
        for stream in streams:
            stream.close()


class Meeting:
    """Where all processes wait for each other; a single one need not."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __enter__(self) -> "Meeting":
        if self.count > 1:
            import torch.distributed

            from transformer.hardware import PATIENCE

            torch.distributed.init_process_group("gloo", timeout=PATIENCE)
        return self

    def wait(self) -> None:
        if self.count > 1:
            import torch.distributed

            torch.distributed.barrier()

    def __exit__(self, *error: object) -> None:
        if self.count > 1:
            import torch.distributed

            torch.distributed.destroy_process_group()
