"""Which data files are to be compacted together. Pure: files in, bins out.

Files of one directory (of one combination of partition values, where the table is partitioned) that are smaller than
three quarters of the target are put into bins in the order of their commits, as many as the memory budget takes. A bin
is worth rewriting when fewer files come out than go in.

Time buckets (files whose tag `bucket` is a day, a month or a year) are coarsened with age: a day joins its month when
the month has been over for `Coarsening.month_after`, and days and months join their year when the year has been over
for `Coarsening.year_after`. As a month or year is over first, each is merged once and not again with every new day.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.tables.file_statistics import has_bounds
from buffetstore.tables.revision_order import in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

BUCKET_TAG: Final = "bucket"
_SMALL = 0.75  # of the target: what is nearly as large is left alone
_BUCKET = re.compile(r"(\d{4})(?:-(\d\d))?(?:-(\d\d))?")
_FLAT_BYTES = 8  # of a value whose width the type does not tell, besides its bytes
_EXPANSION = 8  # of a file whose rows are not counted, from Parquet to Arrow


@dataclass(frozen=True, slots=True)
class Coarsening:
    """When time buckets grow: how long a month, or a year, must have been over before it becomes one bucket."""

    month_after: timedelta = timedelta(days=7)
    year_after: timedelta = timedelta(days=90)

    def bucket(self, bucket: str, today: date) -> str:
        """Return the bucket that takes the rows of this one.

        >>> Coarsening().bucket("2024-01-15", date(2024, 2, 20))
        '2024-01'
        """
        found = _BUCKET.fullmatch(bucket)
        if found is None or not "0001" <= found[1] < "9999":
            return bucket
        year, month = int(found[1]), int(found[2] or 1)
        if date(year + 1, 1, 1) + self.year_after <= today:
            return found[1]
        following = date(year + month // 12, month % 12 + 1, 1)
        if found[3] is not None and following + self.month_after <= today:
            return f"{found[1]}-{found[2]}"
        return bucket


def bucket_directory(bucket: str) -> str:
    """Return the folder of a bucket.

    >>> bucket_directory("2024-01")
    'year=2024/month=01'
    """
    return "/".join(f"{unit}={part}" for unit, part in zip(("year", "month", "day"), bucket.split("-"), strict=False))


@dataclass(frozen=True, slots=True)
class Bin:
    """Files that become one, or as many as the target asks for.

    Parameters
    ----------
    files:
        Rows of a snapshot's files, in the order of their revisions.
    memory:
        Bytes that their rows take in memory, estimated.
    outputs:
        How many files come out.
    """

    files: pa.Table
    directory: str
    bucket: str | None
    size: int
    memory: int
    outputs: int


def plan_bins(
    files: pa.Table,
    *,
    target_bytes: int,
    memory: int,
    row_bytes: int,
    partition_columns: Sequence[str] = (),
    coarsening: Coarsening | None = None,
    today: date = date.min,
    chosen: pa.Table | None = None,
    revisions_of: Sequence[str] | None = None,
) -> list[Bin]:
    """Return the bins that are worth rewriting.

    Parameters
    ----------
    memory:
        Bytes of rows in a bin at most.
    row_bytes:
        What a row takes in memory.
    chosen:
        Those of the files that may be compacted; all where None.
    revisions_of:
        The key of a table that keeps revisions, empty where it is not known. A bin of it leaves out no file that
        stands between its files, in order of commits, and may hold rows of the same keys: so the rewritten rows keep
        their place among all others.
    """
    files = in_order(files)
    sizes = files["size"].to_numpy()
    small = pa.array(sizes < target_bytes * _SMALL)
    if chosen is not None:
        small = pc.and_(small, pc.is_in(files["path"].combine_chunks(), value_set=_whole(chosen["path"])))
    places = np.flatnonzero(small.to_numpy(zero_copy_only=False))
    if len(places) < 2:
        return []
    candidates = files.take(pa.array(places))
    needs = arrow_bytes(candidates, row_bytes)
    unbroken = _whole_run if revisions_of is None else _unbroken(files, revisions_of)
    bins = []
    for directory, bucket, members in _groups(candidates, partition_columns, coarsening, today):
        for full in _runs(members, needs, memory):
            for run in unbroken(places[full]):
                size = int(sizes[run].sum())
                outputs = max(1, -(-size // target_bytes))
                if outputs < len(run):
                    need = int(needs[np.searchsorted(places, run)].sum())
                    bins.append(Bin(files.take(pa.array(run)), directory, bucket, size, need, outputs))
    return bins


def row_width(schema: pa.Schema) -> int:
    """Return about how many bytes a row takes in memory."""
    return sum(_width(field.type) for field in schema)


def arrow_bytes(files: pa.Table, row_bytes: int) -> NDArray[np.int64]:
    """Return for each file about how many bytes its rows take in memory, where a row takes `row_bytes`."""
    known = pc.multiply(files["num_records"], row_bytes)
    found: NDArray[np.int64] = pc.coalesce(known, pc.multiply(files["size"], _EXPANSION)).to_numpy()
    return found


def _width(kind: Any) -> int:
    if pa.types.is_struct(kind):
        return sum(_width(kind.field(index).type) for index in range(kind.num_fields))
    if pa.types.is_list(kind) or pa.types.is_map(kind):
        return 4 * _width(kind.value_type if pa.types.is_list(kind) else kind.item_type) + _FLAT_BYTES
    try:
        return max(int(kind.bit_width) // 8, 1)
    except ValueError:
        return 2 * _FLAT_BYTES


def _groups(
    files: pa.Table, partition_columns: Sequence[str], coarsening: Coarsening | None, today: date
) -> Iterator[tuple[str, str | None, NDArray[np.int64]]]:
    """Yield the directory, the bucket and the positions of files that may be put together."""
    groups: dict[Any, list[int]] = {}
    folders = pc.replace_substring_regex(files["path"], r"/?[^/]*$", "").to_pylist()
    if partition_columns:
        # By value and not by folder: a foreign writer may spread one partition over random ones.
        for at, held in enumerate(files["partition_values"].to_pylist()):
            groups.setdefault(tuple(sorted(held or (), key=lambda pair: pair[0])), []).append(at)
        for found in groups.values():
            yield folders[found[0]], None, np.array(found)
        return
    buckets = pc.map_lookup(files["tags"], pa.scalar(BUCKET_TAG, pa.string()), "first").to_pylist()
    wider = {
        bucket: bucket if bucket is None or coarsening is None else coarsening.bucket(bucket, today)
        for bucket in set(buckets)
    }
    # A wide bucket has one folder, whether its rows come from narrower ones or not.
    widened = {wide for bucket, wide in wider.items() if wide != bucket}
    for at, (folder, bucket) in enumerate(zip(folders, buckets, strict=True)):
        wide = wider[bucket]
        groups.setdefault((bucket_directory(wide) if wide in widened else folder, wide), []).append(at)
    for (folder, wide), found in groups.items():
        yield folder, wide, np.array(found)


def _runs(members: NDArray[np.int64], needs: NDArray[np.int64], memory: int) -> Iterator[NDArray[np.int64]]:
    """Yield the members in pieces that fit in memory."""
    ends = np.cumsum(needs[members])
    start, before = 0, 0
    while start < len(members):
        end = max(int(np.searchsorted(ends, before + memory, side="right")), start + 1)
        yield members[start:end]
        start, before = end, int(ends[end - 1])


def _whole_run(run: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [run]


def _unbroken(files: pa.Table, key: Sequence[str]) -> Callable[[NDArray[np.int64]], list[NDArray[np.int64]]]:
    """Return what cuts a run of files, which are in order, where another file's rows belong between theirs."""
    stamps = [
        pc.fill_null(files["commit_version"], -1).to_numpy(),
        files["modification_time"].cast(pa.int64()).to_numpy(),
    ]
    changes = np.zeros(files.num_rows, np.bool_)
    for stamp in stamps:
        changes[1:] |= stamp[1:] != stamp[:-1]
    turns = np.cumsum(changes)  # files of one turn are in order of their paths only, which rewriting changes

    def cut(run: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        first = int(np.searchsorted(turns, turns[run[0]], side="left"))
        last = int(np.searchsorted(turns, turns[run[-1]], side="right"))
        outside = np.setdiff1d(np.arange(first, last), run, assume_unique=True)
        near = _overlapping(files.take(pa.array(outside)), files.take(pa.array(run)), key)
        between = np.unique(turns[outside[near]])
        free = run[~np.isin(turns[run], between)]
        piece = np.searchsorted(between, turns[free])
        return [free[piece == each] for each in np.unique(piece)]

    return cut


def _overlapping(others: pa.Table, files: pa.Table, key: Sequence[str]) -> NDArray[np.bool_]:
    found = np.ones(others.num_rows, np.bool_)
    for name in key:
        low, high, nulls = (f"{side}.{name}" for side in ("min", "max", "null_count"))
        kind = files.schema.field(low).type if low in files.column_names else pa.null()
        # A NaN lies outside of all bounds; a null has none.
        if not has_bounds(kind) or pa.types.is_floating(kind) or files[low].null_count or files[high].null_count:
            continue
        apart = pc.or_(
            pc.greater(others[low], pc.max(files[high])) if others.num_rows else pa.array([], pa.bool_()),
            pc.less(others[high], pc.min(files[low])) if others.num_rows else pa.array([], pa.bool_()),
        )
        both_null = pc.and_(_has_nulls(others[nulls]), bool(pc.any(_has_nulls(files[nulls])).as_py()))
        apart = pc.and_(pc.fill_null(apart, False), pc.invert(both_null))
        found &= ~apart.to_numpy(zero_copy_only=False) if isinstance(apart, pa.Array) else ~apart.to_numpy()
    return found


def _has_nulls(counts: Any) -> Any:
    return pc.fill_null(pc.not_equal(counts, 0), True)


def _whole(column: Any) -> Any:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
