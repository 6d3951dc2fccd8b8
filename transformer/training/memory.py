"""Whether the memory holds what training needs of it, found out before any is taken."""

import os
from dataclasses import replace
from pathlib import Path

import torch

from transformer.config import ModelConfig

BYTES_PER_WEIGHT = 16
"""A float32 number, its gradient and Adam's two moments."""
CONTAINER_LIMITS = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"
"""Where Linux says how many bytes a container may use: control groups of version 2, and of version 1."""


def require_memory(config: ModelConfig, device: torch.device) -> None:
    """Refuse a model whose weights, with their gradients and moments, are more than the memory.

    The embeddings are left out: how large the vocabulary is shows when the tokenizer is made.
    """
    smallest = max(config.pad_id, config.bos_id, config.eos_id, config.unk_id) + 1
    weights = replace(config, vocab_size=smallest).num_weights
    needed, there = weights * BYTES_PER_WEIGHT, memory_bytes(device)
    if there is not None and needed > there:
        raise ValueError(
            f"out of memory: {config.num_layers} layers of width {config.d_model} (d_ff {config.d_ff}) have "
            f"{weights:,} weights, which with gradients and Adam's moments take "
            f"{needed // 2**30:,} GiB; {device} has {there / 2**30:,.1f} GiB; lower model.num_layers, "
            "model.d_model or model.d_ff"
        )


def memory_bytes(device: torch.device) -> int | None:
    """All the memory that the device has, or the container is given of it; `None` if unknown."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    limits = [path.read_text().strip() for path in map(Path, CONTAINER_LIMITS) if path.exists()]
    numbers = [int(limit) for limit in limits if limit.isdigit()]  # without a limit, version 2 says "max"
    if hasattr(os, "sysconf"):  # not on Windows
        numbers.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(numbers, default=None)
