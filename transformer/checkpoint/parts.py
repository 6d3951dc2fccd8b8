"""Tensors that are split among processes (FSDP's DTensors): gathering the parts, and splitting a tensor."""

from typing import Any

from torch import Tensor


def is_divided(tensor: Any) -> bool:
    """Whether each process holds only a part of `tensor`.

    The check looks for a method that only DTensors have, because importing their class takes half a second.
    """
    return hasattr(tensor, "full_tensor")


def whole(tensor: Any) -> Any:
    """Gather a split tensor, which all processes must do together; return any other value unchanged."""
    return tensor.full_tensor() if is_divided(tensor) else tensor


def divided_as(like: Any, value: Tensor) -> Tensor:
    """Split `value` among the processes as `like` is split, or return it unchanged if `like` is not split."""
    if not is_divided(like):
        return value
    from torch.distributed.tensor import distribute_tensor

    # Every process has read the whole value, so no process needs to send it: there is no source rank.
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def own_values(tensor: Tensor) -> Tensor:
    """Return this process's part of a split tensor, sharing its memory; return any other tensor unchanged."""
    return tensor.to_local() if is_divided(tensor) else tensor  # type: ignore[attr-defined]
