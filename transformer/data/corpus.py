"""Parallel text as `datasets` tables: toyland, plain files, json, csv and parquet files, the Hub.

`DataConfig` says how a text is named. Whatever the name stands for, the table has the columns `source` and
`target`; toyland adds `phenomena`, the names of what each of its sentences shows. Files live on disk as Arrow
in the cache of `datasets`, so that memory does not grow with the corpus.
"""

import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformer.data import toyland
from transformer.data.text import CorpusError, read_lines
from transformer.files import FULL, naming

if TYPE_CHECKING:
    import datasets  # slow to import: the functions below do it when they are called

TOYLAND_SIZES = {"train": 200_000, "valid": 1_000, "test": 1_000} | dict.fromkeys(
    toyland.GENERALISATION, 1_000
)
"""Pairs of a toyland split when the name does not end in `[:N]`."""

FILE_FORMATS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}
ARCHIVES = ("", ".gz", ".xz")
FIRST_PAIRS = re.compile(r"(?P<text>.+)\[:(?P<pairs>[1-9][0-9]*)\]")
HUB_NAME = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(:(?P<subset>[^:/]+))?:(?P<split>[^:/]+)")


def load_parallel(name: str, source: str, target: str) -> "datasets.Dataset":
    """The pairs of a text, with the columns `source` and `target`; `CorpusError` if there are none."""
    match = FIRST_PAIRS.fullmatch(name)
    text, limit = (match["text"], int(match["pairs"])) if match else (name, None)
    if text.startswith("toyland:"):
        return load_toyland(text.removeprefix("toyland:"), limit, source, target)
    sides = [find_side(text, language) for language in (source, target)]
    with quiet_datasets():
        if any(sides):
            table = load_plain(text, sides, source, target)
        elif file_format(text) and Path(text).is_file():
            table = load_table(text, source, target)
        elif hub_name := HUB_NAME.fullmatch(text):
            table = load_hub(hub_name, source, target)
        else:
            raise CorpusError(nothing_found(text, source, target))
    return table if limit is None else table.select(range(min(limit, len(table))))


def nothing_found(text: str, source: str, target: str) -> str:
    """Why a name means nothing, in one line."""
    if Path(text).is_file():
        found = f"{text!r} is one file of no known format, or one side of a corpus"
    else:
        found = f"no corpus at {text!r}: looked for {text}.{source} and {text}.{target} (also .gz, .xz)"
    return (
        f"{found}; name a path without its language ending, a json, jsonl, csv or parquet file, "
        "HUB/ID:SPLIT, HUB/ID:SUBSET:SPLIT or toyland:SPLIT"
    )


@contextmanager
def quiet_datasets() -> Iterator[None]:
    """Without the progress bars and log lines of `datasets`: errors are told once, in our own line.

    The cache is named where it cannot be written.
    """
    import datasets

    bars_disabled, verbosity = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        with naming(Path(datasets.config.HF_DATASETS_CACHE)):
            yield
    finally:
        datasets.logging.set_verbosity(verbosity)
        if not bars_disabled:
            datasets.enable_progress_bars()


def load_toyland(split: str, limit: int | None, source: str, target: str) -> "datasets.Dataset":
    """Toyland in memory: it is small, and a cache on disk would outlive a change of the grammar."""
    import datasets

    if source != "en" or target not in ("de", "parse"):
        raise CorpusError(
            f"toyland goes from en to de or parse, not from {source} to {target}; "
            "set data.source, data.target"
        )
    if split not in TOYLAND_SIZES:
        raise CorpusError(f"toyland has no split {split!r}; choose one of {', '.join(TOYLAND_SIZES)}")
    examples = toyland.generate(split, TOYLAND_SIZES[split] if limit is None else limit)
    text = datasets.Value("string")
    # Only what the table keeps: the trees of all examples would fill the memory.
    if target == "parse":
        pairs = ((example.source, toyland.parse(example)) for example in examples)
        sources, targets = zip(*pairs, strict=True)
        return datasets.Dataset.from_dict(
            {"source": sources, "target": targets}, features=datasets.Features(source=text, target=text)
        )
    rows = ((example.source, example.target, list(example.phenomena)) for example in examples)
    sources, targets, phenomena = zip(*rows, strict=True)
    return datasets.Dataset.from_dict(
        {"source": sources, "target": targets, "phenomena": phenomena},
        features=datasets.Features(source=text, target=text, phenomena=datasets.Sequence(text)),
    )


@dataclass(frozen=True)
class PlainFile:
    """A file as it is now: the cache is keyed by all three, so an edited file is read anew."""

    path: str
    size: int
    modified_ns: int

    @classmethod
    def at(cls, path: Path) -> "PlainFile":
        status = path.stat()
        return cls(str(path), status.st_size, status.st_mtime_ns)


def find_side(text: str, language: str) -> Path | None:
    candidates = (Path(f"{text}.{language}{archive}") for archive in ARCHIVES)
    return next((path for path in candidates if path.is_file()), None)


def load_plain(text: str, sides: list[Path | None], source: str, target: str) -> "datasets.Dataset":
    import datasets

    source_path, target_path = sides
    if source_path is None or target_path is None:
        missing = source if source_path is None else target
        raise CorpusError(
            f"{source_path or target_path} has no other side: {text}.{missing} (also .gz, .xz) is missing"
        )
    column = datasets.Value("string")
    try:
        return datasets.Dataset.from_generator(
            read_pairs,
            features=datasets.Features(source=column, target=column),
            gen_kwargs={"source": PlainFile.at(source_path), "target": PlainFile.at(target_path)},
        )
    except datasets.exceptions.DatasetGenerationError as error:
        raise CorpusError(reason(error)) from None


def read_pairs(source: PlainFile, target: PlainFile) -> Iterator[dict[str, str]]:
    """The lines of two files side by side; `CorpusError` unless both have the same number, at least one."""
    source_lines, target_lines = read_lines(source.path), read_lines(target.path)
    number = 0
    for number, (source_line, target_line) in enumerate(zip_longest(source_lines, target_lines), start=1):
        if source_line is None or target_line is None:
            more, fewer = (source, target) if target_line is None else (target, source)
            total = number + sum(1 for _ in source_lines) + sum(1 for _ in target_lines)
            raise CorpusError(
                f"{more.path} has {total} lines, {fewer.path} has {number - 1}: "
                f"line {number} has no translation"
            )
        yield {"source": source_line, "target": target_line}
    if number == 0:
        raise CorpusError(f"{source.path} and {target.path} are empty")


def file_format(path: str) -> str | None:
    plain = path.removesuffix(".gz").removesuffix(".xz")
    return FILE_FORMATS.get(Path(plain).suffix)


def load_table(path: str, source: str, target: str) -> "datasets.Dataset":
    import datasets

    options: dict[str, Any] = {}
    if file_format(path) == "csv":
        # Every field is text as it stands: pandas would turn "NA" into nothing and "1.50" into 1.5.
        columns = dict.fromkeys((source, target, "source", "target"), str)
        options = {"converters": columns, "na_filter": False}
    try:
        table = datasets.load_dataset(file_format(path), data_files=path, split="train", **options)
    except Exception as error:  # the readers of three formats raise whatever they like
        if isinstance(error.__cause__, UnicodeDecodeError):
            deque(read_lines(path), maxlen=0)  # raises the error that names the line
        raise CorpusError(f"{path}: {reason(error)}") from None
    return pick_columns(table, path, source, target)


def load_hub(name: re.Match[str], source: str, target: str) -> "datasets.Dataset":
    import datasets

    try:
        table = datasets.load_dataset(name["id"], name["subset"], split=name["split"])
    except Exception as error:  # network, permissions, unknown ids, subsets and splits
        message = f"there is no file {name[0]!r}, and it cannot be loaded from the Hub: {reason(error)}"
        raise CorpusError(message) from None
    return pick_columns(table, name[0], source, target)


def reason(error: Exception) -> str:
    """What went wrong, in one line; `datasets` wraps the error that says it."""
    import datasets

    cause = error.__cause__ or error
    if isinstance(cause, OSError) and cause.errno in FULL and cause.filename is None:
        return f"{datasets.config.HF_DATASETS_CACHE}: {cause.strerror}"
    if isinstance(cause, StopIteration) or "corresponds to no data" in str(cause):
        return "the file is empty"
    return " ".join(str(cause).split()) or type(cause).__name__


def pick_columns(table: "datasets.Dataset", name: str, source: str, target: str) -> "datasets.Dataset":
    """The two sides: of a `translation` column, named by language, or named `source` and `target`."""
    if "translation" in table.column_names:
        table = table.select_columns("translation").flatten()
    layouts = [(f"translation.{source}", f"translation.{target}"), (source, target), ("source", "target")]
    columns = next((layout for layout in layouts if set(layout) <= set(table.column_names)), None)
    if columns is None:
        raise CorpusError(
            f"{name} has the columns {', '.join(table.column_names)}; it needs {source} and {target}, "
            f"source and target, or translation with {source} and {target}"
        )
    for column in columns:
        require_text(table, name, column)
    table = table.select_columns(list(columns))
    return table.rename_columns(dict(zip(columns, ("source", "target"), strict=True)))


def require_text(table: "datasets.Dataset", name: str, column: str) -> None:
    """`CorpusError` unless every row holds text; the readers of json and parquet do not look at UTF-8."""
    import pyarrow as pa
    import pyarrow.compute as pc

    values = table.data.column(column)
    if values.null_count:
        row = pc.index(pc.is_null(values), True).as_py() + 1
        raise CorpusError(f"{name}, row {row}: nothing in column {column}")
    kind = table.features[column].dtype
    if kind not in ("string", "large_string"):
        raise CorpusError(f"{name}: column {column} holds {kind}, not text")
    try:
        values.validate(full=True)
    except pa.ArrowInvalid:
        row = 1 + next(
            row for row, value in enumerate(values.cast("large_binary")) if not is_utf8(value.as_py())
        )
        raise CorpusError(
            f"{name}, row {row}: invalid UTF-8 in column {column}; convert it to UTF-8"
        ) from None


def is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
