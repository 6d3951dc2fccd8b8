"""Preparing a model for inference (frozen, packed or cast), and calling it without autograd."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn

from transformer.config import Precision
from transformer.hardware import DTYPES, choose_precision, without_cudnn_attention
from transformer.kernels.linear import pack_linear_layers


def freeze(model: nn.Module, precision: Precision = "float32") -> None:
    """Prepare `model` for inference only, in place, with matrix products in `precision`.

    `ValueError` for float16 on a CPU, which has no fast products for it.
    """
    where = next(model.parameters()).device
    dtype = DTYPES[choose_precision(precision, where)]
    if where.type == "cpu" and dtype == torch.float16:
        raise ValueError(
            "precision is 'float16', which is for GPUs; on a CPU choose float32, bfloat16 or auto"
        )
    model.requires_grad_(False)
    if where.type == "cpu":
        pack_linear_layers(model, dtype)
    else:
        model.to(dtype)


@contextmanager
def without_gradients(model: nn.Module) -> Iterator[None]:
    """A context for searching: without cuDNN's attention, and in inference mode if `model` is frozen.

    Inference mode makes each torch call cheaper. A model in training cannot use it: it may cache tensors
    during validation, and tensors made in inference mode cannot be used with autograd in the next update.
    """
    is_frozen = not any(parameter.requires_grad for parameter in model.parameters())
    with without_cudnn_attention(), torch.inference_mode() if is_frozen else nullcontext():
        yield
