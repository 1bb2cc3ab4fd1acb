"""Deleting what of a log nobody needs any more. Source: Delta protocol, "Metadata Cleanup"."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

from buffetstore.tables.log import join
from buffetstore.tables.segment import list_log

if TYPE_CHECKING:
    from buffetstore.objects.base import ObjectStore

# Whoever is slower than this with a commit finds out before it is acknowledged (see `Head`), whatever a table says.
LEAST_RETENTION = timedelta(days=1)
_VERSIONED = re.compile(r"\.?(\d{20})(?:\.(\d{20}))?\.(?:json|crc|json\.crc|compacted\.json|checkpoint\..+)")


async def clean_log(store: ObjectStore, path: str, retention: int) -> int:
    """Delete entries and checkpoints older than `retention` milliseconds; return how many objects went.

    Every version from the first that is kept on can still be read: deletion ends at a checkpoint. Time is the store's:
    the newest entry of the log is now.
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
    prefix = join(path, "_delta_log/")
    gone = [
        meta.key
        async for meta in store.list_objects(prefix)
        if (found := _VERSIONED.fullmatch(meta.key[len(prefix) :])) is not None
        and int(found[2] or found[1]) < start
        and meta.last_modified < cutoff
    ]
    if gone:
        await store.delete(gone)
    return len(gone)
