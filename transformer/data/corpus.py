"""Loads parallel text as `datasets` tables from local files, the Hub or toyland, our generated language.

`DataConfig` says how to name a corpus. Every table has the columns `source` and `target`; toyland adds
`phenomena`, the grammatical phenomena in each sentence. Files are cached on disk as Arrow by `datasets`, so
memory use does not grow with the corpus. Only loading from the Hub needs network access. Local files are read
without `datasets.load_dataset`, because that function reports every load to a server.
"""

import glob
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformer import toyland
from transformer.config.errors import shortened
from transformer.data.pairs import (
    TABLES,
    LocalFile,
    choose_columns,
    ending_of,
    find_side,
    read_plain,
    read_table,
)
from transformer.data.slices import Slice, require_slice, split_slice
from transformer.data.text import CorpusError, is_file, open_bytes

if TYPE_CHECKING:
    import datasets  # slow to import, so the functions below import it when they are called

TOYLAND_SIZES = {"train": 200_000, "valid": 1_000, "test": 1_000} | dict.fromkeys(
    toyland.GENERALISATION, 1_000
)
"""Number of pairs in each toyland split, unless the name ends in a slice such as `[:N]`."""

TOYLAND_MOST = 10_000_000
"""The largest allowed end of a slice of toyland, in pairs."""
HUB_NAME = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(:(?P<subset>[^:/]+))?:(?P<split>[^:/]+)")


def load_parallel(name: str, source: str, target: str) -> "datasets.Dataset":
    """Load a corpus as a table with the columns `source` and `target`.

    Raises `CorpusError` if the corpus has no pairs.
    """
    text, part = split_slice(name)
    if text.startswith("toyland:"):
        return load_toyland(text.removeprefix("toyland:"), part, source, target)
    with quiet_datasets():
        table = load_whole(text, source, target)
        chosen = part.of(len(table))
        if not chosen:
            raise CorpusError(f"{name}: there are no pairs in it")
        return table if len(chosen) == len(table) else table.select(chosen)


def load_whole(text: str, source: str, target: str) -> "datasets.Dataset":
    if any(sides := [find_side(text, language) for language in (source, target)]):
        return load_plain(text, sides, source, target)
    if ending_of(text) in TABLES and is_file(Path(text)):
        return cached(read_table, file=LocalFile.at(Path(text)), source=source, target=target)
    if ending_of(text) == ".parquet" and is_file(Path(text)):
        return load_parquet(text, source, target)
    if hub_name := HUB_NAME.fullmatch(text):
        return load_hub(hub_name, source, target)
    require_slice(text)
    raise CorpusError(nothing_found(text, source, target))


def nothing_found(text: str, source: str, target: str) -> str:
    """A one-line message that says why no corpus was found under this name."""
    if is_file(Path(text)):
        found = f"{shortened(repr(text))} is one file of no known format, or one side of a corpus"
    else:
        name = shortened(text)
        found = f"no corpus at {name!r}: looked for {name}.{source} and {name}.{target} (also .gz, .xz)"
    return (
        f"{found}; name a path without its language ending, a json, jsonl, csv, tsv or parquet file, "
        "HUB/ID:SPLIT, HUB/ID:SUBSET:SPLIT or toyland:SPLIT"
    )


@contextmanager
def quiet_datasets() -> Iterator[None]:
    """Silence the progress bars and log lines of `datasets`, because we report each error once ourselves.

    If the cache cannot be written, the error names its folder and the environment variables that set it.
    """
    import datasets

    bars_disabled, verbosity = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    except ChildProcessError:  # raised by `Workers`, and not caused by the cache
        raise
    except OSError as error:
        raise CorpusError(
            f"the cache of `datasets`, {datasets.config.HF_DATASETS_CACHE}, cannot be written "
            f"({error.strerror or error}); set HF_HOME or HF_DATASETS_CACHE to a writable folder"
        ) from error
    finally:
        datasets.logging.set_verbosity(verbosity)
        if not bars_disabled:
            datasets.enable_progress_bars()


def load_toyland(split: str, part: Slice, source: str, target: str) -> "datasets.Dataset":
    """Load toyland as a table in memory.

    There is no cache on disk, because it could be older than the grammar.
    """
    import datasets

    if source != "en" or target not in ("de", "parse"):
        raise CorpusError(
            f"toyland goes from en to de or parse, not from {source} to {target}; "
            "set data.source, data.target"
        )
    if split not in TOYLAND_SIZES:
        require_slice(f"toyland:{split}")
        raise CorpusError(
            f"toyland has no split {shortened(repr(split))}; choose one of {', '.join(TOYLAND_SIZES)}"
        )
    # The grammar generates sentences endlessly, so `[:N]` may exceed the default size.
    chosen = part.of(int(part.end) if part.end.isdecimal() else TOYLAND_SIZES[split])
    if not chosen:
        raise CorpusError(f"toyland:{split}[{part.start}:{part.end}]: there are no pairs in it")
    if chosen.stop > TOYLAND_MOST:
        raise CorpusError(
            f"toyland:{split}[{part.start}:{part.end}]: toyland is kept in memory, so it ends after "
            f"{TOYLAND_MOST:,} pairs"
        )
    examples = islice(toyland.generate(split, chosen.stop), chosen.start, None)
    text = datasets.Value("string")
    # Keep only the columns of the table, because the syntax trees of all examples would fill the memory.
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


def load_plain(text: str, sides: list[Path | None], source: str, target: str) -> "datasets.Dataset":
    if source == target:
        raise CorpusError(
            f"data.source and data.target are both {source}, so {text}.{source} would be both source and "
            "target; set them to two languages"
        )
    source_path, target_path = sides
    if source_path is None or target_path is None:
        missing = source if source_path is None else target
        raise CorpusError(
            f"{source_path or target_path} has no counterpart: there is no {text}.{missing} (or .gz, .xz)"
        )
    return cached(read_plain, source=LocalFile.at(source_path), target=LocalFile.at(target_path))


def cached(read: Callable[..., Iterator[tuple[str, str]]], **arguments: Any) -> "datasets.Dataset":
    """Like `table_of_pairs`, but raises the cause of an error, or a one-line `CorpusError`."""
    import datasets

    from transformer.data.blocks import table_of_pairs

    try:
        return table_of_pairs(read, **arguments)
    except datasets.exceptions.DatasetGenerationError as error:
        if isinstance(error.__cause__, CorpusError | OSError):
            raise error.__cause__ from None
        raise CorpusError(reason(error)) from None


def load_parquet(path: str, source: str, target: str) -> "datasets.Dataset":
    import datasets

    try:
        open_bytes(Path(path)).close()
    except OSError as error:  # caught here, because otherwise it would be reported as an error of the cache
        raise CorpusError(f"{path}: {error.strerror or error}") from None
    try:
        table = datasets.Dataset.from_parquet(glob.escape(path))
    except Exception as error:  # pyarrow's reader raises many types of errors
        raise_if_of_the_disk(error)
        raise CorpusError(f"{path}: {reason(error)}") from None
    return pick_columns(table, path, source, target)


def load_hub(name: re.Match[str], source: str, target: str) -> "datasets.Dataset":
    import datasets

    try:
        table = datasets.load_dataset(name["id"], name["subset"], split=name["split"])
    except Exception as error:  # caused by the network, permissions, or an unknown id, subset or split
        raise_if_of_the_disk(error)
        message = f"there is no file {name[0]!r}, and it cannot be loaded from the Hub: {reason(error)}"
        raise CorpusError(message) from None
    return pick_columns(table, name[0], source, target)


def reason(error: Exception) -> str:
    """The cause of an error in one line: `datasets` wraps the error that has the useful message."""
    cause = error.__cause__ or error
    if isinstance(cause, StopIteration) or "corresponds to no data" in str(cause):
        return "the file is empty"
    return " ".join(str(cause).split()) or type(cause).__name__


def raise_if_of_the_disk(error: Exception) -> None:
    """Raise the error again if it names a file, because such errors come from the disk, not the network."""
    for each in (error.__cause__, error):
        if isinstance(each, OSError) and each.filename is not None:
            raise each


def pick_columns(table: "datasets.Dataset", name: str, source: str, target: str) -> "datasets.Dataset":
    """Select the two sides of a table and rename them to `source` and `target`."""
    if "translation" in table.column_names:
        table = table.select_columns("translation").flatten()
    columns = choose_columns(table.column_names, name, source, target)
    for column in columns:
        require_text(table, name, column)
    table = table.select_columns(list(columns))
    return table.rename_columns(dict(zip(columns, ("source", "target"), strict=True)))


def require_text(table: "datasets.Dataset", name: str, column: str) -> None:
    """Raise `CorpusError` unless every row holds valid text; the parquet reader does not check UTF-8."""
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
    if (row := pc.index(pc.match_substring(values, "\0"), True).as_py()) >= 0:
        raise CorpusError(f"{name}, row {row + 1}: NUL in column {column}, which is not text")


def is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
