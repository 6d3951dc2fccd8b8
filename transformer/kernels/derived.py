"""Values computed from parameters and kept until a parameter changes, such as a packed copy of a weight."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor


class Source(NamedTuple):
    """The identity of a parameter when a value was computed from it, kept to detect later changes."""

    parameter: Tensor
    alias: Tensor
    """Keeps the parameter's storage alive, so that no new storage can reuse its address."""
    address: int
    version: int

    @classmethod
    def of(cls, parameter: Tensor) -> "Source":
        return cls(parameter, parameter.detach(), parameter.data_ptr(), parameter._version)

    def is_unchanged(self, parameter: Tensor) -> bool:
        return (
            self.parameter is parameter
            and self.version == parameter._version
            and self.address == parameter.data_ptr()
        )


class Latest(NamedTuple):
    """A value, and the parameters from which it was computed."""

    value: Any
    sources: tuple[Source, ...]


class Derived:
    """Caches the result of `make(*parameters)`, and computes it again whenever a parameter has changed.

    A parameter counts as changed if its version counter has increased (which is how autograd detects changes
    too), if it is another object, or if its storage has another address. A write through `parameter.data`
    after the first call is not detected.
    """

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make
        self.latest: Latest | None = None

    def of(self, *parameters: Tensor) -> Any:
        latest = self.latest
        if latest is None or not all(map(Source.is_unchanged, latest.sources, parameters)):
            sources = tuple(map(Source.of, parameters))
            self.latest = latest = Latest(self.make(*(source.alias for source in sources)), sources)
        return latest.value

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the value, which may be impossible to copy or pickle; the next call makes a new value."""
        return self.__dict__ | {"latest": None}
