"""jaxtyping's run-time checks of types and shapes, at a third of the cost, for conftest.py.

Its decorator checks all arguments twice, collects them by name, and compares shapes even where no type has
one; its check of a tensor converts the data type to text and copies all sizes seen. Where the quick check
here finds a mismatch or something unusual, jaxtyping's own decides, and says what is wrong.
"""

import inspect
import sys
from collections.abc import Callable
from functools import wraps
from types import SimpleNamespace
from typing import Any, get_args, get_type_hints

import jaxtyping
from beartype import BeartypeConf, beartype
from jaxtyping._storage import get_shape_memo

CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"  # accepts an int as a float
beartyped = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=jaxtyping.TypeCheckError))
jaxtyped = jaxtyping.jaxtyped
OWN_SIZES = jaxtyped("context")


def install(modules: list[str]) -> None:
    """Check every call of a function in these modules, which must not be imported yet."""
    jaxtyping.jaxtyped = checked
    type(jaxtyping.AbstractArray).__instancecheck__ = fits
    jaxtyping.install_import_hook(modules, CHECKER)


# Functions


def checked(*, typechecker: Any) -> Callable[[Any], Any]:
    """In place of `jaxtyping.jaxtyped`, for the import hook."""

    def decorate(item: Any) -> Any:
        if isinstance(item, type):
            return jaxtyped(item, typechecker=typechecker)
        item.__annotations__ = {name: known(hint, item) for name, hint in item.__annotations__.items()}
        has_shapes = any(map(names_a_shape, item.__annotations__.values()))
        return with_sizes(beartyped(item)) if has_shapes else beartyped(item)

    return decorate


def with_sizes(function: Callable[..., Any]) -> Callable[..., Any]:
    """Require that dimensions with the same name have the same size throughout a call."""
    hints = map(str, function.__annotations__.values())
    if any("{" in hint for hint in hints) or inspect.isgeneratorfunction(function):
        return jaxtyped(function, typechecker=None)  # it knows the arguments by name, for sizes as "{length}"

    @wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        with OWN_SIZES:
            return function(*args, **options)

    return call


def known(hint: Any, item: Callable[..., Any]) -> Any:
    """A type hint that is a string, evaluated; `Any` if it names something that is defined later."""
    try:
        names = vars(sys.modules[item.__module__])
        return get_type_hints(SimpleNamespace(__annotations__={"hint": hint}), names)["hint"]
    except Exception:
        return Any


def names_a_shape(hint: Any) -> bool:
    is_shape = isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray)
    return is_shape or any(map(names_a_shape, get_args(hint)))


# Tensors

check = type(jaxtyping.AbstractArray).__instancecheck__
accepted: dict[tuple[Any, ...], list[tuple[str | None, int | None, bool]] | None] = {}
"""For each type hint, with types of values that it accepts: each dimension's name or size, and whether it may
be 1 instead; None if there is any other kind of dimension."""


def fits(hint: Any, value: Any) -> bool:
    """`isinstance(value, hint)` for a hint with a shape; notes the sizes of the named dimensions."""
    key = (hint, type(value), getattr(value, "dtype", None))
    dimensions = accepted.get(key)
    if dimensions is not None and len(dimensions) == len(value.shape):
        sizes = get_shape_memo()[0]
        found = dict(sizes)
        for (name, expected, may_be_1), size in zip(dimensions, value.shape, strict=True):
            if may_be_1 and size == 1:
                continue
            if size != (found.setdefault(name, size) if name else expected):
                break
        else:
            sizes.update(found)
            return True
    is_one = check(hint, value)
    if is_one and key not in accepted:
        accepted[key] = plain_dimensions(hint)
    return is_one


def plain_dimensions(hint: Any) -> list[tuple[str | None, int | None, bool]] | None:
    found = [
        (getattr(dim, "name", None), getattr(dim, "size", None), getattr(dim, "broadcastable", False))
        for dim in hint.dims
    ]
    is_plain = hint.index_variadic is None and all(name or size is not None for name, size, _ in found)
    return found if is_plain and not any(getattr(dim, "treepath", False) for dim in hint.dims) else None
