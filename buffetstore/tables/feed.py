"""The change feed of a table: the rows that commits changed, to be resumed anywhere, and followed as they come."""

from __future__ import annotations

from collections import deque
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING

import pyarrow as pa

from buffetstore.errors import (
    CorruptLogError,
    InvalidInputError,
    TableVersionNotFoundError,
    UnsupportedOperationError,
)
from buffetstore.expressions import columns_of
from buffetstore.objects.helpers import head as head_of
from buffetstore.resilience.concurrency import gather, ordered
from buffetstore.resilience.threads import in_thread
from buffetstore.tables.change_parts import read_part
from buffetstore.tables.features import CHANGE_COLUMNS, check_readable
from buffetstore.tables.kept_times import kept_times
from buffetstore.tables.live_files import LiveFiles
from buffetstore.tables.load import load
from buffetstore.tables.log import MEND, commit_key, read_entry
from buffetstore.tables.reading import check_columns
from buffetstore.tables.schema import schema_of, stored_name
from buffetstore.tables.segment import list_log
from buffetstore.tables.time_travel import version_at
from buffetstore.tables.writable import WritableTable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence

    from buffetstore.expressions import Expression
    from buffetstore.tables.live_files import Parts
    from buffetstore.tables.log import Entry
    from buffetstore.tables.snapshot import Snapshot

_WINDOW = 64  # entries that are read together
_STALE = 3_600_000  # milliseconds without having looked, after which entries may have been cleaned up unseen
_STAMP = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """How far a feed has been read: all of a version, or the first `parts` of it. As text: `12` or `12:3`."""

    version: int
    parts: int | None = None

    def __str__(self) -> str:
        return str(self.version) if self.parts is None else f"{self.version}:{self.parts}"

    def passed(self, version: int) -> int:
        """Return how many parts of this version have been read, where the feed goes on with it or a later one."""
        return (self.parts or 0) if self.version == version else 0

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Return the cursor that was written as text.

        Raises
        ------
        InvalidInputError
            It is not one.
        """
        version, colon, parts = text.partition(":")
        try:
            return cls(int(version), int(parts) if colon else None)
        except ValueError:
            raise InvalidInputError(f"{text!r} is no cursor of a change feed: it looks like '12' or '12:3'") from None


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """Rows that one commit changed.

    Parameters
    ----------
    rows:
        The columns asked for, then `_change_type` (`insert`, `delete`, `update_preimage`, `update_postimage`),
        `_commit_version` and `_commit_timestamp`.
    cursor:
        Where to go on once these rows are dealt with.
    """

    version: int
    timestamp: datetime
    rows: pa.Table
    cursor: Cursor


@dataclass(frozen=True, slots=True)
class _Asked:
    since: int | Cursor | None
    timestamp: datetime | None
    until: int | None
    columns: Sequence[str] | None
    predicate: Expression | None
    tail: bool
    poll_seconds: tuple[float, float]


class FeedMethods(WritableTable):
    """What changed."""

    def changes(
        self,
        since: int | Cursor | None = None,
        *,
        until: int | None = None,
        timestamp: datetime | None = None,
        columns: Sequence[str] | None = None,
        predicate: Expression | None = None,
        tail: bool = False,
        poll_seconds: tuple[float, float] = (0.2, 5.0),
    ) -> AsyncGenerator[Change, None]:
        """Yield the rows that commits changed, commit after commit, at most the rows of one file at a time.

        It comes to the latest version first. A commit that wrote change files (`delta.enableChangeDataFeed`) is told by
        these alone; of others the files added are inserts and the files removed are deletes, so that without a feed a
        rewritten file is deleted and inserted whole. Compaction changes nothing. Rows that go come before rows that
        come. Rows have the schema of the newest version known when reading began, or of their own where that is newer.

        Stopping loses nothing and repeats nothing: the cursor of the last change that was dealt with goes on after it,
        if columns and predicate are the same. Close the iterator (`contextlib.aclosing`) where it is left early.

        Parameters
        ----------
        since:
            Changes after this version, or after a cursor; by default from the first.
        until:
            The last version; by default the latest one.
        timestamp:
            Changes after what was the latest version then, instead of `since`.
        tail:
            Go on with new commits as they are made. Without any, one request is sent now and then.
        poll_seconds:
            How long to wait for new commits: at first, and at most, doubling while there are none.

        Raises
        ------
        TableVersionNotFoundError
            The log does not have the changes after `since` any more, or not yet those until `until`.
        NotFoundError
            A file with changes has been vacuumed; the version and the path are named.
        UnsupportedOperationError
            A column had another type then, or the names of the feed's own columns are taken.
        UnsupportedFeatureError, CorruptLogError, InvalidQueryError
        """
        return self._changes(_Asked(since, timestamp, until, columns, predicate, tail, poll_seconds))

    async def _changes(self, asked: _Asked) -> AsyncGenerator[Change, None]:
        snapshot = await self.refresh()
        self._check_asked(snapshot, asked)
        start = await self._start(asked.since, asked.timestamp)
        self._check_range(snapshot, start, asked)
        last = asked.until if asked.until is not None or asked.tail else snapshot.version
        first = start.version + 1 if start.parts is None else start.version
        if last is not None and first > last:
            return
        base = await self._at(snapshot, first - 1)
        if base is not None:
            _same_types(base, snapshot, asked)
        files = snapshot.files.slice(0, 0) if first == 0 else base.files if base is not None else None
        live = LiveFiles(files, partitioned=bool(snapshot.partition_columns))
        async with aclosing(self._entries(first, snapshot.version, last, asked.poll_seconds)) as windows:
            async for entries in windows:
                told = await in_thread(_parts, entries, snapshot, live, asked)
                snapshot = told[-1][1]
                async with aclosing(self._told(told, start, asked)) as found:
                    async for change in found:
                        yield change

    async def _told(
        self, told: Sequence[tuple[Entry, Snapshot, Parts]], start: Cursor, asked: _Asked
    ) -> AsyncGenerator[Change, None]:
        """Yield the changes of some commits while those of the next files are being read."""
        begun: deque[tuple[Entry, Cursor]] = deque()
        parts = [(entry, snapshot, found, start.passed(entry.version)) for entry, snapshot, found in told]

        def calls() -> Iterator[Callable[[], Awaitable[pa.Table]]]:
            for entry, snapshot, found, seen in parts:
                shape = replace(snapshot, version=entry.version)
                names = snapshot.schema.names if asked.columns is None else asked.columns
                for index, part in enumerate(found.since(seen), seen + 1):
                    begun.append((entry, Cursor(entry.version, index if index < len(found) else None)))
                    yield partial(
                        read_part,
                        self.store,
                        shape,
                        part,
                        formatter=self._formatter,
                        columns=names,
                        predicate=asked.predicate,
                    )

        sizes = (size for _, _, found, seen in parts for size in found.sizes(seen))
        async with aclosing(ordered(calls(), sizes)) as tables:
            async for rows in tables:
                entry, cursor = begun.popleft()
                if rows.num_rows:
                    stamp = await self._committed(entry)
                    yield Change(entry.version, stamp, _stamped(rows, entry.version, stamp), cursor)

    async def _entries(
        self, first: int, newest: int, last: int | None, poll_seconds: tuple[float, float]
    ) -> AsyncGenerator[list[Entry], None]:
        """Yield the commits from `first` on, several at a time; those after `newest` as they come."""
        committer = self._head.committer
        version, wait, asked = first, poll_seconds[0], committer.now()
        width = _WINDOW if first <= newest else 1
        while last is None or version <= last:
            ends = [end for end in (last, newest if version <= newest else None) if end is not None]
            count = min([width, *(end + 1 - version for end in ends)])
            before, asked = asked, committer.now()
            answers = await gather(
                [partial(read_entry, self.store, self.path, each) for each in range(version, version + count)]
            )
            found = [entry for entry in takewhile(lambda entry: entry is not None, answers) if entry is not None]
            version += len(found)
            if found:
                yield found
                wait = poll_seconds[0]
            if len(found) == count:
                width = min(2 * width, _WINDOW)
                continue
            if version <= newest or asked - before > _STALE:
                await self._check_there(version, made=version <= newest)
            width = 1
            if not found:
                await committer.sleep(wait)
                wait = min(2 * wait, poll_seconds[1])

    async def _check_there(self, version: int, *, made: bool) -> None:
        """Raise what is the matter with an entry that is not there, unless it is not `made` yet."""
        commits = (await list_log(self.store, self.path)).commits
        if version in commits or not (made or max(commits, default=-1) > version):
            return
        if not commits or min(commits) < version:
            key = commit_key(self.path, version)
            raise CorruptLogError(
                f"the log of table {self.path!r} has a gap: entry {version} is missing at {key!r}; {MEND}", key=key
            )
        raise TableVersionNotFoundError(
            f"what version {version} of table {self.path!r} changed cannot be told any more: its log entry has been "
            f"cleaned up, the oldest that is left is of version {min(commits)}; read the table whole, then the changes "
            "since its version",
            key=self.path,
        )

    async def _start(self, since: int | Cursor | None, timestamp: datetime | None) -> Cursor:
        if timestamp is None:
            return since if isinstance(since, Cursor) else Cursor(-1 if since is None else since)
        if since is not None:
            raise InvalidInputError(f"since {since} and timestamp {timestamp} were given: one of them is enough")
        try:
            kept = await kept_times(self.store, self.path, self.snapshot.metadata.id)
            return Cursor(await version_at(self.store, self.path, timestamp, kept))
        except TableVersionNotFoundError:
            return Cursor(-1)  # before the oldest entry; whether that is the first one is found out by reading it

    async def _at(self, snapshot: Snapshot, version: int) -> Snapshot | None:
        """Return the table before the first change, None where that cannot be rebuilt."""
        if version == snapshot.version or version < 0:
            return snapshot if version >= 0 else None
        try:
            return await load(self.store, self.path, version)
        except TableVersionNotFoundError:
            return None

    async def _committed(self, entry: Entry) -> datetime:
        info = entry.info
        milliseconds = (info.in_commit_timestamp or info.timestamp) if info is not None else 0
        if milliseconds:
            return datetime.fromtimestamp(milliseconds / 1000, UTC)
        return (await head_of(self.store, commit_key(self.path, entry.version))).last_modified

    def _check_asked(self, snapshot: Snapshot, asked: _Asked) -> None:
        check_columns(snapshot, asked.columns, asked.predicate)
        taken = [name for name in snapshot.schema.names if name.lower() in CHANGE_COLUMNS]
        if taken:
            raise UnsupportedOperationError(
                f"table {self.path!r} has a column {taken[0]!r}, which is a name of the change feed's own",
                key=self.path,
            )
        if asked.tail and self._pinned:
            raise UnsupportedOperationError(
                f"table {self.path!r} was opened at version {snapshot.version}, after which it does not look; open it "
                "without a version to follow it",
                key=self.path,
            )

    def _check_range(self, snapshot: Snapshot, start: Cursor, asked: _Asked) -> None:
        until = asked.until
        beyond = until is not None and until > snapshot.version and not asked.tail
        if beyond or start.version > snapshot.version:
            raise TableVersionNotFoundError(
                f"table {self.path!r} has no version {until if beyond else start.version}: the latest is "
                f"{snapshot.version}",
                key=self.path,
            )
        if start.version < -1 or (start.parts is not None and (start.version < 0 or start.parts < 0)):
            raise InvalidInputError(f"since {start} is no version of a table")


def _parts(
    entries: Sequence[Entry], snapshot: Snapshot, live: LiveFiles, asked: _Asked
) -> list[tuple[Entry, Snapshot, Parts]]:
    """Return what each commit changed, and what its rows look like."""
    live.look_up(entries)
    told = []
    for entry in entries:
        snapshot = _followed(snapshot, entry, asked)
        told.append((entry, snapshot, live.parts(entry, snapshot.path)))
    return told


def _followed(snapshot: Snapshot, entry: Entry, asked: _Asked) -> Snapshot:
    """Return what rows look like from this commit on."""
    protocol, metadata = entry.protocol or snapshot.protocol, entry.metadata or snapshot.metadata
    if entry.protocol is None and entry.metadata is None:
        return snapshot
    check_readable(protocol, metadata, snapshot.path)
    then = replace(snapshot, version=entry.version, metadata=metadata, schema=schema_of(metadata), protocol=protocol)
    if entry.version > snapshot.version:
        check_columns(then, asked.columns, asked.predicate)
        return then
    _same_types(then, snapshot, asked)
    return snapshot


def _same_types(then: Snapshot, now: Snapshot, asked: _Asked) -> None:
    """Refuse rows of a version whose columns had other types: they would be misread, or called damaged."""
    if any(name.startswith("typeWidening") for name in now.protocol.reader_features):
        return
    tested = columns_of(asked.predicate) if asked.predicate is not None else set()
    wanted = now.schema.names if asked.columns is None else {*asked.columns, *tested}
    known = {stored_name(field): field for field in then.schema}
    for field in (now.schema.field(name) for name in wanted):
        other = known.get(stored_name(field), field).type
        if other != field.type and not (pa.types.is_nested(other) and pa.types.is_nested(field.type)):
            raise UnsupportedOperationError(
                f"column {field.name!r} of table {now.path!r} was {other} at version {then.version} and is "
                f"{field.type} now: read the changes of such versions from the table opened at one of them, and those "
                "since it changed apart",
                key=now.path,
            )


def _stamped(rows: pa.Table, version: int, stamp: datetime) -> pa.Table:
    count = rows.num_rows
    versions, stamps = pa.scalar(version, pa.int64()), pa.scalar(stamp, _STAMP)
    return rows.append_column("_commit_version", pa.repeat(versions, count)).append_column(
        "_commit_timestamp", pa.repeat(stamps, count)
    )
