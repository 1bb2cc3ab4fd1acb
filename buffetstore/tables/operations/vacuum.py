"""Vacuum: deleting the files of a table's folder that no version within retention refers to.

Kept are

* what the newest version refers to, deletion vectors included;
* what a commit within retention removed, and its change data: so every version that was the newest within retention
  can be read;
* whatever is younger than retention, as it may belong to a write that is not committed yet (writes are bounded far
  below it; whoever cuts retention short answers for it that nobody writes);
* what tables that this process has opened at a version refer to. An answer that is being read from an earlier state of
  a table is protected by retention alone;
* the log, `_buffetstore/`, everything else whose name starts with `_` or `.` except change data, and the folders of
  other tables.

The listing is looked at as it comes, some thousand objects at a time, so that what is held is what the table's newest
snapshot holds, 16 bytes for each file that is kept, and the list of what goes.

Time is the store's, asked for by writing a small object. Before each round of deletions the newest version is read
again, and this process commits nothing to the table meanwhile. Another process that restores a version from before
retention just then may name files that are being deleted: restore looks whether its files are there, and `verify`
tells. Restoring a version within retention is always safe. No log entries are written about it.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import AccessError, InvalidInputError, UnsupportedFeatureError
from buffetstore.objects.helpers import head as head_of
from buffetstore.resilience.concurrency import gather
from buffetstore.resilience.threads import give_way, in_thread
from buffetstore.tables.arrays import whole
from buffetstore.tables.features import MAX_WRITER_VERSION, READABLE, WRITABLE, check_readable
from buffetstore.tables.log import join
from buffetstore.tables.operations.references import Paths, referred, removed_since
from buffetstore.tables.properties import FILE_RETENTION, Properties
from buffetstore.tables.segment import list_log

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
    from datetime import timedelta

    from buffetstore.objects.base import ObjectStore
    from buffetstore.tables.head import Head
    from buffetstore.tables.segment import Listed
    from buffetstore.tables.snapshot import Snapshot

CLOCK = "_buffetstore/clock"
BATCH = 1000  # keys that one request deletes
ROUND = 8 * BATCH  # keys between two looks at the newest version
_PIECE = 8192  # objects that are looked at together: to make columns of them holds the interpreter
_TURN = 1000  # objects of a listing after which others may run
FILES = pa.schema([("path", pa.string()), ("size", pa.int64()), ("last_modified", pa.timestamp("us", tz="UTC"))])


@dataclass(frozen=True, slots=True)
class VacuumResult:
    """How many files were deleted, or would be, and their bytes.

    Parameters
    ----------
    listing:
        They one by one: `path` inside the table, `size`, `last_modified`.
    cutoff:
        Files from before this moment, by the store's clock, were looked at.
    """

    files: int
    bytes: int
    listing: pa.Table
    cutoff: datetime
    dry_run: bool


def checked_retention(snapshot: Snapshot, asked: timedelta | None, *, allow_short: bool) -> int:
    """Return the retention in milliseconds.

    Raises
    ------
    InvalidInputError
        It is negative, or shorter than the table's own and that was not allowed.
    """
    own = Properties(snapshot.metadata.configuration).deleted_file_retention
    if asked is None:
        return own
    wanted = int(asked.total_seconds() * 1000)
    if wanted < 0:
        raise InvalidInputError(f"retention {asked} is negative")
    if wanted < own and not allow_short:
        raise InvalidInputError(
            f"retention {asked} is shorter than the {own / 3_600_000:g} hours of table {snapshot.path!r} "
            f"({FILE_RETENTION}): files of writes that are under way, and of versions that are being read, would be "
            "deleted. Set the property, or pass allow_short_retention=True where nobody else uses the table"
        )
    return wanted


def check_vacuumable(snapshot: Snapshot) -> None:
    """Raise `UnsupportedFeatureError` where the table uses what may keep files in ways that are not known."""
    check_readable(snapshot.protocol, snapshot.metadata, snapshot.path)
    protocol = snapshot.protocol
    unknown = sorted(set(protocol.writer_features) - READABLE - WRITABLE)
    if protocol.min_writer_version > MAX_WRITER_VERSION:
        unknown.append(f"writer version {protocol.min_writer_version}")
    if unknown:
        raise UnsupportedFeatureError(
            f"table {snapshot.path!r} cannot be vacuumed: it needs {', '.join(unknown)}, which is not supported",
            key=snapshot.path,
        )


async def vacuum(
    head: Head,
    retention: timedelta | None,
    *,
    allow_short: bool,
    dry_run: bool,
    pinned: Callable[[], Sequence[Snapshot]],
    progress: Callable[[int, int], None] | None,
) -> VacuumResult:
    """Vacuum the table; see `MaintenanceMethods.vacuum`."""
    store, path = head.committer.store, head.committer.path
    async with head.lock:
        snapshot = await head.refresh()
    check_vacuumable(snapshot)
    length = pa.scalar(checked_retention(snapshot, retention, allow_short=allow_short), pa.duration("ms")).as_py()
    listed = await list_log(store, path)
    cutoff = await _store_time(store, path, listed) - length
    removed = await removed_since(store, path, listed, cutoff)
    living = (snapshot, *pinned())
    kept = await in_thread(_kept, removed, living)
    doomed = await _unreferred(store, snapshot, kept, cutoff)
    del kept
    if not dry_run:
        doomed = await _delete(head, doomed, living, pinned, progress)
    return VacuumResult(doomed.num_rows, pc.sum(doomed["size"]).as_py() or 0, doomed, cutoff, dry_run)


def _kept(removed: Sequence[pa.Array], living: Sequence[Snapshot]) -> Paths:
    return Paths(chain(removed, *(referred(each) for each in living)))


async def _store_time(store: ObjectStore, path: str, listed: Listed) -> datetime:
    key = join(path, CLOCK)
    try:
        await store.put(key, b"{}")
        return (await head_of(store, key)).last_modified
    except AccessError:  # may read only: the newest entry of the log is not after now
        return max((meta.last_modified for meta in listed.commits.values()), default=datetime.min.replace(tzinfo=UTC))


async def _unreferred(store: ObjectStore, snapshot: Snapshot, kept: Paths, cutoff: datetime) -> pa.Table:
    """Return the objects older than `cutoff` that are not kept."""
    others: set[str] = set()  # folders of other tables
    found: list[pa.Table] = []
    async with aclosing(listed_files(store, snapshot.path, others)) as pieces:
        found += [
            await in_thread(_candidates, piece, kept, cutoff, snapshot.partition_columns) async for piece in pieces
        ]
    return without_others(pa.concat_tables(found) if found else FILES.empty_table(), others)


def without_others(files: pa.Table, others: Iterable[str]) -> pa.Table:
    """Return the files that are not in one of these folders."""
    for folder in others:
        files = files.filter(pc.invert(pc.starts_with(files["path"], folder)))
    return files


async def listed_files(
    store: ObjectStore, path: str, others: set[str], log: Listed | None = None
) -> AsyncGenerator[pa.Table, None]:
    """Yield the objects of a table's folder by one listing, those of the log left out.

    `others` is told the folders of tables inside it, and `log` what is in the log.
    """
    prefix = join(path, "")
    names: list[str] = []
    sizes: list[int] = []
    stamps: list[datetime] = []
    seen = 0
    async for meta in store.list_objects(prefix):
        name = meta.key[len(prefix) :]
        folder, is_log, entry = name.partition("_delta_log/")
        if is_log and (not folder or folder.endswith("/")):
            if folder:
                others.add(folder)
            elif log is not None:
                log.add(meta, entry)
        else:
            names.append(name)
            sizes.append(meta.size)
            stamps.append(meta.last_modified)
        seen += 1
        if seen % _TURN == 0:
            await asyncio.sleep(0)
        if len(names) == _PIECE:
            yield await in_thread(_table, names, sizes, stamps)
            names, sizes, stamps = [], [], []
    if names:
        yield await in_thread(_table, names, sizes, stamps)


def _table(*columns: Sequence[Any]) -> pa.Table:
    # Making arrays of Python's values holds the interpreter, so that others are let in between.
    pieces = []
    for at in range(0, len(columns[0]), _TURN):
        pieces.append(pa.record_batch([column[at : at + _TURN] for column in columns], schema=FILES))
        give_way()
    return pa.Table.from_batches(pieces, FILES).combine_chunks()


def _candidates(objects: pa.Table, kept: Paths, cutoff: datetime, partition_columns: Sequence[str]) -> pa.Table:
    old = objects.filter(pc.less(objects["last_modified"], pa.scalar(cutoff, FILES.field("last_modified").type)))
    visible = old.filter(pc.invert(is_hidden(old["path"], partition_columns)))
    return visible.filter(pc.invert(kept.hold(whole(visible["path"]))))


def is_hidden(paths: Any, partition_columns: Sequence[str]) -> Any:
    """Return which paths are none of the table's files by their names. Change data and partition folders are."""
    paths = pc.replace_substring_regex(paths, "^_change_data/", "")
    for name in partition_columns:
        if name.startswith(("_", ".")):
            paths = pc.replace_substring(paths, f"{name}=", "x=")
    return pc.match_substring_regex(paths, r"(^|/)[_.]")


async def _delete(
    head: Head,
    doomed: pa.Table,
    seen: Sequence[Snapshot],
    pinned: Callable[[], Sequence[Snapshot]],
    progress: Callable[[int, int], None] | None,
) -> pa.Table:
    """Delete what no snapshot refers to that has come since those that were `seen`; return what was deleted."""
    store, path = head.committer.store, head.committer.path
    gone: list[pa.Table] = []
    for start in range(0, doomed.num_rows, ROUND):
        files = doomed.slice(start, ROUND)
        async with head.lock:
            living = (await head.refresh(), *pinned())
            news = [each for each in living if not any(each is other for other in seen)]
            if news:
                files = await in_thread(_without, files, news)
            keys = [join(path, name) for name in files["path"].to_pylist()]
            await gather([partial(store.delete, keys[at : at + BATCH]) for at in range(0, len(keys), BATCH)])
        gone.append(files)
        if progress is not None:
            progress(min(start + ROUND, doomed.num_rows), doomed.num_rows)
    return pa.concat_tables(gone) if gone else doomed


def _without(files: pa.Table, living: Sequence[Snapshot]) -> pa.Table:
    """Return the few files that are none of those, which may be many, that the snapshots refer to."""
    paths = whole(files["path"])
    held = [array.filter(pc.is_in(array, value_set=paths)) for snapshot in living for array in referred(snapshot)]
    return files.filter(pc.invert(pc.is_in(paths, value_set=pa.concat_arrays([pa.array([], pa.string()), *held]))))
