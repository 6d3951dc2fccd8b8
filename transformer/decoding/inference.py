"""Preparing a model for inference (frozen, packed or cast), and calling it without autograd."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn

from transformer.config import InferencePrecision
from transformer.data.padding import Rows, right_padded
from transformer.data.tokenizers.protocol import PAD_ID
from transformer.decoding.search import all_modules
from transformer.hardware import DTYPES, choose_precision, without_cudnn_attention
from transformer.kernels.linear import PackedLinear, has_packed_products, pack_linear_layers
from transformer.messages import warn
from transformer.model.fused_feed_forward import fuse_feed_forward
from transformer.model.projections import join_projections

KEYS = 16
"""The keys that a CPU adds up at once: the number of float32 values in its widest registers."""


def freeze(model: nn.Module, precision: InferencePrecision = "float32") -> None:
    """Prepare `model` for inference only, in place, with matrix products in `precision`.

    If the CPU has no fast products in int8 or bfloat16, the model computes in float32, with a warning. A
    model on a CPU may be frozen again in another precision; on a GPU, the weights themselves are rounded.
    Raises `ValueError` for float16 on a CPU, because CPUs have no fast float16 products, and for int8 on
    other devices.
    """
    model.requires_grad_(False)
    where = next(model.parameters()).device
    dtype = inference_dtype(precision, where)
    if where.type == "cpu":
        if is_packed := has_packed_products(dtype):
            pack_linear_layers(model, dtype)
        join_projections(model, dtype if is_packed else None)
        fuse_feed_forward(model)
    else:
        model.to(dtype)


def inference_dtype(precision: InferencePrecision, where: torch.device) -> torch.dtype:
    """The dtype of the matrix products.

    Raises `ValueError` if `where` has no fast products in this `precision`.
    """
    is_cpu = where.type == "cpu"
    if precision == "int8":
        if not is_cpu:
            raise ValueError(
                f"precision is 'int8', which is for CPUs; on {where.type} choose float32, bfloat16, "
                "float16 or auto"
            )
        if has_packed_products(torch.int8):
            return torch.int8
        warn("this CPU has no fast products of 8-bit integers (VNNI or AMX); computing in float32, not int8")
        return torch.float32
    dtype = DTYPES[choose_precision(precision, where)]
    if is_cpu and dtype == torch.float16:
        raise ValueError(
            "precision is 'float16', which is for GPUs; on a CPU choose float32, bfloat16, int8 or auto"
        )
    if is_cpu and dtype == torch.bfloat16 and not has_packed_products(dtype):
        warn("this CPU has no products in bfloat16 (AVX-512 or newer); computing in float32, not bfloat16")
        return torch.float32
    return dtype


def padded_rows(model: nn.Module, rows: Rows, pad_id: int = PAD_ID) -> Int[Tensor, "batch length"]:
    """Combine rows of ids into one tensor on the model's device; shorter rows are padded with `pad_id`.

    For int8, the length is a multiple of `KEYS`. Attention adds up the keys in groups, and with whole groups
    a row's sum does not depend on the length of other rows. In float32 the sums would only differ in the last
    digit, but in int8 a different last digit can round a number to another integer.
    """
    tokens = right_padded(rows, pad_id)
    modules = list(all_modules(model))
    if any(isinstance(module, PackedLinear) and module.packed_dtype == torch.int8 for module in modules):
        limits: list[Any] = [module.max_positions for module in modules if hasattr(module, "max_positions")]
        wanted = min([-(-tokens.shape[1] // KEYS) * KEYS, *limits])
        tokens = F.pad(tokens, (0, max(0, wanted - tokens.shape[1])), value=pad_id)
    return tokens.to(next(model.parameters()).device)


@contextmanager
def without_gradients(model: nn.Module) -> Iterator[None]:
    """Inside the block, cuDNN's attention is off and, if `model` is frozen, inference mode is on.

    Inference mode makes each torch call cheaper, but a model in training cannot use it. Such a model may
    cache tensors during validation and use them again in the next update, and autograd refuses tensors that
    were made in inference mode.
    """
    is_frozen = not any(
        parameter is not None and parameter.requires_grad
        for module in all_modules(model)
        for parameter in module._parameters.values()
    )
    with without_cudnn_attention(), torch.inference_mode() if is_frozen else nullcontext():
        yield
