"""Keeping when versions were committed, so that a copy of a table answers by timestamp as the table does.

The store's modification times of the log's entries say when versions were committed, and a copy has its own. What they
were is kept beside the copy: see `buffetstore.tables.kept_times`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from buffetstore.errors import (
    AlreadyExistsError,
    ConflictError,
    PreconditionFailedError,
    StorageError,
    TableNotFoundError,
    UnsupportedFeatureError,
)
from buffetstore.objects.base import CREATE, OVERWRITE, Attributes, Update
from buffetstore.objects.copy_store import CopyFailure, copy_store
from buffetstore.resilience.concurrency import gather
from buffetstore.resilience.threads import in_thread
from buffetstore.tables.kept_times import COMMIT_TIMES, KeptTimes, kept_times, rendered
from buffetstore.tables.load import load
from buffetstore.tables.log import join
from buffetstore.tables.segment import list_log
from buffetstore.tables.time_travel import commit_times

if TYPE_CHECKING:
    from datetime import datetime

    from buffetstore.objects.base import ObjectStore, PutMode
    from buffetstore.objects.copy_store import CopyReport

_ATTEMPTS = 16
_TABLES = 4  # at a time
_JSON = Attributes(content_type="application/json")


async def keep_commit_times(store: ObjectStore, path: str, *, of: ObjectStore | None = None) -> int:
    """Write down when the versions of a table were committed, or add to what is written; return how many are known.

    Parameters
    ----------
    of:
        The store that the table was copied from: what it says of versions that both have is kept. By default what the
        table's own log says.

    Raises
    ------
    TableNotFoundError
        There is no table at `path`.
    ConflictError
        There is another table at `path` in `of`; or others wrote at the same time, again and again.
    CorruptFileError
        What is written already is damaged.
    """
    table_id = (await load(store, path)).metadata.id
    told = await _times(of or store, path, table_id)
    key = join(path, COMMIT_TIMES)
    for _ in range(_ATTEMPTS):
        there = await kept_times(store, path)
        commits = (await list_log(store, path)).commits
        before = there.times if there is not None and there.table_id == table_id else {}
        # What has been cleaned out of the log cannot be asked for any more.
        times = {version: at for version, at in {**before, **told}.items() if version in commits}
        if times == before:
            return len(times)
        mode = CREATE if there is None else Update(there.etag or "")
        try:
            await store.put(
                key, await in_thread(rendered, KeptTimes(table_id, times)), mode=_kept(store, mode), attributes=_JSON
            )
        except (AlreadyExistsError, PreconditionFailedError):
            continue
        return len(times)
    raise ConflictError(f"{key!r} was written by others {_ATTEMPTS} times meanwhile; try again", key=key)


async def copy_tables(source: ObjectStore, target: ObjectStore, prefix: str = "", **how: Any) -> CopyReport:
    """Do as `copy_store` does, whose arguments it takes, and keep when the tables' versions were committed.

    Afterwards each table that was copied answers by timestamp as at its source.
    """
    report = await copy_store(source, target, prefix, **how)
    failures: list[CopyFailure] = []

    async def keep(root: str) -> None:
        path = root.rstrip("/")
        try:
            await keep_commit_times(target, path, of=source)
        except (TableNotFoundError, UnsupportedFeatureError):
            return  # a part of its log was asked for, or nothing here can open it at any time
        except StorageError as error:
            failures.append(CopyFailure(join(path, COMMIT_TIMES), error))

    failed = {failure.key for failure in report.failed}
    roots = [root for root in report.tables if not any(key.startswith(f"{root}_delta_log/") for key in failed)]
    await gather([partial(keep, root) for root in roots], limit=_TABLES)
    return replace(report, failed=(*report.failed, *failures))


async def _times(store: ObjectStore, path: str, table_id: str) -> dict[int, datetime]:
    if (there := (await load(store, path)).metadata.id) != table_id:
        raise ConflictError(
            f"the table at {path!r} in {store.url} is another one, {there}: its commits are not those of {table_id}",
            key=path,
        )
    return commit_times((await list_log(store, path)).commits, await kept_times(store, path, table_id))


def _kept(store: ObjectStore, mode: PutMode) -> PutMode:
    """Return the mode where the store keeps it: what is written is the same whoever writes it."""
    can = store.capabilities
    return mode if (can.conditional_create if mode == CREATE else can.conditional_update) else OVERWRITE
