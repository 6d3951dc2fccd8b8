"""Finding the layers of a model's stacks, and making the backward pass recompute them."""

from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def stacked_layers(model: nn.Module) -> list[nn.Module]:
    """Return the layers of all stacks (encoder, decoder): the modules in all module lists named `blocks`."""
    stacks = [module for name, module in model.named_modules() if f".{name}".endswith(".blocks")]
    return list(chain.from_iterable(stack.children() for stack in stacks))


def recompute_layers(model: nn.Module) -> None:
    """Make the backward pass recompute each layer, so that the forward pass stores only the layer's input.

    In the recomputation, dropout draws the same random numbers as in the forward pass. Raises `ValueError` if
    the model has no layers.
    """
    layers = stacked_layers(model)
    if not layers:
        raise ValueError("training.recompute is for layers, but the model has no module list named `blocks`")
    for layer in layers:
        layer.forward = partial(recomputed, layer.forward)


def recomputed(forward: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Return `forward(*args, **options)`, and make the backward pass compute it again.

    If gradients are disabled, `forward` is called directly: nothing is stored for a backward pass then, and
    torch's `checkpoint` would save the state of the random generator for every layer and token of a search.
    """
    if not torch.is_grad_enabled():
        return forward(*args, **options)
    return checkpoint(forward, *args, use_reentrant=False, **options)
