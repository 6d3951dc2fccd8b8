"""The device and the precision of the computation, from the settings `device` and `precision`."""

import os
from contextlib import AbstractContextManager
from datetime import timedelta

import torch

from transformer.config import Precision
from transformer.config.checks import require_device

NO_TIMEOUT = timedelta(days=30)
"""So long that it is no timeout: one process may be tokenizing a whole corpus."""


def choose_device(name: str) -> torch.device:
    """The device that the setting names; `auto` is a CUDA GPU if there is one. `ValueError` if it is missing.

    If torchrun starts several processes on a machine, each of them gets its own GPU.
    """
    require_device(name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    elif name.startswith("cuda:") and int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1:
        raise ValueError(f"device is {name!r}, but each process needs its own GPU; set it to cuda")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device is {name!r}, but torch sees {torch.cuda.device_count()} CUDA GPUs here")
    return device


def rank_and_size() -> tuple[int, int]:
    """This process's rank and the number of processes, as set by torchrun; `ValueError` without a rank."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size > 1 and "RANK" not in os.environ:
        raise ValueError(f"WORLD_SIZE is {size}, but RANK is not set; torchrun sets both")
    return int(os.environ.get("RANK", "0")), size


def choose_precision(precision: Precision, device: torch.device) -> Precision:
    """`auto` is bfloat16 if the hardware has instructions for it, because emulating it is slow."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        is_fast = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        is_fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if is_fast else "float32"


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Inside, matrix products are computed in `precision`; sums, norms and losses stay in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
