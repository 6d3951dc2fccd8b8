"""Reads a tokenized table through NumPy views of its memory: one operation gathers the rows of a batch.

A table on disk is mapped into memory in chunks of a thousand rows, and the rows of a batch are spread over
many chunks. Slicing out the rows one by one would take longer than a GPU needs for the whole batch. Tokens
are copied only when their batch is made.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import datasets  # slow to import, so the functions below import it when they are called
    import pyarrow as pa


class Lists(NamedTuple):
    """Lists of different lengths: their elements one after another, and the length of each."""

    elements: NDArray[Any]
    lengths: NDArray[np.int32]


class Pairs(NamedTuple):
    """Some rows of a table made by `tokenize_pairs`: source ids, target ids and line numbers."""

    src: Lists
    tgt: Lists
    line: NDArray[np.int64]


class FlatPairs:
    """Reads any rows of a table that is not empty and has the columns `src`, `tgt` and `line`."""

    def __init__(self, table: "datasets.Dataset") -> None:
        import datasets

        data = table.data.table.select(["src", "tgt", "line"])
        if not isinstance(table.data, datasets.table.MemoryMappedTable):
            data = data.combine_chunks()  # one view of separate allocations would span other memory too
        self.chunks = data.to_batches()
        self.first_rows = np.cumsum([0, *map(len, self.chunks[:-1])])
        self.src, self.tgt = (ListSpan([chunk[name] for chunk in self.chunks]) for name in ("src", "tgt"))
        self.line = Span([chunk["line"] for chunk in self.chunks])
        self.selected: NDArray[np.int64] | None = None
        """The index of each row in the stored table, or None if the table is not a selection of rows."""
        if table._indices is not None:
            places = table._indices.column(0)
            whole = places.chunk(0) if places.num_chunks == 1 else places.combine_chunks()  # copies
            self.selected = whole.to_numpy().view(np.int64)

    def lengths(self, column: str) -> NDArray[np.int32]:
        """The number of tokens in each row of `src` or `tgt`, including EOS."""
        lengths = np.concatenate([np.diff(chunk[column].offsets) for chunk in self.chunks])
        return lengths if self.selected is None else lengths[self.selected]

    def take(self, rows: NDArray[np.int64]) -> Pairs:
        chunk, row = self.locate(rows)
        line = self.line.values[self.line.starts[chunk] + row]
        return Pairs(self.src.take(chunk, row), self.tgt.take(chunk, row), line)

    def locate(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The chunk of each row, and its place in that chunk."""
        stored = rows if self.selected is None else self.selected[rows]
        chunk = self.first_rows.searchsorted(stored, side="right") - 1
        return chunk, stored - self.first_rows[chunk]

    def content(self, rows: NDArray[np.int64]) -> Iterator[NDArray[np.int32]]:
        """Yield the lengths and tokens of the sources in these rows, then those of the targets.

        The tokens are yielded as views, not copies.
        """
        chunk, row = self.locate(rows)
        for column in (self.src, self.tgt):
            starts, lengths = column.places(chunk, row)
            yield lengths
            # Rows that are adjacent in memory are yielded as one array: usually, one array for each chunk.
            gaps = np.flatnonzero(starts[1:] != (starts + lengths)[:-1]) + 1
            for part in np.split(np.arange(len(rows)), gaps):
                yield column.elements.values[starts[part[0]] : starts[part[-1]] + lengths[part[-1]]]


class Span:
    """Several arrays of numbers from one file or buffer, accessed through a single array `values`.

    `values` covers the memory from the first array to the last. The elements of `values` between the arrays
    are unrelated data and must not be used.
    """

    def __init__(self, arrays: Sequence["pa.Array"]) -> None:
        import pyarrow as pa

        dtype = np.dtype(arrays[0].type.to_pandas_dtype())
        buffers = [array.buffers()[1] for array in arrays]
        first = min(buffer.address for buffer in buffers)
        end = max(buffer.address + buffer.size for buffer in buffers)
        whole = pa.foreign_buffer(first, (end - first) // dtype.itemsize * dtype.itemsize, base=arrays)
        self.values: NDArray[Any] = np.frombuffer(whole, dtype)
        # Arrow aligns buffers to 8 bytes, so the division below leaves no remainder.
        bytes_before = np.array([buffer.address - first for buffer in buffers])
        self.starts = bytes_before // dtype.itemsize + [array.offset for array in arrays]
        """The index of the first element of each array."""


class ListSpan:
    """Several arrays of lists of numbers: one `Span` holds all lists' elements, another holds the offsets."""

    def __init__(self, arrays: Sequence["pa.ListArray"]) -> None:
        self.offsets = Span([array.offsets for array in arrays])
        self.elements = Span([array.values for array in arrays])

    def places(
        self, array: NDArray[np.int64], row: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Where in `elements` the given lists start, and how long they are.

        For each list, `array` is the index of the array that contains it, and `row` its index in that array.
        """
        place = self.offsets.starts[array] + row
        starts, ends = self.offsets.values[place], self.offsets.values[place + 1]
        return self.elements.starts[array] + starts, ends - starts

    def take(self, array: NDArray[np.int64], row: NDArray[np.int64]) -> Lists:
        """Gather the given lists; `array` and `row` are as in `places`."""
        starts, lengths = self.places(array, row)
        before = lengths.cumsum() - lengths  # number of elements in all lists before each list
        return Lists(
            self.elements.values[(starts - before).repeat(lengths) + np.arange(lengths.sum())], lengths
        )
