"""Checks of settings: each raises a `ValueError` that names the setting and says what is valid."""

import re
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def require(condition: bool, message: str) -> None:
    """`ValueError` unless `condition`; the message should name the setting and say what is valid."""
    if not condition:
        raise ValueError(message)


def require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    require(value in choices, f"{name} is {value!r}; choose one of {', '.join(choices)}")


def require_choices(settings: Any, section: str) -> None:
    """`ValueError` for a field whose value is not among those of its `Literal` type.

    A type that also allows any `str` names only the choices of the package.
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
    """The integer that `text` means, which may be written as `1e5`; `ValueError` if it is not one."""
    try:
        return int(text)
    except ValueError:
        if "e" not in text.lower():
            raise
        number = float(text)
        if number % 1 != 0 or abs(number) >= 2**53:  # from there on, a float no longer holds every integer
            raise
        return int(number)


def require_seed(name: str, value: int) -> None:
    require(0 <= value < 2**63, f"{name} is {value}; it must be at least 0 and less than 2**63")


def require_device(name: str) -> None:
    valid = re.fullmatch(r"auto|cpu|mps|(cuda|xpu)(:(0|[1-9][0-9]?))?", name)
    require(valid is not None, f"device is {name!r}; choose auto, cpu, cuda, cuda:N, mps, xpu or xpu:N")
