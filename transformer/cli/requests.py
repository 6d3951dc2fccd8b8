"""The input of `transformer translate`: lines of text or JSON, with or without prefixes."""

from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Any, NamedTuple

from jsonargparse import Namespace

from transformer.data.json_text import parse_object, why_no_text
from transformer.data.text import LONGEST_INPUT_LINE, CorpusError, read_lines
from transformer.messages import warn


class Request(NamedTuple):
    """One line of the input."""

    source: str
    prefix: str
    fields: dict[str, Any]
    """All fields of a JSON line, to be written back unchanged."""


def read_requests(lines: Iterable[str], options: Namespace) -> Iterator[Request]:
    if options.json:
        yield from (read_json(line, number) for number, line in enumerate(lines, start=1))
    elif options.prefixes:
        prefixes = read_lines(options.prefixes, longest=LONGEST_INPUT_LINE, too_long=warn)
        for number, (line, prefix) in enumerate(zip_longest(lines, prefixes), start=1):
            if line is None or prefix is None:
                shorter = "the input" if line is None else options.prefixes
                raise CorpusError(
                    f"{shorter} ends before line {number}; give a prefix, or a blank line, for each line"
                )
            yield Request(line, prefix, {})
    else:
        yield from (Request(line, "", {}) for line in lines)


def read_json(line: str, number: int) -> Request:
    values, written = parse_object(line, f"line {number}", ["source"])
    prefix = values.get("prefix", "")
    if problem := why_no_text(prefix):
        raise CorpusError(f'line {number}: "prefix" is not a valid string: it is {problem}')
    return Request(values["source"], prefix, written)
