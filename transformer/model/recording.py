"""Hooks on a forward pass that record attention weights, sub-layers and shapes, or switch off one head.

Thanks to these hooks, the layers need no flag, no extra return value and no mode.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from transformer.model.attention import MultiHeadAttention
from transformer.model.layers import PostNorm


@contextmanager
def record_attention(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Collect the attention weights of every layer that runs inside the `with` block.

    Yields a dictionary that maps a module's name to the weights of its latest call, (B, H, T, S).
    """
    modules = {
        name: module for name, module in model.named_modules() if isinstance(module, MultiHeadAttention)
    }
    with _before_calls(modules, lambda module, *args, **kwargs: module.weights(*args, **kwargs)) as recorded:
        yield recorded


@contextmanager
def record_scores(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Collect every layer's scores Q Kᵀ / √d_k (equation 1), before the mask and the softmax, (B, H, T, S).

    Layers that override `weights` or `score_bias` are left out, because they do not compute equation 1.
    """
    modules = {name: module for name, module in model.named_modules() if has_scores(module)}
    with _before_calls(modules, _scores) as recorded:
        yield recorded


def has_scores(module: nn.Module) -> bool:
    """Whether `module` computes its attention weights by equation 1."""
    changed = (
        getattr(type(module), name, None) is not getattr(MultiHeadAttention, name)
        for name in ("weights", "score_bias")
    )
    return isinstance(module, MultiHeadAttention) and not any(changed)


def _scores(module: Any, x: Tensor, kv: Any, *, positions: Tensor | None = None, **_: Any) -> Tensor:
    q = module.project_q(x, positions)
    return q @ kv.keys.transpose(-2, -1) / math.sqrt(q.shape[-1])


@contextmanager
def _before_calls(
    modules: Mapping[str, nn.Module], compute: Callable[..., Tensor]
) -> Iterator[dict[str, Tensor]]:
    """Before each call of a module, call `compute` with that module and its arguments.

    Yields a dictionary that maps a module's name to the latest result.
    """
    recorded: dict[str, Tensor] = {}

    def recorder(name: str) -> Any:
        def record(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            with torch.no_grad():
                recorded[name] = compute(module, *arguments, **keywords)

        return record

    with _hooks(
        [
            module.register_forward_pre_hook(recorder(name), with_kwargs=True)
            for name, module in modules.items()
        ]
    ):
        yield recorded


class Sublayer(NamedTuple):
    """One sub-layer and its residual connection: `output` is LayerNorm(`input` + `update`) in the paper."""

    input: Float[Tensor, "batch length d_model"]
    update: Float[Tensor, "batch length d_model"]
    """The output of the sub-layer itself, before dropout."""
    output: Float[Tensor, "batch length d_model"]


@contextmanager
def record_sublayers(model: nn.Module) -> Iterator[dict[str, Sublayer]]:
    """Collect the input of every sub-layer, the update that it adds, and the output (§3.1).

    Yields a dictionary that maps the name of a residual connection (a `PostNorm` or `PreNorm`) to its latest
    call, in the order of the calls.
    """
    recorded: dict[str, Sublayer] = {}
    updates: dict[str, Tensor] = {}

    def watch(name: str, module: nn.Module) -> Any:
        def enter(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
            x, sublayer = arguments

            def watched(inputs: Tensor) -> Tensor:
                updates[name] = update = sublayer(inputs)
                return update

            return x, watched

        def leave(_: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
            parts = (arguments[0], updates.pop(name), output)
            recorded.pop(name, None)  # so that the new entry comes last
            recorded[name] = Sublayer(*(part.detach() for part in parts))

        return [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]

    residuals = [(name, module) for name, module in model.named_modules() if isinstance(module, PostNorm)]
    with _hooks([handle for name, module in residuals for handle in watch(name, module)]):
        yield recorded


class Call(NamedTuple):
    """One call of a module: its class, and the shapes of its input and output."""

    kind: str
    """The name of the module's class."""
    inputs: tuple[int, ...]
    output: tuple[int, ...]


@contextmanager
def record_calls(model: nn.Module) -> Iterator[dict[str, Call]]:
    """Collect the input and output shapes of every module whose first argument and result are tensors.

    Yields a dictionary that maps a module's name to its latest call.
    """
    recorded: dict[str, Call] = {}

    def watch(name: str) -> Any:
        def leave(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
            if arguments and isinstance(arguments[0], Tensor) and isinstance(output, Tensor):
                kind = type(module).__name__
                recorded[name] = Call(kind, tuple(arguments[0].shape), tuple(output.shape))

        return leave

    with _hooks([module.register_forward_hook(watch(name)) for name, module in model.named_modules()]):
        yield recorded


@contextmanager
def without_head(attention: MultiHeadAttention, head: int) -> Iterator[None]:
    """Switch off one head of `attention` inside the block: the head's output is set to 0 before W^O.

    Heads are counted from 0. Raises `ValueError` if there is no such head.
    """
    if not 0 <= head < attention.num_heads:
        raise ValueError(f"head is {head}; it must be between 0 and {attention.num_heads - 1}")

    def silence(_: nn.Module, arguments: tuple[Tensor]) -> tuple[Tensor]:
        heads = arguments[0].clone().unflatten(-1, (attention.num_heads, -1))  # type: ignore[no-untyped-call]
        heads[..., head, :] = 0
        return (heads.flatten(-2),)

    with _hooks([attention.w_o.register_forward_pre_hook(silence)]):
        yield


@contextmanager
def _hooks(handles: list[Any]) -> Iterator[None]:
    """Remove the hooks at the end of the block, even after an error."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
