"""Entries of a Delta log: their keys, and their actions by kind. Source: Delta protocol, "Delta Log Entries"."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from buffetstore.errors import CorruptLogError, NotFoundError
from buffetstore.objects.helpers import get_bytes
from buffetstore.resilience.concurrency import gather
from buffetstore.resilience.threads import in_thread
from buffetstore.tables.actions import AddFile, CdcFile, CommitInfo, Metadata, Protocol, RemoveFile, Txn, read_action

if TYPE_CHECKING:
    from collections.abc import Sequence

    from buffetstore.objects.base import ObjectMeta, ObjectStore

MEND = "restore the entry from a backup; versions before it can still be read"


def join(path: str, name: str) -> str:
    """Return the key of `name` in the table at `path`; an empty path is the root of the store."""
    return f"{path}/{name}" if path else name


def commit_key(path: str, version: int) -> str:
    """Return the key of the entry that makes `version`."""
    return join(path, f"_delta_log/{version:020}.json")


@dataclass(frozen=True, slots=True)
class Entry:
    """One commit, or several `compacted` into one: its last version and its actions by kind."""

    version: int
    info: CommitInfo | None = None
    protocol: Protocol | None = None
    metadata: Metadata | None = None
    adds: tuple[AddFile, ...] = ()
    removes: tuple[RemoveFile, ...] = ()
    txns: tuple[Txn, ...] = ()
    cdcs: tuple[CdcFile, ...] = ()
    compacted: bool = False

    @property
    def commit_id(self) -> str | None:
        """The unique id that the writer gave to this commit, if any."""
        return self.info.commit_id if self.info is not None else None


async def read_entries(store: ObjectStore, path: str, commits: Sequence[ObjectMeta]) -> list[Entry]:
    """Return the entries, read in parallel and parsed in a thread."""
    # Parsing holds the interpreter: several threads of it would be no quicker and starve the event loop.
    parsing = asyncio.Semaphore(1)

    async def read(meta: ObjectMeta) -> Entry:
        # `<version>.json`, or `<first>.<last>.compacted.json`
        name = meta.key.rsplit("/", 1)[-1].removesuffix(".json")
        version = int(name.removesuffix(".compacted").rpartition(".")[2])
        data = await get_bytes(store, meta.key)
        async with parsing:
            entry = await in_thread(parse_entry, data, path, version)
        return replace(entry, compacted=True) if name.endswith(".compacted") else entry

    return await gather([lambda meta=meta: read(meta) for meta in commits])  # type: ignore[misc]


async def read_entry(store: ObjectStore, path: str, version: int) -> Entry | None:
    """Return the entry of `version`, or None where there is none yet."""
    try:
        data = await get_bytes(store, commit_key(path, version))
    except NotFoundError:
        return None
    return await in_thread(parse_entry, data, path, version)


def parse_entry(data: bytes, path: str, version: int) -> Entry:
    """Return the actions of an entry.

    Raises
    ------
    CorruptLogError
        It is empty, cut off, or not JSON lines of actions.
    """
    found: dict[str, Any] = {"adds": [], "removes": [], "txns": [], "cdcs": []}
    number = 0
    try:
        for number, line in enumerate(data.splitlines(), 1):  # noqa: B007 - names the line in the error
            if line.strip():
                _sort_in(found, read_action(json.loads(line)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        key = commit_key(path, version)
        raise CorruptLogError(
            f"version {version} of table {path!r} cannot be read: line {number} of {key!r} is not an action: {error}; "
            f"{MEND}",
            key=key,
        ) from error
    if not number:
        key = commit_key(path, version)
        raise CorruptLogError(f"version {version} of table {path!r} is empty: {key!r} has no lines; {MEND}", key=key)
    found |= {name: tuple(found[name]) for name in ("adds", "removes", "txns", "cdcs")}
    return Entry(version, **found)


def _sort_in(found: dict[str, Any], action: Any) -> None:
    match action:
        case AddFile():
            found["adds"].append(action)
        case RemoveFile():
            found["removes"].append(action)
        case CdcFile():
            found["cdcs"].append(action)
        case Txn():
            found["txns"].append(action)
        case Protocol():
            found["protocol"] = action
        case Metadata():
            found["metadata"] = action
        case CommitInfo():
            found["info"] = action
