"""What a Delta log holds, and which of it has to be read for one version. Source: Delta protocol, "File Types"."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from buffetstore.errors import CorruptLogError, StorageError, TableNotFoundError, TableVersionNotFoundError
from buffetstore.objects.helpers import get_bytes
from buffetstore.tables.log import MEND, commit_key, join
from buffetstore.tables.row_group_index import HINT_TAG

if TYPE_CHECKING:
    from datetime import datetime

    from buffetstore.objects.base import ObjectMeta, ObjectStore

_COMMIT = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint(?:\.(\d{10})\.(\d{10}))?\.parquet")
_UUID_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\.([0-9a-f-]{36})\.(?:json|parquet)")
_COMPACTED = re.compile(r"(\d{20})\.(\d{20})\.compacted\.json")
_LIST_CHECK = 500
_AFTER_VERSIONS = ":"  # the character after the digits, in the order of a listing


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The parts of a complete checkpoint."""

    version: int
    keys: tuple[str, ...]
    last_modified: datetime


@dataclass(frozen=True, slots=True)
class Segment:
    """What has to be read for one version: a checkpoint, where there is one, and what was committed after it.

    `entries` are commits, and compacted files that stand for several; the last one is always the version's own commit.
    `row_groups` is the name of the index of row groups that `_last_checkpoint` tells.
    """

    version: int
    checkpoint: Checkpoint | None
    entries: tuple[ObjectMeta, ...]
    latest: int
    row_groups: str | None = None


@dataclass(slots=True)
class Listed:
    """What a listing of the log found: commits by version, checkpoints and compacted entries."""

    commits: dict[int, ObjectMeta] = field(default_factory=dict)
    parts: dict[tuple[int, int, str], dict[int, ObjectMeta]] = field(default_factory=dict)
    compacted: dict[int, dict[int, ObjectMeta]] = field(default_factory=dict)

    def add(self, meta: ObjectMeta, name: str) -> int | None:
        """Take in an object of the log; return its version, None where it has none."""
        if (found := _COMMIT.fullmatch(name)) is not None:
            self.commits[int(found[1])] = meta
        elif (found := _CHECKPOINT.fullmatch(name)) is not None:
            part, parts = int(found[2] or 1), int(found[3] or 1)
            self.parts.setdefault((int(found[1]), parts, ""), {})[part] = meta
        elif (found := _UUID_CHECKPOINT.fullmatch(name)) is not None:
            self.parts[(int(found[1]), 1, found[2])] = {1: meta}
        elif (found := _COMPACTED.fullmatch(name)) is not None:
            self.compacted.setdefault(int(found[1]), {})[int(found[2])] = meta
        return int(found[1]) if found is not None else None

    def checkpoints(self, until: int) -> list[Checkpoint]:
        """Return the complete ones, oldest first."""
        return [
            Checkpoint(version, tuple(held[part].key for part in sorted(held)), held[1].last_modified)
            for (version, parts, _), held in sorted(self.parts.items())
            if version <= until and sorted(held) == list(range(1, parts + 1))
        ]

    def entries(self, first: int, last: int) -> tuple[ObjectMeta, ...]:
        """Return what makes `last` of the version before `first`, in as few files as there are for it."""
        found, at = [], first
        while at <= last:
            end = max((each for each in self.compacted.get(at, ()) if each < last), default=None)
            found.append(self.commits[at] if end is None else self.compacted[at][end])
            at = (at if end is None else end) + 1
        return tuple(found)


@dataclass(frozen=True, slots=True)
class _Answer:
    """A listing of the log, from version `skipped` on, and what `_last_checkpoint` names: a version and an index."""

    listed: Listed
    skipped: int | None = None
    hinted: int | None = None
    row_groups: str | None = None


async def list_log(store: ObjectStore, path: str) -> Listed:
    """Return everything that is in the log still."""
    return (await _list(store, path, use_hint=False)).listed


async def find_segment(store: ObjectStore, path: str, version: int | None = None) -> Segment:
    """Return what to read for the latest version, or for `version`.

    `_last_checkpoint` is read while the log is being listed; a long listing starts again at its hint.

    Raises
    ------
    TableNotFoundError, TableVersionNotFoundError, CorruptLogError
    """
    found = await _list(store, path)
    hinted = found.hinted if version is None else None
    if not found.listed.commits and not found.listed.parts and found.skipped is not None:
        found = await _list(store, path, use_hint=False)  # the hint pointed past everything
    try:
        segment = await _from(found, store, path, version)
        if hinted is not None and segment.latest < hinted:  # unless the checkpoint was written after the listing
            segment = _segment(await list_log(store, path), path, version)
            _refuse_lost(segment, hinted, path)
    except TableNotFoundError:
        raise TableNotFoundError(
            f"there is no Delta table at {path!r} in {store.url}: {await _beside(store, path)}", key=path
        ) from None
    return replace(segment, row_groups=found.row_groups)


async def _from(found: _Answer, store: ObjectStore, path: str, version: int | None) -> Segment:
    try:
        return _segment(found.listed, path, version)
    except (TableVersionNotFoundError, CorruptLogError):
        if found.skipped is None:
            raise
        return _segment(await list_log(store, path), path, version)  # an older version, or a hint that is wrong


def _refuse_lost(segment: Segment, hinted: int, path: str) -> None:
    if segment.latest >= hinted:
        return
    key = commit_key(path, segment.latest + 1)
    raise CorruptLogError(
        f"the log of table {path!r} ends at version {segment.latest}, but `_last_checkpoint` names the checkpoint of "
        f"version {hinted}: what came after {segment.latest} has been deleted, from {key!r} on; restore it from a "
        f"backup, or read version {segment.latest}, or delete `_last_checkpoint` to go on from there",
        key=key,
    )


async def _list(store: ObjectStore, path: str, *, use_hint: bool = True) -> _Answer:
    prefix = join(path, "_delta_log/")
    hint = asyncio.ensure_future(_last_checkpoint(store, path)) if use_hint else None
    listed, after, skipped = Listed(), "", None
    try:
        restart = True
        while restart:
            restart, seen = False, 0
            async for meta in store.list_objects(prefix, after=after):
                name = meta.key[len(prefix) :]
                if name > _AFTER_VERSIONS:
                    break  # sidecars and others, of which there may be many
                found = listed.add(meta, name)
                seen += 1
                if seen % _LIST_CHECK or hint is None or not hint.done() or skipped is not None:
                    continue
                if (start := hint.result()[0]) is not None and found is not None and found < start - _LIST_CHECK:
                    listed, after, skipped, restart = Listed(), f"{prefix}{start:020}", start, True
                    break
        return _Answer(listed, skipped, *((None, None) if hint is None else await hint))
    finally:
        if hint is not None:
            hint.cancel()
            await asyncio.gather(hint, return_exceptions=True)


async def _last_checkpoint(store: ObjectStore, path: str) -> tuple[int | None, str | None]:
    """Return the version and the index of row groups that `_last_checkpoint` names.

    It is a hint, so whatever is wrong with it does not matter.
    """
    try:
        held = json.loads(await get_bytes(store, join(path, "_delta_log/_last_checkpoint")))
    except (StorageError, ValueError):
        return None, None
    held = held if isinstance(held, dict) else {}
    version, tags = held.get("version"), held.get("tags")
    name = tags.get(HINT_TAG) if isinstance(tags, dict) else None
    return version if isinstance(version, int) else None, name if isinstance(name, str) else None


def _segment(listed: Listed, path: str, version: int | None) -> Segment:
    versions = [*listed.commits, *(each for each, *_ in listed.parts)]
    if not versions:
        raise TableNotFoundError(f"there is no Delta table at {path!r}", key=path)
    latest = max(versions)
    wanted = latest if version is None else version
    checkpoints = listed.checkpoints(wanted)
    checkpoint = checkpoints[-1] if checkpoints else None
    first = checkpoint.version + 1 if checkpoint is not None else 0
    missing = next((each for each in range(first, wanted + 1) if each not in listed.commits), None)
    if 0 <= wanted <= latest and missing is None:
        return Segment(wanted, checkpoint, listed.entries(first, wanted), latest)
    oldest = _oldest(listed)
    if version is not None and (oldest is None or not oldest <= version <= latest):
        held = f"versions {oldest} to {latest}" if oldest is not None else "no version that can be read"
        raise TableVersionNotFoundError(f"table {path!r} has no version {version}: there are {held}", key=path)
    raise CorruptLogError(
        f"the log of table {path!r} has a gap: entry {missing} is missing at {commit_key(path, missing or 0)!r}, "
        f"the latest is {latest}; {MEND}",
        key=commit_key(path, missing or 0),
    )


def _oldest(listed: Listed) -> int | None:
    """Return the oldest version that can be rebuilt."""
    starts = [checkpoint.version for checkpoint in listed.checkpoints(2**63)]
    return 0 if 0 in listed.commits else min(starts, default=None)


async def _beside(store: ObjectStore, path: str) -> str:
    parent = path.rpartition("/")[0]
    listing = await store.list_prefixes(f"{parent}/" if parent else "")
    names = [prefix.rstrip("/").rpartition("/")[2] for prefix in listing.prefixes]
    where = repr(f"{parent}/") if parent else "the root"
    return f"under {where} there are {', '.join(names[:20])}" if names else f"under {where} there is nothing"
