"""Parallel text in local files: two plain files with one sentence per line, csv, tsv, json and jsonl.

All these formats are read through `read_lines`, so encodings, line endings and archives are treated alike.
"""

import csv
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from transformer.data.json_text import parse_json, why_no_text
from transformer.data.text import LONGEST_LINE, CorpusError, is_file, read_lines

ARCHIVES = ("", ".gz", ".xz")
TABLES = (".csv", ".tsv", ".json", ".jsonl")
JSON_SPACE = " \t\r"
READER_VERSION = 2
"""Part of the cache key: increase it when a change to a reader makes cached tables outdated."""


@dataclass(frozen=True)
class LocalFile:
    """A file's path, size and modification time: part of the cache key, so an edited file is read again."""

    path: str
    size: int
    modified_ns: int
    reader_version: int = READER_VERSION

    @classmethod
    def at(cls, path: Path) -> "LocalFile":
        status = path.stat()
        return cls(str(path), status.st_size, status.st_mtime_ns)


def find_side(text: str, language: str) -> Path | None:
    candidates = (Path(f"{text}.{language}{archive}") for archive in ARCHIVES)
    return next((path for path in candidates if is_file(path)), None)


def read_plain(source: LocalFile, target: LocalFile) -> Iterator[tuple[str, str]]:
    """Yield the pairs of lines of two files.

    Raises `CorpusError` if the files have different numbers of lines, or if both files are empty.
    """
    number = 0
    with closing(read_lines(source.path)) as sources, closing(read_lines(target.path)) as targets:
        for number, (source_line, target_line) in enumerate(zip_longest(sources, targets), start=1):
            if source_line is None or target_line is None:
                more, fewer = (source, target) if target_line is None else (target, source)
                total = number + sum(1 for _ in sources) + sum(1 for _ in targets)
                raise CorpusError(
                    f"{more.path} has {total} lines, {fewer.path} has {number - 1}: "
                    f"line {number} has no translation"
                )
            yield source_line, target_line
    if number == 0:
        raise CorpusError(f"{source.path} and {target.path} are empty")


class TableRow(NamedTuple):
    """One row of a table: its fields by column name, and its file and line for error messages."""

    where: str
    fields: Mapping[str, Any]


def read_table(file: LocalFile, source: str, target: str) -> Iterator[tuple[str, str]]:
    """Yield the pairs of a csv, tsv, json or jsonl file.

    Raises `CorpusError` if a row has no text on one side, or if the file has no rows.
    """
    read: dict[str, Callable[[str, Iterator[str]], Iterator[TableRow]]] = {
        ".csv": read_csv,
        ".tsv": partial(read_tsv, layouts=layouts(source, target)),
        ".json": read_json,
        ".jsonl": read_json,
    }
    columns = None
    with closing(read_lines(file.path)) as lines:  # closed even if an error keeps this frame alive
        for where, fields in read[ending_of(file.path)](file.path, lines):
            if isinstance(translation := fields.get("translation"), dict):
                fields = {f"translation.{language}": text for language, text in translation.items()}
            columns = columns or choose_columns(fields, file.path, source, target)
            for column in columns:
                if problem := why_no_text(fields.get(column)):
                    raise CorpusError(f"{where}: column {column} holds {problem}, not text")
            yield fields[columns[0]], fields[columns[1]]
    if columns is None:
        raise CorpusError(f"{file.path}: the file is empty")


def ending_of(path: str) -> str:
    """The extension of a path without `.gz` and `.xz`: `.csv` for `corpus.csv` and for `corpus.csv.gz`."""
    return Path(path.removesuffix(".gz").removesuffix(".xz")).suffix


def layouts(source: str, target: str) -> list[tuple[str, str]]:
    """The possible pairs of column names, in order of preference."""
    found = [(f"translation.{source}", f"translation.{target}"), (source, target), ("source", "target")]
    return [pair for pair in found if pair[0] != pair[1]]


def choose_columns(names: Collection[str], text: str, source: str, target: str) -> tuple[str, str]:
    """Find the source and target columns: the first of the `layouts` whose two names are in `names`."""
    columns = next((pair for pair in layouts(source, target) if set(pair) <= set(names)), None)
    if columns is None and source == target:
        raise CorpusError(
            f"{text} has the columns {', '.join(names)}; --data.source and --data.target are both {source}, "
            "so the two columns must be called source and target"
        )
    if columns is None:
        raise CorpusError(
            f"{text} has the columns {', '.join(names)}; --data.source and --data.target name {source} and "
            f"{target}: name two of its columns (or call them source and target, or nest them in translation)"
        )
    return columns


def read_csv(path: str, lines: Iterator[str]) -> Iterator[TableRow]:
    """Read comma-separated fields, which may be quoted; the first line names the columns."""
    csv.field_size_limit(LONGEST_LINE)  # a field may span lines; Python's limit is 131,072 characters
    rows = csv.reader((f"{line}\n" for line in lines), strict=True)
    header: list[str] = []
    start = 1
    try:
        for fields in rows:
            where = f"{path}, line {start}"
            start = rows.line_num + 1
            if fields and not header:
                header = fields
            elif fields:
                yield named_row(where, header, fields)
    except csv.Error as error:
        raise CorpusError(f"{path}, line {start}: not valid csv: {error}") from None


def read_tsv(path: str, lines: Iterator[str], layouts: Collection[tuple[str, str]]) -> Iterator[TableRow]:
    """Read tab-separated fields; quotation marks have no special meaning.

    The first line is a header if it names both columns of one of the `layouts`. Without a header, the first
    two columns are source and target, and the others are ignored.
    """
    numbered = enumerate(lines, start=1)
    rows = ((f"{path}, line {number}", line.split("\t")) for number, line in numbered if line)
    first = next(rows, None)
    if first is None:
        return
    where, names = first
    if any(set(pair) <= set(names) for pair in layouts):
        yield from (named_row(where, names, fields) for where, fields in rows)
        return
    if len(names) > 3 and names[0].isdecimal() and names[2].isdecimal():  # Tatoeba: ID, TEXT, ID, TEXT
        raise CorpusError(f"{where} begins with a number; add a header line that names the columns")
    for where, fields in chain([first], rows):
        if len(fields) < 2:
            raise CorpusError(f"{where} has no tab; without a header, lines are SOURCE<TAB>TARGET")
        yield TableRow(where, {"source": fields[0], "target": fields[1]})


def named_row(where: str, header: list[str], fields: list[str]) -> TableRow:
    if len(fields) > len(header):
        raise CorpusError(f"{where} has {len(fields)} fields, but the header names {len(header)} columns")
    row: dict[str, str | None] = {}
    for name, field in zip_longest(header, fields):
        row.setdefault(name, field)  # the first of several columns with the same name is used
    return TableRow(where, row)


def read_json(path: str, lines: Iterator[str]) -> Iterator[TableRow]:
    """Read JSON objects, either one per line or all in one list."""
    numbered = enumerate(lines, start=1)
    written = ((number, line) for number, line in numbered if line.strip(JSON_SPACE))
    first = next(written, None)
    if first is None:
        return
    values: Iterable[tuple[str, Any]]
    if first[1].lstrip(JSON_SPACE).startswith("["):
        text = "\n" * (first[0] - 1) + "\n".join(chain([first[1]], lines))
        values = ((f"{path}, item {number}", item) for number, item in enumerate(parse_json(text, path), 1))
    else:
        places = ((f"{path}, line {number}", line) for number, line in chain([first], written))
        values = ((where, parse_json(line, where)) for where, line in places)
    for where, value in values:
        if not isinstance(value, dict):
            raise CorpusError(f"{where} is not a JSON object")
        yield TableRow(where, value)
