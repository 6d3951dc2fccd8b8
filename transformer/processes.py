"""Finds this process's rank, its GPU and its number of CPU threads, without importing torch.

Under torchrun, each process gets its own rank and GPU.
"""

import os
import re
import sys
from pathlib import Path


def number_of_processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank_and_size() -> tuple[int, int]:
    """Return this process's rank and the number of processes, as set by torchrun; 0 and 1 without torchrun.

    Raises `ValueError` if there are several processes but this process has no rank.
    """
    size = number_of_processes()
    if size > 1 and "RANK" not in os.environ:
        raise ValueError(f"WORLD_SIZE is {size}, but RANK is not set; torchrun sets both")
    return int(os.environ.get("RANK", "0")), size


def own_gpu(device: str) -> str:
    """Return `device`; under torchrun, return `cuda:N` instead of `cuda`, where N is this process's GPU.

    Raises `ValueError` if the setting would give several processes on a machine the same GPU.
    """
    if device == "cuda" and "LOCAL_RANK" in os.environ:
        return f"cuda:{os.environ['LOCAL_RANK']}"
    if device.startswith("cuda:") and int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1:
        raise ValueError(f"device is {device!r}, but each process needs its own GPU; set it to cuda")
    return device


CORES = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
"""On Linux, the file that lists the logical CPUs on the same physical core as logical CPU number `{}`."""


def cpu_threads() -> int:
    """Return the number of CPU threads that torch computes with, without importing torch.

    If the program has already imported torch, the number comes from torch, because the program may have set
    it. Otherwise the result is the number of physical cores that this process may use, or `OMP_NUM_THREADS`
    if that is smaller.
    """
    if (torch := sys.modules.get("torch")) is not None:
        return int(torch.get_num_threads())
    wanted = re.match(r"\s*0*([1-9]\d{0,8})", os.environ.get("OMP_NUM_THREADS", ""))
    return min(int(wanted[1]), physical_cores()) if wanted else physical_cores()


def physical_cores() -> int:
    """Count the physical cores that this process may use, or the logical cores if those are unknown."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    return len({core_of(cpu) for cpu in os.sched_getaffinity(0)})


def core_of(cpu: int) -> str:
    """Return a name for the physical core that a logical CPU belongs to."""
    try:
        return Path(CORES.format(cpu)).read_text()
    except OSError:
        return str(cpu)
