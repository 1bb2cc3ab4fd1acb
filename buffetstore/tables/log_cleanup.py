"""Deleting what of a log nobody needs any more. Source: Delta protocol, "Metadata Cleanup"."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

from buffetstore.errors import CorruptFileError, UnsupportedFeatureError
from buffetstore.tables.kept_history import keep_history
from buffetstore.tables.kept_times import kept_times
from buffetstore.tables.log import join
from buffetstore.tables.segment import list_log
from buffetstore.tables.time_travel import commit_times

if TYPE_CHECKING:
    from buffetstore.objects.base import ObjectStore
    from buffetstore.tables.kept_times import KeptTimes

# Whoever is slower than this with a commit finds out before it is acknowledged (see `Head`), whatever a table says.
LEAST_RETENTION = timedelta(days=1)
_ENTRY = re.compile(r"\d{20}\.json")
_VERSIONED = re.compile(r"\.?(\d{20})(?:\.(\d{20}))?\.(?:json|crc|json\.crc|compacted\.json|checkpoint\..+)")


async def clean_log(store: ObjectStore, path: str, retention: int, table_id: str) -> int:
    """Delete entries and checkpoints older than `retention` milliseconds; return how many objects went.

    What the commits said of themselves is kept first: see `kept_history`. Every version from the first that is kept on
    can still be read: deletion ends at a checkpoint. Time is the store's: the newest entry of the log is now.
    """
    listed = await list_log(store, path)
    if not listed.commits:
        return 0
    newest = max(meta.last_modified for meta in listed.commits.values())
    cutoff = newest - max(timedelta(milliseconds=retention), LEAST_RETENTION)
    kept = min((version for version, meta in listed.commits.items() if meta.last_modified >= cutoff), default=0)
    start = max((each.version for each in listed.checkpoints(kept) if each.last_modified < newest), default=None)
    if start is None:
        return 0
    ended = {
        version: meta for version, meta in listed.commits.items() if version < start and meta.last_modified < cutoff
    }
    if ended:
        times = commit_times(listed.commits, await _kept_times(store, path, table_id))
        await keep_history(store, path, table_id, ended, times)
    prefix = join(path, "_delta_log/")
    told = {meta.key for meta in ended.values()}
    gone = [
        meta.key
        async for meta in store.list_objects(prefix)
        if (found := _VERSIONED.fullmatch(meta.key[len(prefix) :])) is not None
        and int(found[2] or found[1]) < start
        and meta.last_modified < cutoff
        and (meta.key in told or not _ENTRY.fullmatch(meta.key[len(prefix) :]))
    ]
    if gone:
        await store.delete(gone)
    return len(gone)


async def _kept_times(store: ObjectStore, path: str, table_id: str) -> KeptTimes | None:
    try:
        return await kept_times(store, path, table_id)
    except (CorruptFileError, UnsupportedFeatureError):  # the log is cleaned all the same
        return None
