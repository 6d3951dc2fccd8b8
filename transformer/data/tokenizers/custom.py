"""The base of custom tokenizers, which are saved with a run as plain data, without their code."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from transformer.files import write_whole

START = '{"kind": "custom", '


class CustomTokenizer(ABC):
    """The base class for your own tokenizer, which must be a dataclass whose fields hold plain data.

    The fields are saved with the run as JSON. The first four ids are padding, begin of sentence, end of
    sentence, and unknown text. The module of the class must be imported before the run is loaded. On the
    command line, `--build` and `--task` import the module that they name.
    """

    keeps_lines = False
    """Whether line breaks are tokens."""
    known: ClassVar[dict[str, type["CustomTokenizer"]]] = {}
    """The subclasses that have been imported, by `MODULE:CLASS`."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        CustomTokenizer.known[f"{cls.__module__}:{cls.__qualname__}"] = cls

    @property
    @abstractmethod
    def pieces(self) -> list[str]:
        """The text of each token, in the order of the ids."""

    @abstractmethod
    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        """The ids of each line, without BOS and EOS."""

    @abstractmethod
    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """The text of each row of ids, without its special ids."""

    def encode_target(self, lines: Sequence[str]) -> list[list[int]]:
        """The ids of lines in the target language; override this method if the two languages differ."""
        return self.encode(lines)

    @property
    def vocab_size(self) -> int:
        return len(self.pieces)

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.serialized()).hexdigest()

    def serialized(self) -> bytes:
        name = f"{type(self).__module__}:{type(self).__qualname__}"
        fields = asdict(self)  # type: ignore[call-overload]  # a subclass is a dataclass
        return f"{START}{json.dumps({'class': name, 'fields': fields})[1:]}".encode()

    def save(self, path: str | Path) -> None:
        write_whole(Path(path), self.serialized())


def names_custom(content: bytes) -> bool:
    """Whether the content looks like a file that `CustomTokenizer.save` wrote."""
    return content.startswith(START.encode())


def load_custom_tokenizer(content: bytes) -> CustomTokenizer:
    """Load a tokenizer from the bytes that `save` wrote.

    Raises `ValueError` for any other bytes, or if the class of the tokenizer has not been imported.
    """
    try:
        saved = json.loads(content)
        name, fields = str(saved["class"]), dict(saved["fields"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError("not a custom tokenizer, or a damaged one") from None
    if name not in CustomTokenizer.known:
        raise ValueError(
            f"a tokenizer of the class {name}; import {name.partition(':')[0]} first, or pass a --build or "
            "--task from that module"
        )
    try:
        return CustomTokenizer.known[name](**fields)
    except TypeError as error:
        raise ValueError(f"{name} does not have the fields in the file: {error}") from None
