"""The log of a Delta table: which entries there are, and reading them. Source: Delta protocol, "File Types"."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from buffetstore.errors import CorruptLogError, NotFoundError, TableNotFoundError, TableVersionNotFoundError
from buffetstore.objects.helpers import get_bytes
from buffetstore.resilience.concurrency import gather
from buffetstore.resilience.threads import in_thread
from buffetstore.tables.actions import AddFile, CommitInfo, Metadata, Protocol, RemoveFile, Txn, read_action

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from buffetstore.objects.base import ObjectMeta, ObjectStore

_MEND = "restore the entry from a backup; versions before it can still be read"
_COMMIT = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint(?:\.(\d{10})\.(\d{10}))?\.parquet")
_UUID_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\.[0-9a-f-]{36}\.(?:json|parquet)")
_LIST_CHECK = 500


def join(path: str, name: str) -> str:
    """Return the key of `name` in the table at `path`; an empty path is the root of the store."""
    return f"{path}/{name}" if path else name


def commit_key(path: str, version: int) -> str:
    """Return the key of the entry that makes `version`."""
    return join(path, f"_delta_log/{version:020}.json")


@dataclass(frozen=True, slots=True)
class Entry:
    """One commit: its version and its actions by kind."""

    version: int
    info: CommitInfo | None = None
    protocol: Protocol | None = None
    metadata: Metadata | None = None
    adds: tuple[AddFile, ...] = ()
    removes: tuple[RemoveFile, ...] = ()
    txns: tuple[Txn, ...] = ()

    @property
    def commit_id(self) -> str | None:
        """The unique id that the writer gave to this commit, if any."""
        return self.info.commit_id if self.info is not None else None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The parts of a complete checkpoint."""

    version: int
    keys: tuple[str, ...]
    last_modified: datetime


@dataclass(frozen=True, slots=True)
class Segment:
    """What has to be read for one version: a checkpoint, where there is one, and the commits after it."""

    version: int
    checkpoint: Checkpoint | None
    commits: tuple[ObjectMeta, ...]
    latest: int


@dataclass(slots=True)
class _Listed:
    commits: dict[int, ObjectMeta] = field(default_factory=dict)
    parts: dict[tuple[int, int], dict[int, ObjectMeta]] = field(default_factory=dict)
    uuid_checkpoints: list[int] = field(default_factory=list)

    def add(self, meta: ObjectMeta) -> int | None:
        name = meta.key.rsplit("/", 1)[-1]
        if (found := _COMMIT.fullmatch(name)) is not None:
            self.commits[int(found[1])] = meta
        elif (found := _CHECKPOINT.fullmatch(name)) is not None:
            part, parts = int(found[2] or 1), int(found[3] or 1)
            self.parts.setdefault((int(found[1]), parts), {})[part] = meta
        elif (found := _UUID_CHECKPOINT.fullmatch(name)) is not None:
            self.uuid_checkpoints.append(int(found[1]))
        return int(found[1]) if found is not None else None

    def checkpoints(self, until: int) -> list[Checkpoint]:
        """Return the complete ones, oldest first."""
        return [
            Checkpoint(version, tuple(held[part].key for part in sorted(held)), held[1].last_modified)
            for (version, parts), held in sorted(self.parts.items())
            if version <= until and sorted(held) == list(range(1, parts + 1))
        ]


async def find_segment(store: ObjectStore, path: str, version: int | None = None) -> Segment:
    """Return what to read for the latest version, or for `version`.

    `_last_checkpoint` is read while the log is being listed; a long listing starts again at its hint.

    Raises
    ------
    TableNotFoundError, TableVersionNotFoundError, CorruptLogError
    """
    listed, hinted = await _list(store, path)
    if not listed.commits and not listed.parts and hinted is not None:
        listed, hinted = await _list(store, path, use_hint=False)  # the hint pointed past everything
    try:
        return _segment(listed, path, version)
    except (TableVersionNotFoundError, CorruptLogError):
        if hinted is None:
            raise
        listed, _ = await _list(store, path, use_hint=False)  # an older version, or a hint that is wrong
        return _segment(listed, path, version)
    except TableNotFoundError:
        raise TableNotFoundError(
            f"there is no Delta table at {path!r} in {store.url}: {await _beside(store, path)}", key=path
        ) from None


async def _list(store: ObjectStore, path: str, *, use_hint: bool = True) -> tuple[_Listed, int | None]:
    prefix = join(path, "_delta_log/")
    hint = asyncio.ensure_future(_last_checkpoint(store, path)) if use_hint else None
    listed, after, skipped = _Listed(), "", None
    try:
        restart = True
        while restart:
            restart, seen = False, 0
            async for meta in store.list_objects(prefix, after=after):
                found = listed.add(meta)
                seen += 1
                if seen % _LIST_CHECK or hint is None or not hint.done() or skipped is not None:
                    continue
                if (start := hint.result()) is not None and found is not None and found < start - _LIST_CHECK:
                    listed, after, skipped, restart = _Listed(), f"{prefix}{start:020}", start, True
                    break
        return listed, skipped
    finally:
        if hint is not None:
            hint.cancel()
            await asyncio.gather(hint, return_exceptions=True)


async def _last_checkpoint(store: ObjectStore, path: str) -> int | None:
    """Return the version that `_last_checkpoint` names; it is a hint, so whatever is wrong with it does not matter."""
    try:
        held = json.loads(await get_bytes(store, join(path, "_delta_log/_last_checkpoint")))
    except (NotFoundError, ValueError):
        return None
    version = held.get("version") if isinstance(held, dict) else None
    return version if isinstance(version, int) else None


def _segment(listed: _Listed, path: str, version: int | None) -> Segment:
    versions = [*listed.commits, *(each for each, _ in listed.parts)]
    if not versions:
        raise TableNotFoundError(f"there is no Delta table at {path!r}", key=path)
    latest = max(versions)
    wanted = latest if version is None else version
    checkpoints = listed.checkpoints(wanted)
    checkpoint = checkpoints[-1] if checkpoints else None
    first = checkpoint.version + 1 if checkpoint is not None else 0
    missing = next((each for each in range(first, wanted + 1) if each not in listed.commits), None)
    if 0 <= wanted <= latest and missing is None:
        commits = tuple(listed.commits[each] for each in range(first, wanted + 1))
        return Segment(wanted, checkpoint, commits, latest)
    oldest = _oldest(listed)
    if version is not None and (oldest is None or not oldest <= version <= latest):
        held = f"versions {oldest} to {latest}" if oldest is not None else "no version that can be read"
        raise TableVersionNotFoundError(f"table {path!r} has no version {version}: there are {held}", key=path)
    v2 = f" (version {listed.uuid_checkpoints[-1]} has a v2Checkpoint)" if listed.uuid_checkpoints else ""
    raise CorruptLogError(
        f"the log of table {path!r} has a gap: entry {missing} is missing at {commit_key(path, missing or 0)!r}, "
        f"the latest is {latest}{v2}; {_MEND}",
        key=commit_key(path, missing or 0),
    )


def _oldest(listed: _Listed) -> int | None:
    """Return the oldest version that can be rebuilt."""
    starts = [checkpoint.version for checkpoint in listed.checkpoints(2**63)]
    return 0 if 0 in listed.commits else min(starts, default=None)


async def _beside(store: ObjectStore, path: str) -> str:
    parent = path.rpartition("/")[0]
    listing = await store.list_prefixes(f"{parent}/" if parent else "")
    names = [prefix.rstrip("/").rpartition("/")[2] for prefix in listing.prefixes]
    where = repr(f"{parent}/") if parent else "the root"
    return f"under {where} there are {', '.join(names[:20])}" if names else f"under {where} there is nothing"


async def read_entries(store: ObjectStore, path: str, commits: Sequence[ObjectMeta]) -> list[Entry]:
    """Return the entries, read in parallel and parsed in a thread."""
    # Parsing holds the interpreter: several threads of it would be no quicker and starve the event loop.
    parsing = asyncio.Semaphore(1)

    async def read(meta: ObjectMeta) -> Entry:
        version = int(meta.key.rsplit("/", 1)[-1].removesuffix(".json"))
        data = await get_bytes(store, meta.key)
        async with parsing:
            return await in_thread(parse_entry, data, path, version)

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
    found: dict[str, Any] = {"adds": [], "removes": [], "txns": []}
    number = 0
    try:
        for number, line in enumerate(data.splitlines(), 1):  # noqa: B007 - names the line in the error
            if line.strip():
                _sort_in(found, read_action(json.loads(line)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        key = commit_key(path, version)
        raise CorruptLogError(
            f"version {version} of table {path!r} cannot be read: line {number} of {key!r} is not an action: {error}; "
            f"{_MEND}",
            key=key,
        ) from error
    if not number:
        key = commit_key(path, version)
        raise CorruptLogError(f"version {version} of table {path!r} is empty: {key!r} has no lines; {_MEND}", key=key)
    found |= {name: tuple(found[name]) for name in ("adds", "removes", "txns")}
    return Entry(version, **found)


def _sort_in(found: dict[str, Any], action: Any) -> None:
    match action:
        case AddFile():
            found["adds"].append(action)
        case RemoveFile():
            found["removes"].append(action)
        case Txn():
            found["txns"].append(action)
        case Protocol():
            found["protocol"] = action
        case Metadata():
            found["metadata"] = action
        case CommitInfo():
            found["info"] = action
