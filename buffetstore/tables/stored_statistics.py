"""What the log tells of the rows of data files: kept as it was read, typed column by column when it is asked for.

A table of a million files and fifty columns has gigabytes of statistics of which a question needs two columns. The
texts of log entries are kept compressed, those of a checkpoint stay in its Parquet file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from threading import Lock
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.expressions import Bounds
from buffetstore.resilience.threads import give_way
from buffetstore.tables.file_statistics import FileStatistics, parse_statistics
from buffetstore.tables.schema import stored_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    Rows: TypeAlias = "range | NDArray[np.int64]"

_LARGE = 16 * 1024  # bytes of text from which on compressing it is worth the time
_FEW = 1024  # texts that are put together when their pieces are
_TEXTS = pa.schema([("stats", pa.string())])
_CODEC = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", compression_level=1))


class Block(ABC):
    """Statistics of some files, of which each column is typed at most once."""

    exact = True  # what its writers were exact in, it is: False where bounds are widened for what may have been cut

    def __init__(self) -> None:
        self._lock = Lock()
        self._rows: pa.Array | None = None
        self._known: dict[tuple[str, pa.DataType], Bounds] = {}

    def typed(self, fields: Sequence[pa.Field]) -> FileStatistics:
        """Return how many rows each file has, and the bounds of these columns under their own names."""
        with self._lock:
            wanted = [field for field in fields if _key(field) not in self._known]
            if wanted or self._rows is None:
                found = self._typed(pa.schema(wanted))
                self._rows = found.rows
                self._known |= {_key(field): found.bounds[field.name] for field in wanted}
                give_way()
            return FileStatistics(self._rows, {field.name: self._known[_key(field)] for field in fields})

    @abstractmethod
    def _typed(self, schema: pa.Schema) -> FileStatistics:
        """Read the statistics of these columns."""


class TextBlock(Block):
    """Statistics as JSON texts, one a file, as log entries have them."""

    def __init__(self, texts: pa.Array) -> None:
        super().__init__()
        batch = pa.record_batch([texts], schema=_TEXTS)
        self._held: pa.RecordBatch | pa.Buffer = batch if batch.nbytes < _LARGE else _packed(batch)

    def texts(self) -> pa.Array:
        """Return the texts, null where a file has none."""
        if isinstance(self._held, pa.RecordBatch):
            return self._held.column(0)
        with pa.ipc.open_stream(self._held) as stream:
            return stream.read_next_batch().column(0)

    def _typed(self, schema: pa.Schema) -> FileStatistics:
        return parse_statistics(self.texts(), schema)


def _packed(batch: pa.RecordBatch) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, _TEXTS, options=_CODEC) as stream:
        stream.write_batch(batch)
    return sink.getvalue()


class StoredStatistics:
    """The statistics of files in their order, wherever they are: some files of one block, then some of another."""

    __slots__ = ("_parts",)

    def __init__(self, parts: Iterable[tuple[Block, Rows]] = ()) -> None:
        self._parts: tuple[tuple[Block, Rows], ...] = tuple(_merged(parts))

    @classmethod
    def of_texts(cls, texts: pa.Array) -> StoredStatistics:
        """Return statistics given as texts."""
        return cls([(TextBlock(texts), range(len(texts)))])

    def __len__(self) -> int:
        return sum(len(rows) for _, rows in self._parts)

    @property
    def is_exact(self) -> bool:
        """Whether bounds are as the writers of the files told them."""
        return all(block.exact for block, _ in self._parts)

    def __add__(self, other: StoredStatistics) -> StoredStatistics:
        return StoredStatistics((*self._parts, *other._parts))

    def slice(self, start: int, stop: int) -> StoredStatistics:
        """Return the statistics of the files from `start` to before `stop`."""
        found, at = [], 0
        for block, rows in self._parts:
            chosen = rows[max(start - at, 0) : max(stop - at, 0)]
            if len(chosen):
                found.append((block, chosen))
            at += len(rows)
        return StoredStatistics(found)

    def filter(self, kept: NDArray[np.bool_]) -> StoredStatistics:
        """Return the statistics of the files for which `kept` is true."""
        found, at = [], 0
        for block, rows in self._parts:
            chosen = np.asarray(rows, np.int64)[kept[at : at + len(rows)]]
            if len(chosen):
                found.append((block, rows if len(chosen) == len(rows) else chosen))
            at += len(rows)
        return StoredStatistics(found)

    def texts(self) -> pa.Array:
        """Return the texts; for files of log entries, which have them."""
        found = [_taken(_texts_of(block), rows) for block, rows in self._parts]
        return pa.concat_arrays(found) if len(found) > 1 else found[0] if found else pa.array([], pa.string())

    def together(self) -> StoredStatistics:
        """Return the same with neighbours that are few put together, so that many small commits cost little to read."""
        found: list[tuple[Block, Rows]] = []
        for block, rows in self._parts:
            last = found[-1] if found else None
            if last is not None and len(last[1]) + len(rows) <= _FEW and _are_texts(block, last[0]):
                found.pop()
                texts = pa.concat_arrays([_taken(_texts_of(each), held) for each, held in (last, (block, rows))])
                found.append((TextBlock(texts), range(len(texts))))
            else:
                found.append((block, rows))
        return StoredStatistics(found)

    def typed(self, fields: Sequence[pa.Field]) -> FileStatistics:
        """Return how many rows each file has, and the bounds of these columns, none of which is nested."""
        parts = [(block.typed(fields), rows) for block, rows in self._parts]
        if not parts:
            return parse_statistics(pa.array([], pa.string()), pa.schema(fields))
        if len(parts) == 1:
            return _chosen(*parts[0])
        chosen = [_chosen(known, rows) for known, rows in parts]
        bounds = {
            field.name: Bounds(
                pa.concat_arrays([known.bounds[field.name].lowest for known in chosen]),
                pa.concat_arrays([known.bounds[field.name].highest for known in chosen]),
                pa.concat_arrays([known.bounds[field.name].null_count for known in chosen]),
            )
            for field in fields
        }
        return FileStatistics(pa.concat_arrays([known.rows for known in chosen]), bounds)


def _key(field: pa.Field) -> tuple[str, pa.DataType]:
    return stored_name(field), field.type


def _merged(parts: Iterable[tuple[Block, Rows]]) -> Iterator[tuple[Block, Rows]]:
    """Yield the parts, ranges of one block that follow each other as one."""
    last: tuple[Block, Rows] | None = None
    for block, rows in parts:
        if last is None:
            last = block, rows
        elif block is last[0] and isinstance(rows, range) and isinstance(last[1], range) and last[1].stop == rows.start:
            last = block, range(last[1].start, rows.stop)
        else:
            yield last
            last = block, rows
    if last is not None:
        yield last


def _are_texts(*blocks: Block) -> bool:
    return all(isinstance(block, TextBlock) for block in blocks)


def _texts_of(block: Block) -> pa.Array:
    if not isinstance(block, TextBlock):
        raise TypeError(f"{type(block).__name__} has no texts")
    return block.texts()


def _taken(values: pa.Array, rows: Rows) -> pa.Array:
    if isinstance(rows, range):
        return values if len(rows) == len(values) else values.slice(rows.start, len(rows))
    return pc.take(values, pa.array(rows))


def _chosen(known: FileStatistics, rows: Rows) -> FileStatistics:
    bounds = {
        name: Bounds(_taken(held.lowest, rows), _taken(held.highest, rows), _taken(held.null_count, rows))
        for name, held in known.bounds.items()
    }
    return FileStatistics(_taken(known.rows, rows), bounds)
