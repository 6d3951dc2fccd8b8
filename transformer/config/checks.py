"""Checks of settings: each raises a `ValueError` that names the setting and says what is valid."""

import math
import re
from collections.abc import Collection
from dataclasses import fields
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from transformer.config.errors import shortened


def require(condition: bool, message: str) -> None:
    """Raise `ValueError` unless `condition`; the message should name the setting and say what is valid."""
    if not condition:
        raise ValueError(message)


def require_plain_numbers(settings: Any, section: str, *, unlimited: Collection[str] = ()) -> None:
    """Raise `ValueError` for NaN, for an integer that does not fit into 64 bits, and for infinity.

    Only the fields named in `unlimited` may be infinite.
    """
    for item in fields(settings):
        name, value = f"{section}.{item.name}".lstrip("."), getattr(settings, item.name)
        if isinstance(value, float):
            is_valid = math.isfinite(value) or (item.name in unlimited and value == math.inf)
            require(is_valid, f"{name} is {value}; it must be finite")
        elif isinstance(value, int):
            require(abs(value) < 2**63, f"{name} is {in_short(value)}; it must be less than 2**63")


def in_short(value: int) -> str:
    """Format an integer for a message; describe a very long one, because Python may refuse to print it."""
    return shortened(str(value)) if value.bit_length() < 10_000 else "a number of thousands of digits"


def require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    require(value in choices, f"{name} is {shortened(repr(value))}; choose one of {', '.join(choices)}")


def require_choices(settings: Any, section: str) -> None:
    """Raise `ValueError` if a field with a `Literal` type has a value that the type does not list.

    A field of type `Literal | str` is not checked, because its `Literal` lists only the package's own
    choices, to which users can add others.
    """
    for name, kind in get_type_hints(type(settings)).items():
        options = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
        choices = [word for option in options if get_origin(option) is Literal for word in get_args(option)]
        if choices and str not in options:
            if NoneType in options:
                choices.append("null")
            value = getattr(settings, name)
            require_choice(
                f"{section}.{name}".lstrip("."), "null" if value is None else value, tuple(choices)
            )


def require_positive(settings: Any, section: str, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        require(value > 0, f"{section}.{name} is {value}; it must be greater than 0")


def require_share(settings: Any, section: str, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        require(0 <= value < 1, f"{section}.{name} is {value}; it must be at least 0 and less than 1")


def whole_number(text: str) -> int:
    """Parse an integer such as `100000` or `1e5`. Raises `ValueError` if `text` is not an integer."""
    try:
        return int(text)
    except ValueError:
        if "e" not in text.lower():
            raise
        number = float(text)
        if number % 1 != 0 or abs(number) >= 2**53:  # beyond 2**53, a float cannot hold every integer
            raise
        return int(number)


def require_seed(name: str, value: int) -> None:
    require(0 <= value < 2**63, f"{name} is {in_short(value)}; it must be at least 0 and less than 2**63")


def require_device(name: str) -> None:
    valid = re.fullmatch(r"auto|cpu|mps|(cuda|xpu)(:(0|[1-9][0-9]?))?", name)
    require(
        valid is not None,
        f"device is {shortened(repr(name))}; choose auto, cpu, cuda, cuda:N, mps, xpu or xpu:N",
    )
