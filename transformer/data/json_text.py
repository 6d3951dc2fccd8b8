"""JSON lines, read strictly and written back unchanged."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from transformer.data.text import CorpusError, lone_surrogate, one_line

SPACE = re.compile(r"[ \t\n\r]*")


def refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


DECODER = json.JSONDecoder(parse_int=float, parse_constant=refuse_constant)
"""Reads every number as a float, because JSON allows integers of any length, but Python reads at most 4,300
digits."""


def parse_json(text: str, where: str) -> Any:
    """Parse a JSON document.

    Raises `CorpusError`, with a message that begins with `where`, if `text` is not JSON.
    """
    try:
        return DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{where} is not JSON: {reason(error)}") from None


def reason(error: ValueError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply to be read"
    if isinstance(error, json.JSONDecodeError):
        line = f"line {error.lineno}, " if "\n" in error.doc else ""
        return f"{error.msg} at {line}character {error.colno}"
    return str(error)


class Written(str):
    """The source text of a JSON value."""


def parse_object(text: str, where: str, texts: Sequence[str]) -> tuple[dict[str, Any], dict[str, Written]]:
    """Parse a JSON object, and return its members as values and as source text.

    Writing the source text back keeps every digit of a number, and nested values of any depth. Raises
    `CorpusError` if a member named in `texts` is missing or not a string.
    """
    values = parse_json(text, where)
    names = " and ".join(f'"{name}"' for name in texts)
    expected = (
        f"{where} is not a JSON object with {'the string' if len(texts) == 1 else 'the strings'} {names}"
    )
    if not isinstance(values, dict):
        raise CorpusError(expected)
    for name in texts:
        if problem := why_no_text(values.get(name)):
            raise CorpusError(f'{expected}: "{name}" is {problem}')
    written = {}
    place = skip_space(text, skip_space(text, 0) + 1)
    while text[place] != "}":
        key, place = DECODER.raw_decode(text, place)
        start = skip_space(text, skip_space(text, place) + 1)  # after the colon
        _, end = DECODER.raw_decode(text, start)
        written[key] = Written(one_line(text[start:end]))  # line breaks only occur between tokens
        place = skip_space(text, end)
        if text[place] == ",":
            place = skip_space(text, place + 1)
    return values, written


def skip_space(text: str, place: int) -> int:
    found = SPACE.match(text, place)
    assert found is not None
    return found.end()


def json_line(members: Mapping[str, Any]) -> str:
    """A JSON object on one line; a lone surrogate is written as the escape that it was read from."""
    return "{" + ", ".join(f"{to_json(key)}: {to_json(value)}" for key, value in members.items()) + "}"


def to_json(value: Any) -> str:
    if isinstance(value, Written):
        return value
    return json.dumps(value, ensure_ascii=False).encode(errors="backslashreplace").decode()


def why_no_text(value: Any) -> str | None:
    """Why a value is not usable as text, or None if the value is usable.

    Valid JSON strings may contain half of a surrogate pair (`\\ud800`) or NUL (`\\u0000`); both are refused.
    """
    if not isinstance(value, str):
        kinds = {dict: "an object", list: "a list", bool: "true or false", float: "a number"}
        return "nothing" if value is None else kinds.get(type(value), type(value).__name__)
    if surrogate := lone_surrogate(value):
        return f"{surrogate}, half of a surrogate pair"
    return "NUL" if "\0" in value else None
