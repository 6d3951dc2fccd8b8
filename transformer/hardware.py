"""The device and the precision of the computation, from the settings `device` and `precision`."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta

import torch
from torch.amp import GradScaler

from transformer.config import Precision
from transformer.config.checks import require_device
from transformer.processes import number_of_processes, own_gpu

NO_TIMEOUT = timedelta(days=30)
"""Effectively no timeout, because the other processes may have to wait while one process tokenizes a whole
corpus."""


def choose_device(name: str) -> torch.device:
    """Return the device that the setting names; `auto` means a CUDA GPU if there is one, otherwise the CPU.

    If torchrun starts several processes on a machine, each process gets its own GPU. Raises `ValueError` if
    torch sees no such device.
    """
    require_device(name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(own_gpu(name))
    if device.type == "cpu":
        return device
    count = getattr(torch, device.type).device_count()
    if (device.index or 0) >= count:
        raise ValueError(f"device is {name!r}, but torch sees {count} {device.type.upper()} GPUs here")
    if device.type != "cuda" and number_of_processes() > 1:
        raise ValueError(f"device is {name!r}, but several processes can use only cpu or cuda")
    return device


def choose_precision(precision: Precision, device: torch.device) -> Precision:
    """Return `precision`, or, if it is `auto`, a precision that suits `device`.

    If the device is fast in a 16-bit precision, that precision is chosen, otherwise float32. Hardware without
    bfloat16 instructions emulates bfloat16 slowly. Tensor cores support float16 from compute capability 7.0,
    and bfloat16 from 8.0.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        return "bfloat16" if capability >= (8, 0) else "float16" if capability >= (7, 0) else "float32"
    if device.type == "cpu":
        is_fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    else:
        is_fast = device.type == "xpu" and torch.xpu.is_bf16_supported(including_emulation=False)
    return "bfloat16" if is_fast else "float32"


DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
"""The dtype of matrix products, for each precision that `choose_precision` returns."""


def autocast(
    device: torch.device, precision: Precision, *, keeps_casts: bool = True
) -> AbstractContextManager[object]:
    """Inside the block, matrix products use `precision`; sums, norms and losses stay in float32.

    If `keeps_casts` is True, each weight is cast once, and the copy is kept until the end of the block. This
    saves time if many products use the same weights, as in decoding. If it is False, a weight is cast again
    for each product.
    """
    enabled = precision != "float32"
    return torch.autocast(device.type, DTYPES[precision], enabled=enabled, cache_enabled=keeps_casts)


def loss_scaler(device: torch.device, precision: Precision) -> GradScaler:
    """Return a loss scaler that keeps gradients in float16's range; in other precisions, it is a no-op."""
    return GradScaler(device.type, enabled=precision == "float16")


@contextmanager
def tf32_products(allowed: bool) -> Iterator[None]:
    """Inside the block, if `allowed`, a CUDA GPU may compute float32 matrix products in TF32."""
    before = torch.get_float32_matmul_precision()
    if allowed:
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def wait_for(device: torch.device) -> None:
    """Wait until a GPU finishes all queued work; for a CPU, this is a no-op."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


@contextmanager
def without_cudnn_attention() -> Iterator[None]:
    """Inside the block, attention on a CUDA GPU is computed by torch's own kernels, never by cuDNN's.

    On Hopper GPUs torch prefers cuDNN's kernels, which need a new execution plan for every new shape. Batches
    of sentences have thousands of shapes, and in decoding every step has a new shape. The switch is global to
    the process, so its previous value is restored at the end.
    """
    before = torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)
