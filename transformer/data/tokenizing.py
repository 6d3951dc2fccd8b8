"""Tokenizes parallel text once: a cache on disk holds the token ids, or the reason why a pair is dropped."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from transformer.data.cores import Workers, usable_cores
from transformer.data.corpus import quiet_datasets
from transformer.data.flat import Lists
from transformer.data.text import MAX_CHARACTERS_PER_TOKEN
from transformer.data.tokenizers.protocol import EOS_ID, Tokenizer

if TYPE_CHECKING:
    import datasets  # slow to import, so the functions below import it when they are called
    import pyarrow as pa

KEPT, EMPTY, TOO_LONG = range(3)
"""The values of the cache's column `dropped`: the pair is kept, dropped as empty, or dropped as too long."""
WORTH_PROCESSES = 20_000
"""The least number of pairs for which a tokenizer written in Python runs in several processes. With fewer
pairs, starting the processes would take more time than they save."""


@dataclass(frozen=True)
class Counts:
    """How many pairs are kept, and how many are dropped for each reason."""

    kept: int
    empty: int
    """Pairs with a side that is blank, or empty after normalisation."""
    too_long: int
    """Pairs in which one side has more than `data.max_tokens` tokens, including EOS, or more than 64 times
    `data.max_tokens` characters."""


def tokenize_pairs(
    table: "datasets.Dataset", tokenizer: Tokenizer, *, max_tokens: int
) -> tuple["datasets.Dataset", Counts]:
    """Tokenize the pairs of a table, and return a table of the kept pairs, and the counts.

    In the new table, the columns `src` and `tgt` hold ids that end in EOS, and `line` holds the number of the
    pair in `table`, counted from 1. If `table` is on disk, the result is also stored on disk, and the next
    call with the same tokenizer reuses it.
    """
    import datasets
    import pyarrow as pa

    ids = datasets.Sequence(datasets.Value("int32"))
    line, dropped = datasets.Value("int64"), datasets.Value("int8")
    with quiet_datasets(), Tokenize(tokenizer, max_tokens) as tokenize:
        if len(table) >= WORTH_PROCESSES and sys.platform == "linux" and not is_threaded(tokenizer):
            tokenize.processes = usable_cores()
        every = table.with_format("arrow").map(
            tokenize,
            input_columns=["source", "target"],
            with_indices=True,
            batched=True,
            batch_size=10_000,
            remove_columns=table.column_names,
            features=datasets.Features(src=ids, tgt=ids, line=line, dropped=dropped),
        )
    reasons = every.data.column("dropped").to_numpy()
    counts = Counts(*np.bincount(reasons, minlength=3).tolist())
    pairs = every.with_format(None).remove_columns("dropped")
    if counts.kept == len(pairs):
        return pairs, counts
    # This does the same as `pairs.select(kept)`, but `select` takes a second for millions of rows.
    kept = pa.table({"indices": np.flatnonzero(reasons == KEPT).astype(np.uint64)})
    name = f"{pairs._fingerprint}-kept"
    return datasets.Dataset(pairs.data, pairs.info, indices_table=kept, fingerprint=name), counts


def is_threaded(tokenizer: Tokenizer) -> bool:
    """Whether the tokenizer uses all cores itself, as SentencePiece does."""
    return getattr(tokenizer, "is_threaded", False)


class Tokenize:
    """Calls `tokenized` on Arrow columns, in as many processes as the attribute `processes` says.

    `datasets` makes its cache key from the pickled object, so only values that affect the result are pickled.
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        self.of_lists = partial(tokenized, tokenizer=tokenizer, max_tokens=max_tokens)
        self.processes = 1
        self.workers: Workers[pa.Table] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Tokenize, tuple(self.of_lists.keywords.values())

    def __enter__(self) -> "Tokenize":
        return self

    def __exit__(self, *_: object) -> None:
        if self.workers is not None:
            self.workers.close()

    def __call__(self, sources: "pa.ChunkedArray", targets: "pa.ChunkedArray", rows: list[int]) -> "pa.Table":
        import pyarrow as pa

        lists = sources.to_pylist(), targets.to_pylist(), rows
        if self.processes == 1:
            return self.of_lists(*lists)
        if self.workers is None:  # started only at the first call, because a cached result needs no workers
            self.workers = Workers(self.of_lists, self.processes)
        return pa.concat_tables(self.workers(*lists))


def tokenized(
    sources: list[str], targets: list[str], rows: list[int], *, tokenizer: Tokenizer, max_tokens: int
) -> "pa.Table":
    """Tokenize pairs into a table with one row for each pair; a dropped pair has empty lists of ids.

    The ids go from the tokenizer's lists into Arrow through NumPy. Arrow's own conversion would check the
    type of each number, which takes as long as tokenizing.
    """
    import pyarrow as pa

    longest = MAX_CHARACTERS_PER_TOKEN * max_tokens
    src = with_eos(tokenizer.encode([source[:longest] for source in sources]), len(rows))
    tgt = with_eos(tokenizer.encode_target([target[:longest] for target in targets]), len(rows))
    pairs = list(zip(sources, targets, strict=True))
    blank = np.array([not source.strip() or not target.strip() for source, target in pairs])
    characters = np.array([max(len(source), len(target)) for source, target in pairs])
    is_empty = blank | (np.minimum(src.lengths, tgt.lengths) == 1)
    is_long = (np.maximum(src.lengths, tgt.lengths) > max_tokens) | (characters > longest)
    dropped = np.where(is_empty, EMPTY, np.where(is_long, TOO_LONG, KEPT)).astype(np.int8)
    columns = {"src": list_array(src, dropped == KEPT), "tgt": list_array(tgt, dropped == KEPT)}
    return pa.table(columns | {"line": np.array(rows) + 1, "dropped": dropped})


def with_eos(lists: Iterable[Iterable[int]], count: int) -> Lists:
    """Append EOS to each of the `count` lists of ids.

    Raises `ValueError` if there are more or fewer lists than `count`.
    """
    lists = [*lists]
    if len(lists) != count:
        raise ValueError(f"the tokenizer has encoded {count} lines as {len(lists)} lists of ids")
    lengths = np.fromiter(map(len, lists), np.int32, count)  # type: ignore[arg-type]
    ids: NDArray[Any] = np.fromiter(chain.from_iterable(lists), np.int32, lengths.sum())
    return Lists(np.insert(ids, lengths.cumsum(), EOS_ID), lengths + 1)


def list_array(lists: Lists, kept: NDArray[np.bool_]) -> "pa.ListArray":
    """Convert the lists to an Arrow column; a list that is not `kept` becomes empty."""
    import pyarrow as pa

    offsets = np.concatenate([[0], (lists.lengths * kept).cumsum()]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, lists.elements[kept.repeat(lists.lengths)])
