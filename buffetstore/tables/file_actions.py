"""Many file actions at once: made of a snapshot's files, and written as lines of the log, by kernels over columns.

A table of a hundred thousand files has them all in the log entry of an overwrite. As Python values they would take a
second of the interpreter, and the collector would look through all of them, while the event loop waits.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.resilience.threads import give_way
from buffetstore.tables.actions import write_actions
from buffetstore.tables.file_table import rows
from buffetstore.tables.log_columns import ADDS, REMOVES, STRINGS, AddColumns, RemoveColumns, add_columns
from buffetstore.tables.revision_order import keeps_revisions, kept_tags
from buffetstore.tables.statistics_text import quoted, statistics_texts
from buffetstore.tables.stored_statistics import StoredStatistics

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from buffetstore.objects.base import Data
    from buffetstore.tables.actions import Action, AddFile, CdcFile, Metadata, RemoveFile

_LINES = 2048  # made together
_VALUES = 1000  # Python values at a time, after which others may run
_ROWS = 128  # files made into dicts at a time: a millisecond, so that the event loop may do it


def each_file(files: pa.Table) -> Iterator[dict[str, Any]]:
    """Yield the files as `file_table.rows` has them, made when they are asked for."""
    for at in range(0, files.num_rows, _ROWS):
        yield from rows(files.slice(at, _ROWS))


def texts(column: Any) -> tuple[str, ...]:
    """Return a column of texts as Python has them; call it in a thread where there may be many."""
    found: list[str] = []
    for at in range(0, len(column), _VALUES):
        found += column.slice(at, _VALUES).to_pylist()
        give_way()
    return tuple(found)


def removed(files: pa.Table, *, data_change: bool = True) -> RemoveColumns:
    """Return the actions that remove files of a snapshot, stamped now; call it in a thread where they are many."""
    count, now = files.num_rows, int(datetime.now(UTC).timestamp() * 1000)
    columns = {
        "path": files["path"],
        "log_path": files["log_path"],
        "deletion_timestamp": pa.repeat(pa.scalar(now, pa.int64()), count),
        "data_change": pa.repeat(data_change, count),
        "partition_values": _not_null(files["partition_values"]),
        "size": files["size"],
        "tags": _not_null(files["tags"]),
        "deletion_vector": files["deletion_vector"],
    }
    return RemoveColumns(_batch(columns, REMOVES))


def restored(files: pa.Table, metadata: Metadata, bounded: Sequence[str]) -> AddColumns:
    """Return the actions that bring files of an earlier version back; call it in a thread.

    Parameters
    ----------
    bounded:
        The columns whose bounds are told; these are as wide as reading them made them.
    """
    pieces = [statistics_texts(batch, bounded) for batch in files.to_batches(max_chunksize=_LINES)]
    columns = {
        "path": files["path"],
        "log_path": files["log_path"],
        "size": files["size"],
        "modification_time": files["modification_time"].cast(pa.int64()),
        "partition_values": _not_null(files["partition_values"]),
        "tags": _tags_of(files, metadata),
        "data_change": pa.repeat(True, files.num_rows),
        "deletion_vector": files["deletion_vector"],
    }
    stats = pa.concat_arrays([pa.array([], pa.string()), *pieces])
    return AddColumns(_batch(columns, ADDS), StoredStatistics.of_texts(stats))


def _tags_of(files: pa.Table, metadata: Metadata) -> Any:
    if not keeps_revisions(metadata):
        return _not_null(files["tags"])
    found = []
    for at in range(0, files.num_rows, _VALUES):
        tags = [list(kept_tags(metadata, file).items()) for file in rows(files.slice(at, _VALUES))]
        found.append(pa.array(tags, STRINGS))
    return pa.chunked_array(found, STRINGS)


def _batch(columns: Mapping[str, Any], schema: pa.Schema) -> pa.RecordBatch:
    found = pa.table(dict(columns), schema=schema).combine_chunks().to_batches()
    return found[0] if found else pa.RecordBatch.from_pylist([], schema)


def _not_null(maps: Any) -> Any:
    return pc.if_else(pc.is_valid(maps), maps, pa.scalar([], STRINGS)) if maps.null_count else maps


def paths_of(actions: Sequence[AddFile] | Sequence[RemoveFile]) -> pa.Array:
    """Return the paths that the actions are about."""
    if isinstance(actions, AddColumns | RemoveColumns):
        return actions.batch["path"]
    return pa.array([action.path for action in actions], pa.string())


def adds_together(one: Sequence[AddFile], other: Sequence[AddFile]) -> Sequence[AddFile]:
    """Return all of the actions, as columns where some are."""
    if not one or not other:
        return one or other
    if not isinstance(one, AddColumns) and not isinstance(other, AddColumns):
        return (*one, *other)
    first, then = add_columns(one), add_columns(other)
    return AddColumns(pa.concat_batches([first.batch, then.batch]), first.statistics + then.statistics)


def write_entry(
    first: Iterable[Action], removes: Sequence[RemoveFile], adds: Sequence[AddFile], cdcs: Sequence[CdcFile] = ()
) -> Data:
    """Return a log entry: what `first` says, then the files; call it in a thread where they are many."""
    columns = any(isinstance(actions, AddColumns | RemoveColumns) for actions in (removes, adds))
    if not columns and len(removes) + len(adds) + len(cdcs) <= _VALUES:
        return write_actions((*first, *removes, *adds, *cdcs))
    pieces = []
    for made in chain(_pieces(first), _lines(removes), _lines(adds), _pieces(cdcs)):
        pieces.append(np.frombuffer(made, np.uint8))
        give_way()
    # Joining all at once would hold the interpreter for as long as it takes to copy them.
    found, at = np.empty(sum(map(len, pieces)), np.uint8), 0
    for piece in pieces:
        found[at : at + len(piece)] = piece
        at += len(piece)
        give_way()
    return found.data


def _lines(actions: Sequence[AddFile] | Sequence[RemoveFile]) -> Iterator[Any]:
    if not isinstance(actions, AddColumns | RemoveColumns):
        yield from _pieces(actions)
        return
    stats = actions.statistics.texts() if isinstance(actions, AddColumns) else None
    for at in range(0, len(actions), _LINES):
        batch = actions.batch.slice(at, _LINES)
        lines = _remove_lines(batch) if stats is None else _add_lines(batch, stats.slice(at, _LINES))
        _, offsets, data = lines.buffers()
        ends = np.frombuffer(offsets, np.int32)[lines.offset : lines.offset + len(lines) + 1]
        yield data.slice(int(ends[0]), int(ends[-1] - ends[0]))


def _pieces(actions: Iterable[Action]) -> Iterator[bytes]:
    held = iter(actions)
    while piece := list(islice(held, _VALUES)):
        yield write_actions(piece)


def _add_lines(batch: pa.RecordBatch, stats: pa.Array) -> pa.Array:
    return _joined(
        '{"add":{"path":',
        quoted(batch["log_path"]),
        ',"partitionValues":',
        _objects(batch["partition_values"]),
        ',"size":',
        batch["size"].cast(pa.string()),
        ',"modificationTime":',
        batch["modification_time"].cast(pa.string()),
        ',"dataChange":',
        batch["data_change"].cast(pa.string()),
        _member("stats", quoted(stats)),
        _tags(batch["tags"]),
        _member("deletionVector", batch["deletion_vector"]),
        "}}\n",
    )


def _remove_lines(batch: pa.RecordBatch) -> pa.Array:
    values, size = _objects(batch["partition_values"]), batch["size"].cast(pa.string())
    # Null where one of the two is.
    known = _joined(',"extendedFileMetadata":true,"partitionValues":', values, ',"size":', size, _tags(batch["tags"]))
    return _joined(
        '{"remove":{"path":',
        quoted(batch["log_path"]),
        ',"dataChange":',
        batch["data_change"].cast(pa.string()),
        _member("deletionTimestamp", batch["deletion_timestamp"].cast(pa.string())),
        pc.fill_null(known, ""),
        _member("deletionVector", batch["deletion_vector"]),
        "}}\n",
    )


def _joined(*parts: Any) -> Any:
    return pc.binary_join_element_wise(*parts, "")


def _member(name: str, values: Any) -> Any:
    return pc.fill_null(_joined(f',"{name}":', values), "")


def _tags(maps: Any) -> Any:
    held = _objects(maps)
    return _member("tags", pc.if_else(pc.equal(held, "{}"), pa.scalar(None, pa.string()), held))


def _objects(maps: pa.MapArray) -> Any:
    """Return the maps as JSON objects; null stays null."""
    pairs = maps.cast(pa.list_(pa.struct([maps.type.key_field, maps.type.item_field])))
    keys, items = pairs.flatten().flatten()
    members = _joined(quoted(keys), ":", pc.fill_null(quoted(items), "null"))
    counts = pc.fill_null(pc.list_value_length(pairs), 0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    inside = pc.binary_join(pa.ListArray.from_arrays(offsets, members), ",")
    return pc.if_else(maps.is_valid(), _joined("{", inside, "}"), pa.scalar(None, pa.string()))
