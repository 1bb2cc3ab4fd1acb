"""Compaction: many small files become few, sorted by key; the rows stay what they are.

Bins are read, sorted, written and committed without the table's lock, which is taken for the commit alone: the commit
reads nothing but the files that it replaces, so appends never make it fail, nor does it make them fail. Where another
commit has removed one of the files, the rest is planned anew. What has been committed stays when the call ends early.

Before anything is published the new files are decoded again, from memory, and their row count and the order-free
checksum of their rows (`buffetstore.tables.row_checksum`) are compared with those of the rows that were read.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import CommitConflictError, CorruptFileError, InvalidInputError, NotFoundError
from buffetstore.resilience.concurrency import ordered
from buffetstore.resilience.threads import in_thread
from buffetstore.tables.conflicts import Proposal
from buffetstore.tables.data_skipping import telling
from buffetstore.tables.file_actions import removed
from buffetstore.tables.file_statistics import has_bounds
from buffetstore.tables.file_table import rows as file_rows
from buffetstore.tables.files import DataPart, stem_of, write_parts
from buffetstore.tables.matching import same_values
from buffetstore.tables.operations.bins import BUCKET_TAG, Bin, Coarsening, plan_bins, row_width
from buffetstore.tables.reading import check_columns, read_tables
from buffetstore.tables.revision_order import keeps_revisions, version_tag
from buffetstore.tables.row_checksum import row_checksum

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from buffetstore.expressions import Expression
    from buffetstore.formats.parquet import Encoded, ParquetFormatter
    from buffetstore.tables.actions import AddFile
    from buffetstore.tables.head import Head
    from buffetstore.tables.snapshot import Snapshot

TARGET_BYTES = 128 * 1024 * 1024
MEMORY_BYTES = 512 * 1024 * 1024
COMMIT_BYTES = 1024 * 1024 * 1024  # of files that are replaced by one commit
COMMIT_FILES = 1000
MAX_PLANS = 16
KEY = "buffetstore.key"


@dataclass(frozen=True, slots=True)
class CompactResult:
    """What a compaction did; nothing, and no commit, where `commits` is 0.

    Parameters
    ----------
    version:
        The version that the last commit made, or the one that was found.
    files_removed, files_added, bytes_removed, bytes_added:
        Data files that were replaced, and those in their place.
    rows:
        Rows that were rewritten.
    """

    version: int
    files_removed: int = 0
    files_added: int = 0
    rows: int = 0
    bytes_removed: int = 0
    bytes_added: int = 0
    commits: int = 0


@dataclass(frozen=True, slots=True)
class Compaction:
    """What is asked of a compaction; see `MaintenanceMethods.compact`."""

    predicate: Expression | None = None
    target_bytes: int = TARGET_BYTES
    sort_by: Sequence[str] | None = None
    memory: int = MEMORY_BYTES
    coarsening: Coarsening | None = None
    stem: Callable[[pa.Table], str] | None = None
    progress: Callable[[int, int], None] | None = None

    def check(self, snapshot: Snapshot) -> None:
        """Raise `InvalidInputError` or `InvalidQueryError` for what cannot be done."""
        if self.target_bytes <= 0 or self.memory <= 0:
            raise InvalidInputError(
                f"target_bytes {self.target_bytes} and bytes_in_flight {self.memory} must be positive"
            )
        check_columns(snapshot, self.sort_by, self.predicate)
        for name in self.sort_by or ():
            if not has_bounds(snapshot.schema.field(name).type):
                raise InvalidInputError(f"rows cannot be sorted by {name!r}: it is {snapshot.schema.field(name).type}")
        strange = sorted(set(self.sort_by or ()) - set(_key_of(snapshot)))
        if strange and keeps_revisions(snapshot.metadata):
            raise InvalidInputError(
                f"table {snapshot.path!r} keeps revisions, whose order would be lost if rows were sorted by "
                f"{', '.join(strange)}: sort by columns of the key {_key_of(snapshot)}"
            )

    def key(self, snapshot: Snapshot) -> list[str]:
        """Return the columns that rows are sorted by."""
        found = _key_of(snapshot) if self.sort_by is None else self.sort_by
        known = [name for name in found if name not in snapshot.partition_columns]
        return [name for name in known if has_bounds(snapshot.schema.field(name).type)]

    def plan(self, snapshot: Snapshot, today: datetime) -> list[list[Bin]]:
        """Return the bins, in groups that are committed together."""
        chosen = None if self.predicate is None else snapshot.prune(self.predicate)
        bins = plan_bins(
            snapshot.with_statistics([]),
            target_bytes=self.target_bytes,
            memory=self.memory,
            row_bytes=row_width(snapshot.schema),
            partition_columns=snapshot.partition_columns,
            coarsening=self.coarsening,
            today=today.date(),
            chosen=chosen,
            revisions_of=_key_of(snapshot) if keeps_revisions(snapshot.metadata) else None,
        )
        return list(_grouped(bins))


def _key_of(snapshot: Snapshot) -> list[str]:
    told = snapshot.metadata.configuration.get(KEY, "").split(",")
    return [name for name in told if name in snapshot.schema.names]


async def compact(head: Head, formatter: ParquetFormatter, wanted: Compaction) -> CompactResult:
    """Compact the table; see `MaintenanceMethods.compact`."""
    async with head.lock:
        snapshot = await head.refresh()
    wanted.check(snapshot)
    done = CompactResult(snapshot.version)
    for _ in range(MAX_PLANS):
        today = datetime.fromtimestamp(head.committer.now() / 1000, UTC)
        groups = await in_thread(wanted.plan, snapshot, today)
        total = done.bytes_removed + sum(each.size for group in groups for each in group)
        for group in groups:
            try:
                found = await _compact_group(head, formatter, wanted, snapshot, group)
            except (CommitConflictError, NotFoundError) as error:
                async with head.lock:
                    newer = await head.refresh()
                if isinstance(error, NotFoundError) and await in_thread(_all_there, group, newer):
                    raise
                snapshot = newer
                done = done if done.commits else CompactResult(newer.version)
                break
            done = _sum(done, found)
            if wanted.progress is not None:
                wanted.progress(done.bytes_removed, total)
        else:
            return done
    raise CommitConflictError(
        f"files of table {snapshot.path!r} were replaced by others during each of {MAX_PLANS} plans; "
        f"{done.commits} commits were made. Try again when fewer write",
        key=snapshot.path,
    )


def _all_there(group: Sequence[Bin], now: Snapshot) -> bool:
    return now.missing(pa.concat_arrays([chunk for each in group for chunk in each.files["path"].chunks])) is None


def _grouped(bins: Sequence[Bin]) -> Iterator[list[Bin]]:
    group: list[Bin] = []
    size = files = 0
    for each in bins:
        if group and (size + each.size > COMMIT_BYTES or files + each.files.num_rows > COMMIT_FILES):
            yield group
            group, size, files = [], 0, 0
        group.append(each)
        size, files = size + each.size, files + each.files.num_rows
    if group:
        yield group


def _sum(one: CompactResult, other: CompactResult) -> CompactResult:
    return CompactResult(
        other.version,
        one.files_removed + other.files_removed,
        one.files_added + other.files_added,
        one.rows + other.rows,
        one.bytes_removed + other.bytes_removed,
        one.bytes_added + other.bytes_added,
        one.commits + other.commits,
    )


async def _compact_group(
    head: Head, formatter: ParquetFormatter, wanted: Compaction, snapshot: Snapshot, group: Sequence[Bin]
) -> CompactResult:
    """Rewrite the bins and commit them together; of a call that ends early the files are deleted."""
    committer = head.committer
    if head.snapshot is not snapshot and not await in_thread(_all_there, group, head.snapshot):
        raise CommitConflictError(f"files of table {snapshot.path!r} have been replaced", key=snapshot.path)
    written: list[AddFile] = []
    rows = 0
    handed_over = False
    calls = [partial(_rewrite, head, formatter, wanted, snapshot, each, written) for each in group]
    rewriting = ordered(calls, [each.memory for each in group], bytes_in_flight=wanted.memory)
    try:
        async with aclosing(rewriting) as counts:
            async for count in counts:
                rows += count
        proposal = await in_thread(_proposal, group, written)
        async with head.lock:
            current = await head.current()
            handed_over = True
            committed = await head.commit(current, proposal, snapshot)
    except BaseException:
        if not handed_over:  # afterwards the committer knows whether they may be deleted
            await committer.discard(Proposal("OPTIMIZE", tuple(written)))
        raise
    removed = sum(each.size for each in group)
    added = sum(add.size for add in written)
    return CompactResult(committed.snapshot.version, len(proposal.removes), len(written), rows, removed, added, 1)


def _proposal(group: Sequence[Bin], written: Sequence[AddFile]) -> Proposal:
    gone = removed(pa.concat_tables([each.files for each in group]), data_change=False)
    metrics = {
        "numAddedFiles": len(written),
        "numRemovedFiles": len(gone),
        "numAddedBytes": sum(add.size for add in written),
        "numRemovedBytes": sum(each.size for each in group),
    }
    return Proposal("OPTIMIZE", tuple(written), gone, metrics=metrics)


async def _rewrite(
    head: Head,
    formatter: ParquetFormatter,
    wanted: Compaction,
    snapshot: Snapshot,
    bin_: Bin,
    written: list[AddFile],
) -> int:
    """Write the files of one bin, add them to `written`, and return how many rows they have."""
    store = head.committer.store
    # All files of a bin together: they fit in memory by the plan.
    reading = read_tables(store, snapshot, bin_.files, formatter=formatter, bytes_in_flight=bin_.size)
    async with aclosing(reading) as found_tables:
        tables = [table async for table in found_tables]
    parts, before = await in_thread(_parts, wanted, snapshot, bin_, tables)
    del tables
    after: list[tuple[int, int]] = []  # appended to by threads
    adds = await write_parts(
        store,
        snapshot.path,
        parts,
        formatter,
        bytes_in_flight=wanted.memory,
        encode=partial(_encoded, telling(formatter, snapshot), after),
    )
    written += [_in_place(add, bin_) for add in adds]
    found = sum(rows for rows, _ in after), sum(checksum for _, checksum in after) % 2**64
    if found != before:
        raise CorruptFileError(
            f"compaction of {bin_.files.num_rows} files in {bin_.directory!r} of table {snapshot.path!r} would have "
            f"changed their rows ({before[0]} rows became {found[0]}, checksum {before[1]:016x} became "
            f"{found[1]:016x}): nothing was committed; run verify(deep=True)",
            key=snapshot.path,
        )
    return before[0]


def _encoded(formatter: ParquetFormatter, found: list[tuple[int, int]], table: pa.Table) -> Encoded:
    encoded = formatter.encode(table)
    read_back = formatter.decode(encoded.data, schema=table.schema)
    found.append((read_back.num_rows, row_checksum(read_back)))
    return encoded


def _in_place(add: AddFile, bin_: Bin) -> AddFile:
    # The rows were there before: the file stands where the last of theirs stood.
    latest = bin_.files["modification_time"][-1].cast(pa.int64()).as_py()
    return replace(add, data_change=False, modification_time=latest)


def _parts(
    wanted: Compaction, snapshot: Snapshot, bin_: Bin, tables: Sequence[pa.Table]
) -> tuple[list[DataPart], tuple[int, int]]:
    table = pa.concat_tables(tables)
    if snapshot.partition_columns:
        table = table.drop_columns(list(snapshot.partition_columns))
    before = (table.num_rows, row_checksum(table))
    key = wanted.key(snapshot)
    if key and table.num_rows > 1:
        # The sort is stable: revisions of a key stay in their order.
        table = table.take(pc.sort_indices(table, sort_keys=[(name, "ascending") for name in key]))
    keep = keeps_revisions(snapshot.metadata)
    files = file_rows(bin_.files)
    tags = dict(set.intersection(*(set(file["tags"].items()) for file in files)))
    if bin_.bucket is not None:
        tags[BUCKET_TAG] = bin_.bucket
    if keep:
        tags |= version_tag(bin_.files["commit_version"][-1].as_py())
    # Where rows of one key must not be divided and there is no key, one file takes all.
    pieces = _pieces(table, bin_.outputs if key or not keep else 1, key if keep else ())
    stem = wanted.stem or partial(_common_stem, [file["path"] for file in files])
    parts = [DataPart(piece, bin_.directory, stem(piece), files[0]["partition_values"], tags) for piece in pieces]
    return parts, before


def _common_stem(paths: Sequence[str], _piece: pa.Table) -> str:
    stems = {stem_of(path)[1] for path in paths}
    return stems.pop() if len(stems) == 1 else "part"


def _pieces(table: pa.Table, count: int, undivided: Sequence[str]) -> Iterator[pa.Table]:
    """Yield the rows in `count` pieces of about one size; rows of one key are not divided."""
    ends = [table.num_rows * at // count for at in range(1, count)]
    start = 0
    for end in [*(_boundary(table, end, undivided) for end in ends), table.num_rows]:
        if end > start:
            yield table.slice(start, end - start)
            start = end


def _boundary(table: pa.Table, at: int, key: Sequence[str]) -> int:
    width = 64
    while key and 0 < at < table.num_rows:
        before, after = table.slice(at - 1, width), table.slice(at, width)
        before = before.slice(0, after.num_rows)
        changes = np.zeros(after.num_rows, np.bool_)
        for name in key:
            changes |= ~same_values(before[name], after[name])
        if changes.any():
            return at + int(changes.argmax())
        at, width = at + after.num_rows, width * 2
    return at
