"""Verification: whether a table's files are those that its log tells of, and hold what it says. Nothing is changed."""

from __future__ import annotations

import json
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import CorruptionError, CorruptLogError, NotFoundError
from buffetstore.objects.helpers import get_bytes
from buffetstore.resilience.concurrency import BYTES_IN_FLIGHT, ordered
from buffetstore.resilience.threads import in_thread
from buffetstore.tables.checkpoint import read_checkpoint
from buffetstore.tables.file_actions import each_file, texts
from buffetstore.tables.log import join, read_entries
from buffetstore.tables.operations.presence import without
from buffetstore.tables.operations.vacuum import FILES, is_hidden, listed_files, without_others
from buffetstore.tables.reading import read_file
from buffetstore.tables.segment import Listed, list_log
from buffetstore.tables.snapshot import replay

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
    from datetime import datetime, timedelta

    from buffetstore.formats.parquet import ParquetFormatter
    from buffetstore.objects.base import ObjectStore
    from buffetstore.tables.head import Head
    from buffetstore.tables.segment import Checkpoint
    from buffetstore.tables.snapshot import Snapshot

_SHOWN = 10
_MOST_GAPS = 1000
_COMPARED = 1000  # entries that are read to compare a checkpoint with


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What is wrong with a table at one version; `str` is for people.

    Parameters
    ----------
    missing:
        Data files that are gone.
    wrong_size:
        By path, the bytes that the log tells and those that are there.
    corrupt:
        By path, why a file cannot be read (with `deep`).
    rows_mismatch:
        By path, the rows that the log tells and those that are there (with `deep`).
    bounds_mismatch:
        By path, columns with rows outside of the bounds that the log tells, or other nulls: a question may miss them
        (with `deep`).
    orphans:
        Files that this version does not refer to: those of earlier versions, and what failed writes left. They are no
        fault; vacuum deletes them in time. `path`, `size`, `last_modified`.
    gaps:
        Versions whose entries are missing between others. What is read no more can have been cleaned up.
    last_checkpoint:
        What is wrong with the hint to the newest checkpoint; it is a hint, so readers get along without.
    checkpoints:
        By version, how a checkpoint differs from the log, or why it cannot be read.
    """

    path: str
    version: int
    files: int
    bytes: int
    deep: bool
    missing: tuple[str, ...] = ()
    wrong_size: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    corrupt: Mapping[str, str] = field(default_factory=dict)
    rows_mismatch: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    bounds_mismatch: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    orphans: pa.Table = field(default_factory=FILES.empty_table)
    gaps: tuple[int, ...] = ()
    last_checkpoint: str | None = None
    checkpoints: Mapping[int, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not any(self._faults())

    def orphan_ages(self, now: datetime) -> dict[str, timedelta]:
        """Return how old each orphan is."""
        ages = pc.subtract(pa.scalar(now, FILES.field("last_modified").type), self.orphans["last_modified"])
        return dict(zip(self.orphans["path"].to_pylist(), ages.to_pylist(), strict=True))

    def _faults(self) -> Iterator[str]:
        missing: dict[Any, Any] = dict.fromkeys(self.missing, "")
        gaps: dict[Any, Any] = dict.fromkeys(self.gaps, "")
        told: list[tuple[str, Mapping[Any, Any], Callable[[Any], str]]] = [
            ("missing", missing, str),
            ("wrong size", self.wrong_size, lambda pair: f": {pair[1]} bytes, the log says {pair[0]}"),
            ("cannot be read", self.corrupt, lambda why: f": {why}"),
            ("wrong number of rows", self.rows_mismatch, lambda pair: f": {pair[1]}, the log says {pair[0]}"),
            ("outside of its bounds", self.bounds_mismatch, lambda names: f": {', '.join(names)}"),
            ("entry of the log missing", gaps, str),
            ("checkpoint wrong", self.checkpoints, lambda why: f": {why}"),
        ]
        for what, found, detail in told:
            yield from (f"{what}: {name}{detail(held)}" for name, held in islice(found.items(), _SHOWN))
            if len(found) > _SHOWN:
                yield f"{what}: and {len(found) - _SHOWN} more"
        if self.last_checkpoint is not None:
            yield f"_last_checkpoint: {self.last_checkpoint}"

    def __str__(self) -> str:
        depth = "every file read" if self.deep else "files listed, not read"
        head = f"table {self.path!r} version {self.version}: {self.files} files, {self.bytes} bytes ({depth})"
        orphans = self.orphans.num_rows
        verdict = "ok" if self.ok else "NOT ok"
        tail = [f"{orphans} files that this version does not refer to; vacuum deletes them in time"] if orphans else []
        return "\n".join([f"{head}: {verdict}", *(f"  {line}" for line in (*self._faults(), *tail))])


async def verify(
    head: Head, formatter: ParquetFormatter, *, deep: bool, progress: Callable[[int, int], None] | None, pinned: bool
) -> VerifyReport:
    """Verify the table; see `MaintenanceMethods.verify`."""
    store, path = head.committer.store, head.committer.path
    snapshot = head.snapshot if pinned else await _newest(head)
    log = Listed()
    others: set[str] = set()
    async with aclosing(listed_files(store, path, others, log)) as pieces:
        found = [FILES.empty_table(), *[piece async for piece in pieces]]
    missing, wrong_size, orphans = await in_thread(_compared, snapshot, found, others)
    if missing.num_rows and not pinned:
        # What another process has replaced and vacuumed meanwhile is not missed.
        missing = await in_thread(_among, missing, (await _newest(head)).files)
    faults: dict[str, Any] = {}
    if deep:
        files = await in_thread(lambda: without(snapshot.with_statistics(), missing))
        faults = await _read_all(store, formatter, snapshot, files, progress)
    checkpoints = log.checkpoints(2**63)
    hint = await hint_fault(store, path, checkpoints)
    if hint is not None:  # unless one has been written since the listing
        hint = await hint_fault(store, path, (await list_log(store, path)).checkpoints(2**63))
    return VerifyReport(
        path,
        snapshot.version,
        snapshot.files.num_rows,
        pc.sum(snapshot.files["size"]).as_py() or 0,
        deep,
        await in_thread(texts, missing["path"]),
        wrong_size,
        orphans=orphans,
        gaps=tuple(islice(_gaps(log), _MOST_GAPS)),
        last_checkpoint=hint,
        checkpoints=await _compare(store, path, log, checkpoints) if checkpoints else {},
        **faults,
    )


async def _newest(head: Head) -> Snapshot:
    async with head.lock:
        return await head.refresh()


def _compared(
    snapshot: Snapshot, pieces: Sequence[pa.Table], others: set[str]
) -> tuple[pa.Table, dict[str, tuple[int, int]], pa.Table]:
    listed = without_others(pa.concat_tables(pieces), others)
    files = snapshot.files.select(["path", "size"])
    at = pc.index_in(files["path"], value_set=_whole(listed["path"]))
    missing = files.filter(pc.is_null(at))
    sizes = listed["size"].take(at)
    wrong = files.append_column("there", sizes)
    wrong = wrong.filter(pc.fill_null(pc.not_equal(wrong["size"], wrong["there"]), False))
    names, told, there = (wrong[name].to_pylist() for name in ("path", "size", "there"))
    visible = listed.filter(pc.invert(is_hidden(listed["path"], snapshot.partition_columns)))
    orphans = visible.filter(pc.invert(pc.is_in(visible["path"], value_set=_whole(files["path"]))))
    return missing, dict(zip(names, zip(told, there, strict=True), strict=True)), orphans


def _among(files: pa.Table, others: pa.Table) -> pa.Table:
    return files.filter(pc.is_in(files["path"], value_set=_whole(others["path"])))


def _whole(column: Any) -> pa.Array:
    found = column.combine_chunks()
    return pa.concat_arrays(found.chunks) if isinstance(found, pa.ChunkedArray) else found


def _gaps(log: Listed) -> Iterator[int]:
    versions = sorted(log.commits)
    for before, after in pairwise(versions):
        yield from range(before + 1, after)


async def hint_fault(store: ObjectStore, path: str, checkpoints: Sequence[Checkpoint]) -> str | None:
    """Return what is wrong with `_last_checkpoint`, given the complete checkpoints of the log."""
    try:
        held = json.loads(await get_bytes(store, join(path, "_delta_log/_last_checkpoint")))
    except NotFoundError:
        return f"is missing, the newest checkpoint is of version {checkpoints[-1].version}" if checkpoints else None
    except ValueError as error:
        return f"is not JSON: {error}"
    version = held.get("version") if isinstance(held, dict) else None
    if not isinstance(version, int):
        return f"names no version: {str(held)[:100]}"
    if version not in {each.version for each in checkpoints}:
        return f"names version {version}, of which there is no complete checkpoint"
    return None


async def _compare(store: ObjectStore, path: str, log: Listed, checkpoints: Sequence[Checkpoint]) -> dict[int, str]:
    """Return how the newest checkpoint differs from what the log before it makes, where that is there still."""
    newest = checkpoints[-1]
    base = next((each for each in reversed(checkpoints) if each.version < newest.version), None)
    first = 0 if base is None else base.version + 1
    span = range(first, newest.version + 1)
    try:
        state = await read_checkpoint(store, path, newest)
        if len(span) > _COMPARED or any(version not in log.commits for version in span):
            return {}
        start = None if base is None else await read_checkpoint(store, path, base)
        entries = await read_entries(store, path, [log.commits[version] for version in span])
        made = await in_thread(replay, path, start, entries, version=newest.version)
    except CorruptLogError as error:
        return {newest.version: str(error)}
    except NotFoundError:  # cleaned up since the listing
        return {}
    difference = await in_thread(_difference, state, made)
    return {} if difference is None else {newest.version: difference}


def _difference(state: Any, made: Snapshot) -> str | None:
    if state.protocol != made.protocol:
        return "it has another protocol than the log"
    if state.metadata != made.metadata:
        return "it has other metadata than the log"
    theirs, ours = _told(state.files), _told(made.files)
    differing = pa.concat_arrays([_whole(_not_in(theirs, ours)), _whole(_not_in(ours, theirs))])
    if not len(differing):
        return None
    return f"it differs from the log in {len(differing)} data files, the first is {pc.min(differing).as_py()!r}"


def _told(files: pa.Table) -> pa.Table:
    vectors = pc.fill_null(files["deletion_vector"], "")
    told = pc.binary_join_element_wise(files["path"], files["size"].cast(pa.string()), vectors, "\n")
    return pa.table({"path": files["path"], "told": told})


def _not_in(files: pa.Table, others: pa.Table) -> pa.ChunkedArray:
    return files["path"].filter(pc.invert(pc.is_in(files["told"], value_set=_whole(others["told"]))))


async def _read_all(
    store: ObjectStore,
    formatter: ParquetFormatter,
    snapshot: Snapshot,
    files: pa.Table,
    progress: Callable[[int, int], None] | None,
) -> dict[str, Any]:
    """Read every file; return the faults by kind."""
    found: dict[str, dict[str, Any]] = {"corrupt": {}, "rows_mismatch": {}, "bounds_mismatch": {}}
    calls = (
        partial(_read_one, store, formatter, snapshot, files.slice(at, 1), file)
        for at, file in enumerate(each_file(files))
    )
    sizes = files["size"].to_numpy()
    total, done = int(sizes.sum()), 0
    reading: AsyncGenerator[dict[str, Any], None] = ordered(
        calls, map(int, sizes), bytes_in_flight=BYTES_IN_FLIGHT // 8
    )
    async with aclosing(reading) as answers:
        at = 0
        async for faults in answers:
            for kind, fault in faults.items():
                found[kind][files["path"][at].as_py()] = fault
            done += int(sizes[at])
            at += 1
            if progress is not None:
                progress(done, total)
    return found


async def _read_one(
    store: ObjectStore, formatter: ParquetFormatter, snapshot: Snapshot, file: pa.Table, body: Mapping[str, Any]
) -> dict[str, Any]:
    try:
        rows = await read_file(store, snapshot, body, formatter=formatter)
    except (CorruptionError, NotFoundError) as error:
        return {"corrupt": str(error)}
    return await in_thread(_faults_of, file, rows)


def _faults_of(file: pa.Table, rows: pa.Table) -> dict[str, Any]:
    faults: dict[str, Any] = {}
    told = file["num_records"][0].as_py()
    if told is not None and told != rows.num_rows:
        faults["rows_mismatch"] = (told, rows.num_rows)
    outside = tuple(
        name for name in rows.column_names if f"min.{name}" in file.column_names and _outside(file, rows, name)
    )
    if outside:
        faults["bounds_mismatch"] = outside
    return faults


def _outside(file: pa.Table, rows: pa.Table, name: str) -> bool:
    low, high, nulls = (file[f"{side}.{name}"][0] for side in ("min", "max", "null_count"))
    if nulls.is_valid and nulls.as_py() != rows[name].null_count:
        return True
    if pa.types.is_null(low.type):
        return False
    column = rows[name]
    if pa.types.is_floating(column.type):  # a NaN is in no bounds
        column = column.filter(pc.invert(pc.fill_null(pc.is_nan(column), False)))
    found = pc.min_max(column)
    below, above = pc.less(found["min"], low), pc.greater(found["max"], high)
    return bool(below.as_py() or above.as_py())
