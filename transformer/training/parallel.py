"""How a model is placed on the device of each process: whole, or divided among the processes (FSDP)."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from transformer.training.deferred import Deferred
from transformer.training.distributed import Group, is_sharded
from transformer.training.layers import stacked_layers

Place = Callable[[Callable[[], nn.Module], torch.device, Group, bool], nn.Module]
"""Returns the model of this process. Arguments: a function that makes the model, the device, the group, and
whether the model may be built on the meta device."""


def replicated(make: Callable[[], nn.Module], device: torch.device, group: Group, defer: bool) -> nn.Module:  # noqa: ARG001
    """Return the whole model; `Group.wrap` makes the processes exchange gradients."""
    return make().to(device)


def sharded(make: Callable[[], nn.Module], device: torch.device, group: Group, defer: bool) -> nn.Module:
    """Return the model with this process's part of every parameter; a single process gets the whole model."""
    if group.size == 1:
        return make().to(device)
    if not defer:
        model = make()
        shard(model, device, group)
        return model
    deferred = Deferred(make)
    shard(deferred.model, device, group)
    deferred.fill(device)
    return deferred.model


PARALLEL: dict[str, Place] = {"ddp": replicated, "fsdp": sharded}
"""The choices of `training.parallel`."""


def shard(model: nn.Module, device: torch.device, group: Group) -> None:
    """Divide the parameters among the processes (FSDP2), each along its first dimension.

    The parameters of a layer are gathered when the layer computes. The parameters outside the layers, such as
    the embeddings, are gathered together, and stay gathered from the forward pass until the backward pass.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    # harmless: the views are projected keys and values, which nothing modifies in place
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    mesh = init_device_mesh(device.type, (group.size,))
    for layer in stacked_layers(model):
        attention = getattr(layer, "cross_attention", None)
        if attention is not None:  # cross-attention projects the memory before the layer is called
            fully_shard(attention, mesh=mesh, reshard_after_forward=True)
            register_fsdp_forward_method(attention, "project_kv")
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)
    fully_shard(model, mesh=mesh, reshard_after_forward=False)
    fix_prefetching(model)


def fix_prefetching(model: Any) -> None:
    """Make the backward pass begin to gather each layer while the layer after it computes.

    By default, FSDP gathers layers in the order of the latest forward passes. After a validation, this order
    may differ between processes. The processes would then gather different layers, and wait for each other
    forever.
    """
    before = model  # already gathered, so that the first layer has nothing to prefetch
    for layer in stacked_layers(model):
        attention: Any = getattr(layer, "cross_attention", None)
        if attention is None:
            layer.set_modules_to_backward_prefetch([before])  # type: ignore[operator]
        else:
            attention.set_modules_to_backward_prefetch([model])
            layer.set_modules_to_backward_prefetch([attention, before])  # type: ignore[operator]
        before = layer
    if before is not model:
        model.set_modules_to_backward_prefetch([before])


def reshard(model: Any) -> None:
    """Free the gathered parameters that a sharded model keeps after a forward pass without gradients."""
    if is_sharded(model):
        model.reshard()


@contextmanager
def gathered(model: Any) -> Iterator[None]:
    """Inside the block, every process holds the whole model and may compute with it independently.

    This is a no-op unless the model is sharded. Each process needs memory for all weights, but not for
    gradients.
    """
    if not is_sharded(model):
        yield
        return
    parts = [module for module in model.modules() if is_sharded(module)]
    for part in parts:
        part.unshard()
        part.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        for part in parts:
            part.set_reshard_after_forward(part is not model, recurse=False)
            part.reshard()
