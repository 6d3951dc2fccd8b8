"""Whether the memory holds what training needs of it, found out before any is taken."""

import os
from dataclasses import replace

import torch

from transformer.config import ModelConfig
from transformer.model.build import count_parameters

BYTES_PER_PARAMETER = 16
"""Of a float32 parameter, its gradient and Adam's two moments."""


def require_memory(config: ModelConfig, device: torch.device) -> None:
    """Refuse a model whose parameters, with their gradients and moments, are more than the memory.

    The embeddings are left out: how large the vocabulary is shows when the tokenizer is made.
    """
    smallest = max(config.pad_id, config.bos_id, config.eos_id, config.unk_id) + 1
    parameters = count_parameters(replace(config, vocab_size=smallest))
    needed, there = parameters * BYTES_PER_PARAMETER, memory_bytes(device)
    if needed > there:
        raise ValueError(
            f"out of memory: {config.num_layers} layers of width {config.d_model} (d_ff {config.d_ff}) have "
            f"{parameters:,} parameters, which with gradients and Adam's moments take "
            f"{needed / 2**30:,.0f} GiB; {device} has {there / 2**30:,.1f} GiB; lower model.num_layers, "
            "model.d_model or model.d_ff"
        )


def memory_bytes(device: torch.device) -> int:
    """All the memory that the device has, whoever uses it."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
