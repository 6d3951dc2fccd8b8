"""Whether the memory of `transformer serve` grows because of a leak, or because freed memory is kept.

python benchmarks/serving_memory.py --run RUN [--data TEXT] [--lines 6000]

Translates batches of 1 to 20 random lines in one process, as the server does. After each eighth of the lines,
prints the resident memory, the bytes that the C library counts as in use and as free, and the number of
Python objects. A leak would increase the bytes in use and, if Python leaks, the number of objects. Resident
memory also includes freed blocks, which `malloc_trim` returns to the system at the end.
As in the server, torch keeps prepared products for 64 shapes of a batch. With LRU_CACHE_CAPACITY=1024
ONEDNN_PRIMITIVE_CACHE_CAPACITY=1024, it keeps its default number. Needs Linux with glibc 2.33 or later.
"""

import argparse
import ctypes
import gc
import random
import re
from pathlib import Path

from transformer.kernels.allocator import keep_few_shapes, keep_freed_memory

keep_few_shapes()  # before torch is imported

import torch  # noqa: E402
from measuring import machine  # noqa: E402

from transformer.checkpoint.opening import open_run  # noqa: E402
from transformer.data.corpus import load_parallel  # noqa: E402
from transformer.decoding.translator import Translator  # noqa: E402

PARTS = 8
LARGEST_BATCH = 20
FIELDS = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"


class MallocFigures(ctypes.Structure):
    """The result of glibc's `mallinfo2`, in bytes: `uordblks` and `hblkhd` are in use, `fordblks` is free."""

    _fields_ = [(name, ctypes.c_size_t) for name in FIELDS.split()]


def figures(libc: ctypes.CDLL, when: str) -> str:
    libc.mallinfo2.restype = MallocFigures
    found = libc.mallinfo2()
    status = Path("/proc/self/status").read_text()
    resident = int(re.findall(r"VmRSS:\s*(\d+) kB", status)[0]) / 1024
    used, free = (found.uordblks + found.hblkhd) / 2**20, found.fordblks / 2**20
    gc.collect()
    return f"{when:>10}{resident:14,.0f}{used:12,.1f}{free:10,.0f}{len(gc.get_objects()):16,}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True, help="a run's folder, or a checkpoint in it")
    parser.add_argument("--data", help="text, named as in data.test (default: the run's)")
    parser.add_argument("--lines", type=int, default=6000, help="lines to translate")
    options = parser.parse_args()

    keep_freed_memory()  # as every command does
    data = open_run(options.run, task="translation").settings.data
    sources = list(load_parallel(options.data or str(data.test), data.source, data.target)["source"])
    translator = Translator.from_pretrained(options.run, device="cpu")
    libc, chance, done = ctypes.CDLL(None), random.Random(0), 0
    print(machine(torch.device("cpu")))
    print(f"{'lines':>10}{'resident MiB':>14}{'used MiB':>12}{'free MiB':>10}{'Python objects':>16}")
    print(figures(libc, "0"))
    for part in range(1, PARTS + 1):
        while done < part * options.lines // PARTS:
            lines = chance.choices(sources, k=chance.randint(1, LARGEST_BATCH))
            translator.translate(lines)
            done += len(lines)
        print(figures(libc, f"{done:,}"), flush=True)
    libc.malloc_trim(0)
    print(figures(libc, "trimmed"))


if __name__ == "__main__":
    main()
