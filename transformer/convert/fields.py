"""Reads another program's settings field by field; errors name the file, the field and the valid values."""

import json
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformer.config.errors import shortened
from transformer.convert.common import ConversionError

MAX_SIZE = 1_000_000
"""A larger size means that the file is damaged; refusing such a size avoids huge allocations."""


@dataclass(frozen=True)
class Fields:
    """The fields of one mapping, read from the file `where`."""

    where: Path
    values: Mapping[str, Any]

    def refuse(self, name: str, found: Any, valid: str) -> ConversionError:
        return ConversionError(f"{self.where}: {name} is {shortened(written(found))}; {valid}")

    def number(self, name: str, *, least: int = 1, most: int = MAX_SIZE) -> int:
        value = self.values.get(name)
        if type(value) is not int or not least <= value <= most:
            raise self.refuse(name, value, f"it must be a whole number from {least} to {most}")
        return value

    def share(self, name: str, default: float) -> float:
        value = self.values.get(name, default)
        if type(value) not in (int, float) or not 0 <= value < 1:
            raise self.refuse(name, value, "it must be at least 0 and less than 1")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self.values.get(name, default)
        if type(value) is not bool:
            raise self.refuse(name, value, "it must be true or false")
        return value

    def word(self, name: str, default: str, meanings: Mapping[str, str]) -> str:
        """Read a field and translate its value; `meanings` maps the other program's terms to ours."""
        value = self.values.get(name, default)
        if not isinstance(value, str) or value not in meanings:
            raise self.refuse(name, value, f"only {', '.join(meanings)} can be converted")
        return meanings[value]

    def same(self, encoder: str, decoder: str) -> int:
        """Read the encoder's and decoder's sizes, which must be equal because our model has only one size."""
        sizes = self.number(encoder), self.number(decoder)
        if sizes[0] != sizes[1]:
            raise ConversionError(
                f"{self.where}: {encoder} {sizes[0]}, but {decoder} {sizes[1]}; "
                "only stacks of equal sizes can be converted"
            )
        return sizes[0]

    def require_only(self, valid: Mapping[str, Any]) -> None:
        """Raise `ConversionError` if a field differs from its value in `valid`; fields may be missing."""
        for name, only in valid.items():
            if self.values.get(name, only) != only:
                raise self.refuse(name, self.values[name], f"only {json.dumps(only)} can be converted")


def written(value: Any) -> str:
    """Write a value as JSON; abbreviate lists and mappings, because YAML aliases can make them endless."""
    return reprlib.repr(value) if isinstance(value, list | dict) else json.dumps(value, default=str)
