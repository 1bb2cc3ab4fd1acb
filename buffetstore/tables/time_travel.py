"""Which version was the latest at a moment. Source: Delta protocol, "In-Commit Timestamps"."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from buffetstore.errors import CorruptLogError, InvalidInputError, TableNotFoundError, TableVersionNotFoundError
from buffetstore.tables.kept_times import KeptTimes, kept_times
from buffetstore.tables.log import read_entry
from buffetstore.tables.segment import list_log

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buffetstore.objects.base import ObjectMeta, ObjectStore

_LEAST_STEP = timedelta(milliseconds=1)


async def version_at(store: ObjectStore, path: str, moment: datetime, kept: KeptTimes | None = None) -> int:
    """Return the last version that was committed at `moment` or before.

    Where the newest commit has an in-commit timestamp, some ten of such stamps are read, by bisection. Else the times
    that were `kept` count, and for other versions the store's modification times of the log's entries, each at least a
    millisecond after the one before.

    Raises
    ------
    TableNotFoundError
    TableVersionNotFoundError
        `moment` is before the oldest commit that the log still has.
    InvalidInputError
        `moment` has no zone.
    """
    if moment.tzinfo is None:
        raise InvalidInputError(
            f"timestamp {moment.isoformat()} has no zone: say whose time it is, e.g. with tzinfo=UTC"
        )
    commits = (await list_log(store, path)).commits
    if not commits:
        raise TableNotFoundError(f"there is no Delta table at {path!r}", key=path)
    versions, stamps = sorted(commits), commit_times(commits, kept)
    if await _committed(store, path, versions[-1]) is None:
        found = [version for version in versions if stamps[version] <= moment]
        first = stamps[versions[0]]
    else:
        found = [
            version for version in (await _bisected(store, path, versions, stamps, moment),) if version is not None
        ]
        first = await _committed(store, path, versions[0]) or stamps[versions[0]]
    if not found:
        raise TableVersionNotFoundError(
            f"table {path!r} had no version at {moment.isoformat()} that can still be read: the oldest entry of its "
            f"log, version {versions[0]}, is of {first.isoformat()}",
            key=path,
        )
    return found[-1]


async def committed_times(store: ObjectStore, path: str, table_id: str) -> dict[int, datetime]:
    """Return when each version was committed: as was kept of this table, else when its entry was written."""
    kept = asyncio.ensure_future(kept_times(store, path, table_id))
    try:
        commits = (await list_log(store, path)).commits
        return commit_times(commits, await kept)
    finally:
        kept.cancel()
        await asyncio.gather(kept, return_exceptions=True)


def commit_times(commits: Mapping[int, ObjectMeta], kept: KeptTimes | None = None) -> dict[int, datetime]:
    """Return when versions were committed: as was kept, else when their entries were written.

    Each is at least a millisecond after the one before, except that what was kept stays as it is: entries of older
    versions that were written later, as those of a copy are, were committed before.
    """
    known = kept.times if kept is not None else {}
    stamps: dict[int, datetime] = {}
    following = datetime.max.replace(tzinfo=UTC)
    for version in sorted(commits, reverse=True):
        if version in known:
            following = stamps[version] = known[version]
        elif following < commits[version].last_modified + _LEAST_STEP:
            following = stamps[version] = following - _LEAST_STEP
        else:
            stamps[version] = commits[version].last_modified
    last = datetime.min.replace(tzinfo=UTC)
    for version in sorted(commits):
        last = stamps[version] = stamps[version] if version in known else max(stamps[version], last + _LEAST_STEP)
    return {version: stamps[version] for version in sorted(stamps)}


async def _committed(store: ObjectStore, path: str, version: int) -> datetime | None:
    """Return the in-commit timestamp of a version, None where it has none."""
    entry = await read_entry(store, path, version)
    if entry is None:
        raise CorruptLogError(f"the log of table {path!r} lists version {version}, which is not there", key=path)
    milliseconds = entry.info.in_commit_timestamp if entry.info is not None else None
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)


async def _bisected(
    store: ObjectStore, path: str, versions: list[int], stamps: Mapping[int, datetime], moment: datetime
) -> int | None:
    low, high = 0, len(versions)  # those before `low` are early enough, those from `high` on are too late
    while low < high:
        middle = (low + high) // 2
        version = versions[middle]
        if (await _committed(store, path, version) or stamps[version]) <= moment:
            low = middle + 1
        else:
            high = middle
    return versions[low - 1] if low else None
