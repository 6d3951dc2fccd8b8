"""Tensors that are divided among processes (FSDP's DTensors): from the parts to the whole and back."""

from typing import Any

from torch import Tensor


def is_divided(tensor: Any) -> bool:
    """Whether each process holds only a part of `tensor`.

    Told by a method of DTensor, because importing that class takes half a second.
    """
    return hasattr(tensor, "full_tensor")


def whole(tensor: Any) -> Any:
    """The whole of a divided tensor, which takes all processes; any other tensor itself."""
    return tensor.full_tensor() if is_divided(tensor) else tensor


def divided_as(like: Any, value: Tensor) -> Tensor:
    """`value`, or this process's part of it if `like`, a tensor of the same shape, is divided."""
    if not is_divided(like):
        return value
    from torch.distributed.tensor import distribute_tensor

    # without a source rank nothing is sent: every process has read the whole value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def own_values(tensor: Tensor) -> Tensor:
    """This process's part of a divided tensor, with the same memory; any other tensor itself."""
    return tensor.to_local() if is_divided(tensor) else tensor  # type: ignore[attr-defined]
