"""From the store to a snapshot: what is there is found, read in parallel, and replayed in a thread."""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING

from buffetstore.errors import CorruptLogError, NotFoundError, TableVersionNotFoundError
from buffetstore.resilience.concurrency import gather
from buffetstore.resilience.threads import in_thread
from buffetstore.tables.checkpoint import State, read_checkpoint
from buffetstore.tables.kept_times import kept_times
from buffetstore.tables.log import Entry, commit_key, read_entries, read_entry
from buffetstore.tables.row_group_index import of_table
from buffetstore.tables.row_group_store import load_row_groups
from buffetstore.tables.segment import find_segment
from buffetstore.tables.snapshot import Snapshot, replay
from buffetstore.tables.time_travel import version_at

if TYPE_CHECKING:
    from datetime import datetime

    from buffetstore.objects.base import ObjectStore
    from buffetstore.tables.row_group_index import RowGroupIndex
    from buffetstore.tables.segment import Segment

MAX_WINDOW = 64


async def load(
    store: ObjectStore, path: str, version: int | None = None, timestamp: datetime | None = None
) -> Snapshot:
    """Return the latest snapshot, that of `version`, or what was the latest at `timestamp`.

    Two dependent rounds of requests; a `timestamp` asks for the whole listing of the log first.

    Raises
    ------
    TableNotFoundError, TableVersionNotFoundError, CorruptLogError, UnsupportedFeatureError
    """
    if timestamp is not None:
        return await _load_at(store, path, timestamp)
    try:
        return await _read(store, path, await find_segment(store, path, version))
    except NotFoundError as error:
        if type(error) is not NotFoundError:
            raise
    # An entry was listed and then cleaned up: what replaces it is in a newer checkpoint.
    try:
        return await _read(store, path, await find_segment(store, path, version))
    except NotFoundError as error:
        if type(error) is not NotFoundError:
            raise
        raise CorruptLogError(f"the log of table {path!r} lists {error.key!r}, which is not there", key=path) from error


async def _load_at(store: ObjectStore, path: str, moment: datetime) -> Snapshot:
    kept = await kept_times(store, path)
    if kept is not None:
        try:
            snapshot = await load(store, path, await version_at(store, path, moment, kept))
        except TableVersionNotFoundError:
            snapshot = await load(store, path)
            if kept.table_id == snapshot.metadata.id:
                raise
        if kept.table_id == snapshot.metadata.id:
            return snapshot
    return await load(store, path, await version_at(store, path, moment))  # none was kept, or of another table


async def _read(store: ObjectStore, path: str, segment: Segment) -> Snapshot:
    base: list[State] = []
    tail: list[Entry] = []
    known: list[RowGroupIndex] = []

    async def state() -> None:
        if segment.checkpoint is not None:
            base.append(await read_checkpoint(store, path, segment.checkpoint))

    async def entries() -> None:
        tail.extend(await read_entries(store, path, segment.entries))

    async def row_groups() -> None:
        known.append(await load_row_groups(store, path, segment.row_groups))

    await gather([state, entries, row_groups])
    stamp = segment.entries[-1] if segment.entries else segment.checkpoint
    assert stamp is not None, "a segment has an entry or a checkpoint"
    start = base[0] if base else None
    found = await in_thread(replay, path, start, tail, version=segment.version, timestamp=stamp.last_modified)
    return replace(found, row_groups=of_table(known[0], found.metadata.id))


async def load_again(snapshot: Snapshot, store: ObjectStore) -> Snapshot:
    """Return the latest snapshot of a table that was at `snapshot` before.

    Raises
    ------
    CorruptLogError
        As `load`; or the log ends before the version that was there.
    """
    found = await load(store, snapshot.path)
    if found.version < snapshot.version:
        raise CorruptLogError(
            f"table {snapshot.path!r} was at version {snapshot.version}, and now its log ends at version "
            f"{found.version}: entries have been deleted, from {commit_key(snapshot.path, found.version + 1)!r} on, or "
            "the table has been made anew; restore them from a backup, or open the table again to go on with what is "
            "there",
            key=commit_key(snapshot.path, found.version + 1),
        )
    return found


async def newer_entries(store: ObjectStore, path: str, version: int) -> list[Entry]:
    """Return the entries after `version`: one request where there are none, then twice as many at a time."""
    found: list[Entry] = []
    window = 1
    while True:
        start = version + 1 + len(found)
        answers = await gather(
            [lambda each=each: read_entry(store, path, each) for each in range(start, start + window)]  # type: ignore[misc]
        )
        present = list(takewhile(lambda entry: entry is not None, answers))
        found += [entry for entry in present if entry is not None]
        if len(present) < window:
            return found
        window = min(2 * window, MAX_WINDOW)
