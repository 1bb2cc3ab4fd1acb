"""File actions of the Delta log as Arrow columns, and from action values to them and back."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.resilience.threads import give_way
from buffetstore.tables.actions import AddFile, RemoveFile, decode_path, encode_path
from buffetstore.tables.stored_statistics import StoredStatistics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from numpy.typing import NDArray

STRINGS = pa.map_(pa.string(), pa.string())
_PIECE = 4096
_TEXT = 1 << 20  # bytes looked through at a time, after which others may run
_VALUES = 500  # made of columns at a time, which holds the interpreter
ADDS = pa.schema(
    [
        ("path", pa.string()),
        ("log_path", pa.string()),
        ("size", pa.int64()),
        ("modification_time", pa.int64()),
        ("partition_values", STRINGS),
        ("tags", STRINGS),
        ("data_change", pa.bool_()),
        ("deletion_vector", pa.string()),
    ]
)
REMOVES = pa.schema(
    [
        ("path", pa.string()),
        ("log_path", pa.string()),
        ("deletion_timestamp", pa.int64()),
        ("data_change", pa.bool_()),
        ("partition_values", STRINGS),
        ("size", pa.int64()),
        ("tags", STRINGS),
        ("deletion_vector", pa.string()),
    ]
)


class _Columns(Sequence[Any]):
    """Actions of one kind, held as columns; as a sequence it yields them as values."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return int(self.batch.num_rows)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return tuple(self)[index]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self._value(self.batch.slice(index % len(self), 1).to_pylist()[0])

    def __iter__(self) -> Iterator[Any]:
        for at in range(0, len(self), _VALUES):
            for row in self.batch.slice(at, _VALUES).to_pylist():
                yield self._value(row)

    @staticmethod
    def _value(row: dict[str, Any]) -> Any:
        raise TypeError(row)


class AddColumns(_Columns, Sequence[AddFile]):
    """`add` actions as columns, whose schema is `ADDS`, and beside them their statistics.

    Parameters
    ----------
    home:
        The columns of which these are a part, and where it begins: what was parsed together can be put together again
        without being copied.
    """

    def __init__(
        self, batch: pa.RecordBatch, statistics: StoredStatistics, home: tuple[AddColumns, int] | None = None
    ) -> None:
        super().__init__(batch)
        self.statistics = statistics
        self.home = home or (self, 0)

    def part(self, start: int, stop: int) -> AddColumns:
        """Return the actions from `start` to before `stop`."""
        columns, at = self.home
        return AddColumns(
            self.batch.slice(start, stop - start), self.statistics.slice(start, stop), (columns, at + start)
        )

    def filter(self, kept: NDArray[np.bool_]) -> AddColumns:
        """Return the actions for which `kept` is true."""
        if kept.all():
            return self
        return AddColumns(self.batch.filter(pa.array(kept)), self.statistics.filter(kept))

    def __iter__(self) -> Iterator[AddFile]:
        texts = self.statistics.texts()
        for at in range(0, len(self), _VALUES):
            rows, stats = self.batch.slice(at, _VALUES).to_pylist(), texts.slice(at, _VALUES).to_pylist()
            for row, row["stats"] in zip(rows, stats, strict=True):
                yield self._value(row)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return tuple(self)[index]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return next(iter(self.part(index % len(self), index % len(self) + 1)))

    @staticmethod
    def _value(row: dict[str, Any]) -> AddFile:
        row["partition_values"], row["tags"] = dict(row["partition_values"] or ()), dict(row["tags"] or ())
        return AddFile(**row)


class RemoveColumns(_Columns, Sequence[RemoveFile]):
    """`remove` actions as columns: the schema is `REMOVES`."""

    @staticmethod
    def _value(row: dict[str, Any]) -> RemoveFile:
        for name in ("partition_values", "tags"):
            row[name] = None if row[name] is None else dict(row[name])
        return RemoveFile(**row)


def add_columns(adds: Sequence[AddFile]) -> AddColumns:
    """Return `add` actions as columns."""
    if isinstance(adds, AddColumns):
        return adds
    columns: dict[str, Callable[[AddFile], Any]] = {
        "log_path": lambda add: add.log_path or encode_path(add.path),
        "partition_values": lambda add: list(add.partition_values.items()),
        "tags": lambda add: list(add.tags.items()),
    }
    texts = pa.array([add.stats for add in adds], pa.string())
    return AddColumns(_batch(adds, ADDS, columns), StoredStatistics.of_texts(texts))


def together(adds: Iterable[AddColumns]) -> Iterator[AddColumns]:
    """Yield the actions in as few columns as they come to without a copy: those that were parsed together are one."""
    run: list[AddColumns] = []
    for columns in adds:
        if run and (run[-1].home[0] is not columns.home[0] or run[-1].home[1] + len(run[-1]) != columns.home[1]):
            yield _run(run)
            run = []
        run.append(columns)
    if run:
        yield _run(run)


def _run(columns: Sequence[AddColumns]) -> AddColumns:
    if len(columns) == 1:
        return columns[0]
    home, start = columns[0].home
    return home.part(start, start + sum(map(len, columns)))


def remove_batch(removes: Sequence[RemoveFile]) -> pa.RecordBatch:
    """Return `remove` actions as columns: the schema is `REMOVES`."""
    if isinstance(removes, RemoveColumns):
        return removes.batch
    columns: dict[str, Callable[[RemoveFile], Any]] = {
        "log_path": lambda remove: remove.log_path or encode_path(remove.path),
        "partition_values": lambda remove: _pairs(remove.partition_values),
        "tags": lambda remove: _pairs(remove.tags),
    }
    return _batch(removes, REMOVES, columns)


def _pairs(held: Mapping[str, Any] | None) -> list[tuple[str, Any]] | None:
    return None if held is None else list(held.items())


def _batch(actions: Sequence[Any], schema: pa.Schema, columns: Mapping[str, Callable[[Any], Any]]) -> pa.RecordBatch:
    # Making arrays of Python objects holds the interpreter, so it is done in pieces that others can run between.
    take = [columns.get(field.name, attrgetter(field.name)) for field in schema]
    pieces = [
        pa.record_batch(
            [
                pa.array([get(action) for action in actions[at : at + _PIECE]], field.type)
                for field, get in zip(schema, take, strict=True)
            ],
            schema=schema,
        )
        for at in range(0, max(len(actions), 1), _PIECE)
    ]
    return pa.concat_batches(pieces) if len(pieces) > 1 else pieces[0]


def decoded(log_paths: Any) -> Any:
    """Return the paths that the log's URIs name: only unusual ones need Python, a million plain ones do not."""
    if not may_be_unusual(log_paths):
        return log_paths
    return pa.array([decode_path(path) for path in log_paths.to_pylist()], pa.string())


def may_be_unusual(paths: pa.Array) -> bool:
    """Return whether a path may be percent-encoded, absolute or a URL; False is certain."""
    if pc.any(pc.starts_with(paths, "/")).as_py():
        return True
    _, offsets, values = paths.buffers()
    if values is None or not len(paths):
        return False
    ends = np.frombuffer(offsets, np.int32)[paths.offset : paths.offset + len(paths) + 1]
    # Looking through the bytes of many at once is twenty times as fast as a kernel over each.
    for at in range(int(ends[0]), int(ends[-1]), _TEXT):
        text = values.slice(at, min(_TEXT, int(ends[-1]) - at)).to_pybytes()
        if b"%" in text or b":" in text:
            return True
        give_way()
    return False


def has_pairs(maps: pa.MapArray) -> bool:
    """Return whether one of the maps is not empty."""
    offsets = maps.offsets
    return bool(len(maps) and offsets[0] != offsets[len(maps)])
