"""The row-group index as an object of the store: read beside a checkpoint, written before one."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import CorruptFileError, NotFoundError, StorageError
from buffetstore.objects.base import Attributes
from buffetstore.objects.helpers import get_bytes
from buffetstore.resilience.concurrency import gather, unhurried
from buffetstore.resilience.threads import in_thread
from buffetstore.tables.file_table import listed
from buffetstore.tables.log import join
from buffetstore.tables.row_group_index import (
    FOLDER,
    MOST_BYTES,
    NO_ROW_GROUPS,
    RowGroupIndex,
    index_of,
    parsed,
    raw_footer,
    rendered,
    unreadable,
)
from buffetstore.tables.row_groups import WHOLE_BYTES, StoreSource

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from buffetstore.objects.base import ObjectStore
    from buffetstore.tables.snapshot import Snapshot

_ARROW: Final = Attributes(content_type="application/vnd.apache.arrow.stream")
_NAME: Final = re.compile(r"\d{20}-[0-9a-f]{16}\.arrow")
_LEAST_FOOTER: Final = 2048  # bytes: more files than this lets in are not looked at
_KEPT: Final = timedelta(days=1)  # of indexes that a reader may have been told of
_AT_ONCE: Final = 16  # footers read in the background
_MOST_READ: Final = 256  # of them for one index


async def load_row_groups(store: ObjectStore, path: str, name: str | None) -> RowGroupIndex:
    """Return the index of this name; whatever is wrong with it is no error, but its `fault`."""
    if name is None or not _NAME.fullmatch(name):
        return NO_ROW_GROUPS
    try:
        data = await get_bytes(store, join(path, f"{FOLDER}{name}"))
    except StorageError as error:
        return unreadable(name, error)
    return await in_thread(parsed, data, name)


async def unindexed(snapshot: Snapshot) -> int:
    """Return of how many large files the footer is not known."""
    files = await listed(_large(snapshot))
    return await in_thread(lambda: sum(raw_footer(snapshot.row_groups, file) is None for file in files))


async def write_row_groups(store: ObjectStore, snapshot: Snapshot, known: RowGroupIndex) -> RowGroupIndex:
    """Write the index of a snapshot and return it; `known` itself where it has the same files, or there are none.

    The footers that neither `known` nor the log tell are read.
    """
    large = _large(snapshot)
    same = known.name is not None and known.table_id == snapshot.metadata.id
    if same and known.entries.num_rows == large.num_rows and pc.all(pc.is_in(large["path"], known.paths)).as_py():
        return known
    if not large.num_rows:
        return NO_ROW_GROUPS
    footers = await _footers(store, snapshot.path, await listed(large), known if same else NO_ROW_GROUPS)
    name = f"{snapshot.version:020}-{secrets.token_hex(8)}.arrow"
    index = await in_thread(index_of, footers, snapshot.metadata.id, snapshot.version, name)
    key = join(snapshot.path, f"{FOLDER}{name}")
    await unhurried(store.put(key, await in_thread(rendered, index), attributes=_ARROW))
    await _clean(store, snapshot.path, name)
    return index


def _large(snapshot: Snapshot) -> pa.Table:
    """Return the files that are not read whole, the largest first, as far as their footers have room."""
    files = snapshot.files.filter(pc.greater(snapshot.files["size"], WHOLE_BYTES))
    order = pc.sort_indices(files, sort_keys=[("size", "descending"), ("path", "ascending")])
    return files.take(order.slice(0, MOST_BYTES // _LEAST_FOOTER))


async def _footers(
    store: ObjectStore, path: str, files: Sequence[Mapping[str, Any]], known: RowGroupIndex
) -> list[tuple[str, int, bytes]]:
    """Return path, size and footer of the files; of those that are not known some are read, the rest another time."""
    told = await in_thread(lambda: [raw_footer(known, file) for file in files])
    is_full = sum(len(raw) for raw in told if raw is not None) >= MOST_BYTES
    asked = [] if is_full else [at for at, raw in enumerate(told) if raw is None][:_MOST_READ]
    calls = [partial(_read, store, join(path, files[at]["path"]), files[at]["size"]) for at in asked]
    for at, raw in zip(asked, await gather(calls, limit=_AT_ONCE), strict=True):
        told[at] = raw
    return [(file["path"], file["size"], raw) for file, raw in zip(files, told, strict=True) if raw is not None]


async def _read(store: ObjectStore, key: str, size: int) -> bytes | None:
    try:
        return await StoreSource(store).raw_footer(key, size)
    except (NotFoundError, CorruptFileError):
        return None  # whoever reads the file is told


async def _clean(store: ObjectStore, path: str, newest: str) -> None:
    """Delete indexes that nobody is told of any more."""
    prefix = join(path, FOLDER)
    oldest = datetime.now(UTC) - _KEPT
    gone = [
        meta.key
        async for meta in store.list_objects(prefix)
        if meta.key[len(prefix) :] < newest and meta.last_modified < oldest
    ]
    if gone:
        await store.delete(gone)
