"""Entries of a Delta log: their keys, and their actions by kind. Source: Delta protocol, "Delta Log Entries"."""

from __future__ import annotations

import json
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from buffetstore.errors import CorruptLogError, NotFoundError
from buffetstore.objects.helpers import get_bytes
from buffetstore.resilience.concurrency import BYTES_IN_FLIGHT, ordered, ordered_from
from buffetstore.resilience.threads import in_thread
from buffetstore.tables.actions import AddFile, CdcFile, CommitInfo, Metadata, Protocol, RemoveFile, Txn, read_action
from buffetstore.tables.log_lines import find, parse

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence

    from buffetstore.objects.base import ObjectMeta, ObjectStore
    from buffetstore.tables.log_lines import Parsed

_GROUP = 4 * 1024 * 1024  # bytes of log that are parsed together
_PARSED_AT_ONCE = 2  # groups
_LARGE = 64 * 1024  # bytes from which on columns are worth their fixed cost
_NOT_AN_ACTION = (ValueError, KeyError, TypeError, AttributeError)
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
    adds: Sequence[AddFile] = ()
    removes: Sequence[RemoveFile] = ()
    txns: tuple[Txn, ...] = ()
    cdcs: tuple[CdcFile, ...] = ()
    compacted: bool = False

    @property
    def commit_id(self) -> str | None:
        """The unique id that the writer gave to this commit, if any."""
        return self.info.commit_id if self.info is not None else None


async def read_entries(store: ObjectStore, path: str, commits: Sequence[ObjectMeta]) -> list[Entry]:
    """Return the entries, read in parallel, and parsed some megabytes at a time in a thread while others are read."""
    entries: list[Entry] = []
    async with aclosing(ordered_from(_groups(store, path, commits), limit=_PARSED_AT_ONCE)) as groups:
        async for parsed in groups:
            entries += parsed
    return entries


async def _groups(
    store: ObjectStore, path: str, commits: Sequence[ObjectMeta]
) -> AsyncGenerator[tuple[Callable[[], Awaitable[list[Entry]]], int], None]:
    """Yield what parses the next entries, and how many bytes they are."""
    calls = [partial(get_bytes, store, meta.key) for meta in commits]
    read = ordered(calls, [meta.size for meta in commits], bytes_in_flight=BYTES_IN_FLIGHT // 8)
    group: list[bytes] = []
    size = done = 0
    async with aclosing(read):
        async for data in read:
            group.append(data)
            size += len(data)
            done += 1
            if size >= _GROUP or done == len(commits):
                yield partial(in_thread, _parsed, group, path, commits[done - len(group) : done]), size
                group, size = [], 0


def _parsed(group: Sequence[bytes], path: str, commits: Sequence[ObjectMeta]) -> list[Entry]:
    # `<version>.json`, or `<first>.<last>.compacted.json`
    names = [meta.key.rsplit("/", 1)[-1].removesuffix(".json") for meta in commits]
    versions = [int(name.removesuffix(".compacted").rpartition(".")[2]) for name in names]
    entries = zip(parse_entries(group, path, versions), names, strict=True)
    return [replace(entry, compacted=True) if name.endswith(".compacted") else entry for entry, name in entries]


async def read_entry(store: ObjectStore, path: str, version: int) -> Entry | None:
    """Return the entry of `version`, or None where there is none yet."""
    try:
        data = await get_bytes(store, commit_key(path, version))
    except NotFoundError:
        return None
    return await in_thread(parse_entry, data, path, version)


def parse_entries(entries: Sequence[bytes], path: str, versions: Sequence[int]) -> list[Entry]:
    """Return the actions of entries: of large ones all file actions at once, as columns.

    Raises
    ------
    CorruptLogError
        As `parse_entry`.
    """
    parsed = parse(entries) if sum(map(len, entries)) >= _LARGE else None
    if parsed is None:
        if len(entries) > 1:  # one may be unusual, or several differ in their columns
            return [parse_entry(data, path, version) for data, version in zip(entries, versions, strict=True)]
        return [_by_line(data, path, version) for data, version in zip(entries, versions, strict=True)]
    return [
        _with_columns(part, version) or _by_line(data, path, version)
        for data, version, part in zip(entries, versions, parsed, strict=True)
    ]


def parse_entry(data: bytes, path: str, version: int) -> Entry:
    """Return the actions of an entry.

    Raises
    ------
    CorruptLogError
        It is empty, cut off, or not JSON lines of actions.
    """
    return parse_entries([data], path, [version])[0]


def commit_info(data: bytes) -> dict[str, Any] | None:
    """Return the body of an entry's `commitInfo`, None where it has none; other lines are not looked at.

    Raises
    ------
    ValueError, AttributeError
        The line is damaged.
    """
    bodies = (json.loads(line).get("commitInfo") for line in _lines_with(data, b'"commitInfo"'))
    return next((body for body in bodies if body is not None), None)


def _lines_with(data: bytes, text: bytes) -> Iterator[bytes]:
    """Yield the lines that have the text in them; the others, of which there may be many, are not made."""
    at = find(data, text, 0, len(data))
    while at >= 0:
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end
        yield data[data.rfind(b"\n", 0, at) + 1 : end]
        at = find(data, text, end, len(data))


def _with_columns(parsed: Parsed, version: int) -> Entry | None:
    found = _nothing()
    try:
        for line in parsed.others:
            _sort_in(found, read_action(json.loads(line)))
    except _NOT_AN_ACTION:
        return None
    if found["adds"] or found["removes"] or found["cdcs"]:
        return None  # written in an unusual form
    columns = {"adds": parsed.adds, "removes": parsed.removes, "cdcs": parsed.cdcs}
    return Entry(version, **found | columns | {"txns": tuple(found["txns"])})


def _by_line(data: bytes, path: str, version: int) -> Entry:
    found = _nothing()
    number = 0
    try:
        for number, line in enumerate(data.splitlines(), 1):  # noqa: B007 - names the line in the error
            if line.strip():
                _sort_in(found, read_action(json.loads(line)))
    except _NOT_AN_ACTION as error:
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


def _nothing() -> dict[str, Any]:
    return {"adds": [], "removes": [], "txns": [], "cdcs": []}


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
