"""A model that is only asked: its fastest form, and torch without what gradients need."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from transformer.config import Precision
from transformer.hardware import choose_precision
from transformer.kernels.linear import pack_linear_layers


def freeze(model: nn.Module, precision: Precision = "float32") -> None:
    """Turn `model` into one that answers and is not trained, its matrix products in `precision`."""
    model.requires_grad_(False)
    where = next(model.parameters()).device
    dtype = getattr(torch, choose_precision(precision, where))
    if where.type == "cpu":
        pack_linear_layers(model, dtype)
    else:
        model.to(dtype)


def without_gradients(model: nn.Module) -> AbstractContextManager[object]:
    """Inference mode where `model` is frozen: each call of torch costs less there.

    A model that is being trained may keep what it computes in validation, and tensors from inference mode
    could not take part in its next update.
    """
    is_frozen = not any(parameter.requires_grad for parameter in model.parameters())
    return torch.inference_mode() if is_frozen else nullcontext()
