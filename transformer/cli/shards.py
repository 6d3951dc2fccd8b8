"""Splitting a file among several processes, on one or more machines: `torchrun … -m transformer …`.

The file is cut into chunks, which are assigned round-robin: process r of n works on the chunks r, r + n,
r + 2n, …. Each process writes its results to its own file in a temporary folder next to the output, on a file
system that all machines must share. When all processes are done, the first process joins the files in order.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import TypeVar

from jsonargparse import Namespace

from transformer.files import naming, unfinished_folder, whole_file
from transformer.processes import rank_and_size
from transformer.training.coordination import Processes

Chunk = TypeVar("Chunk")
CONNECTING = 600.0
"""Timeout in seconds for all processes to connect."""


def require_plain(output: Path) -> None:
    """Raise `ValueError` unless `output` is a new or regular file: folders and devices are never replaced."""
    if not output.parent.is_dir():
        raise ValueError(f"{output}: there is no folder {output.parent}")
    if output.exists() and not output.is_file():
        raise ValueError(f"{output} is not a plain file; choose another output")


def sharing_processes() -> AbstractContextManager[Processes]:
    """Return a context manager that connects torchrun's processes; without torchrun there is one process.

    The processes exchange their data through the CPU, even if their models run on GPUs.
    """
    if rank_and_size()[1] == 1:
        return nullcontext(Processes())
    import torch

    from transformer.training.distributed import process_group

    advice = "nothing was written; start all processes again"
    return process_group(torch.device("cpu"), CONNECTING, advice)


def require_one_task(group: Processes, options: Namespace) -> None:
    """Raise `ValueError` unless all processes of the group were given the same options, files and models.

    Replaces `options.run` with the checkpoints that were compared, because a run that is still training may
    get a new best checkpoint at any time.
    """
    from transformer.checkpoint.format import MANIFEST
    from transformer.checkpoint.opening import find_pretrained
    from transformer.training.agreement import versions

    given = {f"--{name.replace('_', '-')}": value for name, value in vars(options).items()}
    del given["--device"]  # each process has its own
    group.require_equal(given | versions())
    given = {}
    for path in filter(None, (options.input, options.prefixes)):
        given[f"{path} with the hash"] = content_hash(Path(path))
    found = [find_pretrained(name) for name in options.run]
    for name, (run, checkpoint) in zip(options.run, found, strict=True):
        hashes = [content_hash(path) for path in (checkpoint / MANIFEST, run.config)]
        given[f"the model of {name}"] = " ".join((checkpoint.name, *hashes))
    group.require_equal(given)
    options.run = [str(checkpoint) for _, checkpoint in found]


def content_hash(path: Path) -> str:
    """Hash a file's content, because a path may name different files on different machines."""
    if not path.is_file():
        raise ValueError(f"{path} is not a plain file; several processes can share only a plain file")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def write_shared(
    output: Path,
    chunks: Iterable[Chunk],
    work: Callable[[int, Chunk], bytes],
    lines_per_chunk: int,
    group: Processes,
) -> None:
    """Write the results of `work(number, chunk)` to `output`, in order; the file appears only when complete.

    Every chunk except the last must give exactly `lines_per_chunk` lines, because `join` relies on that.
    """
    with shared_folder(output, group) as folder:
        parts = [folder / f"part-{rank}" for rank in range(group.size)]
        for number, chunk in enumerate(chunks):
            if number % group.size == group.rank:
                content = work(number, chunk)
                # Not "ab", which would create a missing file: if the first process has failed and deleted the
                # folder, opening the file must fail.
                with naming(output, parts[group.rank]), parts[group.rank].open("r+b") as part:
                    part.seek(0, 2)
                    part.write(content)
        group.wait()
        if group.is_first:
            with whole_file(output) as whole:
                join(parts, whole, lines_per_chunk)
        group.wait()


@contextmanager
def shared_folder(output: Path, group: Processes) -> Iterator[Path]:
    """Let the first process create a folder with a file `part-RANK` for each process, and yield it."""
    place = output.resolve()  # replace the target of a symbolic link, not the link itself
    with ExitStack() as held:

        def begin() -> str:
            require_plain(output)
            folder = held.enter_context(unfinished_folder(place))
            for rank in range(group.size):
                (folder / f"part-{rank}").touch()
            return str(folder.relative_to(place.parent))

        yield place.parent / group.from_first(begin)


def join(parts: list[Path], whole: Path, lines_per_chunk: int) -> None:
    """Write the parts to `whole`: one chunk of lines from each part in turn, until a part has none left."""
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
