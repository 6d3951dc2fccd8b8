"""Builds a model without allocating its parameters, and computes their values later, one parameter at a time.

A model that is sharded over several processes may be too large for the memory of one process. Therefore the
model is built on the meta device, where tensors have a shape but no values. Meanwhile a recorder stores the
operations with which the constructors initialize the parameters. After the parameters have been sharded, the
stored operations are applied to them. Each process draws all random numbers of every parameter and keeps only
those of its own part, so the parameters have the same values as in an ordinary build.
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from transformer.checkpoint.parts import divided_as, own_values


class Call(NamedTuple):
    """One in-place operation on a tensor."""

    operation: Any
    target: Tensor
    arguments: tuple[Any, ...]
    options: dict[str, Any]

    @property
    def is_random(self) -> bool:
        return torch.Tag.nondeterministic_seeded in self.operation.tags

    def apply(self, tensor: Tensor) -> None:
        self.operation(tensor, *self.arguments, **self.options)


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the in-place operations inside the block."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if operation._schema.is_mutable:
            self.calls.append(Call(operation, args[0], args[1:], kwargs or {}))
        return operation(*args, **(kwargs or {}))


class Deferred:
    """The model that `make` returns, on the meta device; `fill` computes its values from torch's seed."""

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        with ExitStack() as stack:
            stack.enter_context(torch.device("meta"))
            recorder = stack.enter_context(Recorder())
            self.model = make()
        self.calls = recorder.calls
        self.names = {id(parameter): name for name, parameter in self.model.named_parameters()}

    def fill(self, device: torch.device) -> None:
        """Allocate the parameters of `model` on `device` and compute their values.

        The parameters must already be sharded over the processes, because `to_empty` would untie the tied
        matrices of an unsharded model.
        """
        self.model.to_empty(device=device)
        parameters = dict(self.model.named_parameters())
        with torch.no_grad():
            for call in self.calls:
                # `parameter` is None if the constructors later replaced this parameter by another one, as
                # with tied embeddings. Its random numbers are drawn nevertheless, because otherwise all later
                # parameters would get different random numbers than in an ordinary build.
                parameter = parameters.get(self.names.get(id(call.target), ""))
                if call.is_random:
                    values = torch.empty(call.target.shape, dtype=call.target.dtype)
                    call.apply(values)
                    if parameter is not None:
                        parameter.copy_(divided_as(parameter, values))
                elif parameter is not None:
                    call.apply(own_values(parameter))
