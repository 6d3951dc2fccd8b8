"""Shared code of the benchmarks: a description of the machine, its peak FLOP/s, and a model's FLOPs."""

import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import transformer
from transformer.hardware import wait_for


def machine(device: torch.device) -> str:
    """One line with processor, threads and versions."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        name = f"{names[0] if names else platform.processor()}, {torch.get_num_threads()} threads"
    return f"{name}, torch {torch.__version__}, Python {platform.python_version()}"


def seconds_per_call(call: Callable[[], object], device: torch.device, *, seconds: float) -> float:
    """The mean time per call, over calls for `seconds` in all, after one warm-up call."""
    call()
    wait_for(device)
    calls = 0
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        call()
        wait_for(device)
        calls += 1
    return (time.perf_counter() - start) / calls


def matrix_rate(dtype: torch.dtype, device: torch.device, *, seconds: float = 1.0) -> float:
    """Floating-point operations per second of one large matrix product: an upper bound for any model."""
    size = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / seconds_per_call(lambda: a @ b, device, seconds=seconds)


def update_flops(
    config: transformer.ModelConfig, src_lengths: NDArray[np.int64], tgt_lengths: NDArray[np.int64]
) -> float:
    """Floating-point operations of the matrix products of an encoder-decoder's update, without padding.

    A product of (n, a) and (a, b) is 2nab, and the backward pass takes two for each of the forward pass.
    Attention's products are counted in full, including the part that the causal mask hides.
    """
    d, layers = config.d_model, config.num_layers
    source, target = src_lengths.sum(), tgt_lengths.sum()
    attention, feed_forward = 4 * d * d, 2 * d * config.d_ff  # parameters of one
    weights = layers * (
        source * (attention + feed_forward)
        + target * (attention + attention / 2 + feed_forward)
        + source * attention / 2  # the keys and values of cross-attention are of the source
    )
    pairs = (src_lengths**2 + tgt_lengths**2 + src_lengths * tgt_lengths).sum()  # QKᵀ and the weighted sum
    scores = layers * 2 * d * pairs
    return float(3 * 2 * (weights + scores + target * d * config.vocab_size))
