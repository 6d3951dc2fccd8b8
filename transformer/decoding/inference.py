"""Preparing a model for inference (frozen, packed or cast), and calling it without autograd."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn

from transformer.config import InferencePrecision
from transformer.decoding.search import all_modules
from transformer.hardware import DTYPES, choose_precision, without_cudnn_attention
from transformer.kernels.int8 import has_int8_products
from transformer.kernels.linear import pack_linear_layers
from transformer.messages import warn
from transformer.model.fused_feed_forward import fuse_feed_forward
from transformer.model.projections import join_projections


def freeze(model: nn.Module, precision: InferencePrecision = "float32") -> None:
    """Prepare `model` for inference only, in place, with matrix products in `precision`.

    On a CPU without fast products of 8-bit integers, int8 becomes float32, with a warning. Raises
    `ValueError` for float16 on a CPU, because CPUs have no fast float16 products, and for int8 on other
    devices.
    """
    model.requires_grad_(False)
    where = next(model.parameters()).device
    dtype = inference_dtype(precision, where)
    if where.type == "cpu":
        pack_linear_layers(model, dtype)
        join_projections(model, dtype)
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
        if has_int8_products():
            return torch.int8
        warn("this CPU has no fast products of 8-bit integers (VNNI or AMX); computing in float32, not int8")
        return torch.float32
    dtype = DTYPES[choose_precision(precision, where)]
    if is_cpu and dtype == torch.float16:
        raise ValueError(
            "precision is 'float16', which is for GPUs; on a CPU choose float32, bfloat16, int8 or auto"
        )
    return dtype


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
