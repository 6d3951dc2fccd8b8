"""Checks whether there is enough memory for training, before any memory is allocated."""

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from transformer.config import Settings
from transformer.training.distributed import ALONE, Group
from transformer.training.layers import stacked_layers

BYTES_PER_WEIGHT = 16
"""Four float32 numbers: the weight, its gradient and Adam's two moments."""
CONTAINER_LIMITS = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"
"""Files that hold a container's memory limit in bytes on Linux (cgroup v2, then v1)."""
CONTAINER_USE = (
    ("/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"),
    ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "/sys/fs/cgroup/memory/memory.stat"),
)
"""For each file in `CONTAINER_LIMITS`: the file with the memory in use, and the file with its breakdown."""
MACHINE_USE = "/proc/meminfo"
USABLE = 0.8
"""The fraction of the available host memory that copies of tensors may take."""


def require_memory(settings: Settings, device: torch.device, group: Group = ALONE) -> None:
    """Raise `ValueError` if the device cannot hold one process's weights, gradients and Adam moments.

    The embeddings are left out, because the size of the vocabulary is not known before the tokenizer is made.
    """
    config, is_divided = settings.model, settings.training.parallel == "fsdp"
    smallest = max(config.special_ids) + 1
    weights = replace(config, vocab_size=smallest).num_weights
    needed, there = weights * BYTES_PER_WEIGHT, memory_bytes(device)
    if is_divided:
        needed //= group.size
    if there is not None and needed > there:
        each = f" in each of {group.size} processes" if group.size > 1 else ""
        more = ", or start more processes" if is_divided else ", or set training.parallel to fsdp"
        raise ValueError(
            f"out of memory: {config.num_layers} layers of width {config.d_model} (d_ff {config.d_ff}) have "
            f"{weights:,} weights, which with gradients and Adam's moments take "
            f"{needed // 2**30:,} GiB{each}; {device} has {there / 2**30:,.1f} GiB; lower model.num_layers, "
            f"model.d_model or model.d_ff{more}"
        )


class Need(NamedTuple):
    """The memory that each process needs for a model sharded over `processes`, without activations."""

    processes: int
    parameters: int
    """The number of parameters of the whole model."""
    state: int
    """Bytes for the process's own part of the weights, the gradients and Adam's moments."""
    gathered: int
    """Bytes for the parts that are gathered at the same time: embeddings and output with their gradients,
    two layers, and the gradients of one layer."""

    @property
    def total(self) -> int:
        return self.state + self.gathered


def needs(model: nn.Module) -> Iterator[Need]:
    """Yield the memory that each process needs if there are 1, 2, 4, 8, … processes.

    The last number of processes is the first for which the gathered bytes exceed the process's own part.
    """
    layers = stacked_layers(model)
    sizes = [sum(parameter.numel() for parameter in layer.parameters()) for layer in layers]
    largest = max(sizes, default=0)
    total = sum(parameter.numel() for parameter in model.parameters())
    outside = total - sum(sizes)
    gathered = 4 * (2 * outside + 3 * largest)
    for doublings in range(20):
        processes = 2**doublings
        own = sum(own_numbers(parameter.shape, processes) for parameter in model.parameters())
        need = Need(processes, total, BYTES_PER_WEIGHT * own, gathered if processes > 1 else 0)
        yield need
        if need.state < need.gathered:
            return


def own_numbers(shape: torch.Size, processes: int) -> int:
    """Count the values of a parameter that the first process holds: its share of the rows, rounded up."""
    rows, *rest = shape or (1,)
    return -(-rows // processes) * math.prod(rest)


def memory_bytes(device: torch.device) -> int | None:
    """Return the total memory of the device in bytes, or None if it is unknown.

    For a CPU, the container's limit is returned if it is lower than the machine's memory.
    """
    if device.type == "mps":
        return torch.mps.recommended_max_memory()
    if device.type != "cpu":
        return getattr(torch, device.type).get_device_properties(device).total_memory
    limits = [path.read_text().strip() for path in map(Path, CONTAINER_LIMITS) if path.exists()]
    numbers = [int(limit) for limit in limits if limit.isdigit()]  # cgroup v2 writes "max" for no limit
    if hasattr(os, "sysconf"):  # not on Windows
        numbers.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(numbers, default=None)


def has_room_for(tensors: Iterable[Tensor]) -> bool:
    """Whether there is enough host memory for copies of these tensors; True if that is unknown."""
    needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    there = available_bytes()
    return there is None or needed <= USABLE * there


def available_bytes() -> int | None:
    """Return how many more bytes of host memory this process can use, or None if that is unknown.

    Memory that only caches files counts as available, because the system frees it when it is needed.
    """
    numbers = [1024 * number for number in table_of(MACHINE_USE, "MemAvailable:")]
    for limit, (use, parts) in zip(CONTAINER_LIMITS, CONTAINER_USE, strict=True):
        if Path(use).exists() and (most := Path(limit).read_text().strip()).isdigit():
            cached = sum(table_of(parts, "inactive_file", "active_file"))
            numbers.append(int(most) - int(Path(use).read_text()) + cached)
    return min(numbers, default=None)


def table_of(path: str, *names: str) -> list[int]:
    """Return the numbers of the lines that begin with one of `names`; [] if the file does not exist."""
    if not Path(path).exists():
        return []
    rows = [line.split() for line in Path(path).read_text().splitlines()]
    return [int(row[1]) for row in rows if row[0] in names]
