"""Which data files a bound plan reads, in which order and how many at a time, and what of them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.expressions import columns_of
from buffetstore.query.metadata_answers import from_statistics, statistics_needed
from buffetstore.query.topk import top_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buffetstore.query.binding import BoundPlan
    from buffetstore.query.metadata_answers import KnownFiles
    from buffetstore.query.topk import TopRows
    from buffetstore.tables import Snapshot


@dataclass(frozen=True, slots=True)
class Selection:
    """The files that are read, in their order, and what is known of others that would have been."""

    files: pa.Table
    known: KnownFiles | None = None
    top: TopRows | None = None

    @property
    def short_cut(self) -> str | None:
        """What made reading files needless that filters would not have left out."""
        return "metadata" if self.known is not None else "top-k" if self.top is not None else None


def select(bound: BoundPlan, snapshot: Snapshot) -> Selection:
    """Return the files that must be read, after what statistics tell; call it in a thread."""
    if bound.is_empty:
        return Selection(snapshot.files.slice(0, 0))
    event_time = bound.contract.event_time
    top = top_rows(bound)
    told = statistics_needed(bound) or ((event_time,) if top is None else (event_time, top.column))
    files = snapshot.prune(bound.tested, None if bound.merge else told)
    if bound.merge:
        # Concatenated in this order, a stable sort by load time leaves revisions in the order that decides.
        age = pc.fill_null(files["commit_version"], -1)
        keys = pa.table({"age": age, "modified": files["modification_time"], "path": files["path"]})
    else:
        name = f"min.{event_time}"
        keys = pa.table({"time": files[name], "path": files["path"]}) if name in files.column_names else None
        keys = pa.table({"path": files["path"]}) if keys is None else keys
    order = pc.sort_indices(keys, sort_keys=[(column, "ascending") for column in keys.column_names])
    files = files.take(order)
    if top is not None:
        return Selection(top.best_first(files), top=top)
    known = from_statistics(bound, files, exact=snapshot.has_exact_statistics)
    return Selection(files) if known is None else Selection(known.left, known)


def rounds_of(files: pa.Table, bound: BoundPlan) -> Iterator[pa.Table]:
    """All files at once; under a limit one, then two, four...: few may do, and nobody can know how many."""
    if bound.limit is None or bound.merge:
        yield files
        return
    start, size = 0, 1
    while start < files.num_rows:
        yield files.slice(start, size)
        start, size = start + size, size * 2


def columns_read(bound: BoundPlan) -> list[str]:
    """Return the table's columns that are read of files."""
    wanted = rows_needed(bound)
    if bound.conversion is not None:
        wanted = bound.conversion.needed(wanted)
    return [name for name in bound.schema.names if name in wanted and name in bound.stored]


def rows_needed(bound: BoundPlan) -> set[str]:
    """Return the columns that rows must have until they are found, of the contract they are read as."""
    wanted = {*bound.columns}
    if bound.merge or bound.shape is None or bound.shape.streams:
        wanted |= {*bound.key}  # which puts rows in order, and merges them
    if bound.merge:
        wanted |= {"created_at"} | columns_of(bound.predicate)
    if bound.known_at is not None:
        wanted |= {"created_at", "interval", "exchange", "available_at", bound.contract.event_time}
    if bound.conversion is not None or not bound.stored >= columns_of(bound.below):
        wanted |= columns_of(bound.below)
    return wanted


def partitions_of(files: pa.Table) -> int:
    """Count the time buckets, or the folders where a file tells none."""
    buckets = pc.map_lookup(files["tags"], pa.scalar("bucket", pa.string()), "first")
    folders = pc.replace_substring_regex(files["path"], r"/?[^/]*$", "")
    return int(pc.count_distinct(pc.coalesce(buckets, folders), mode="all").as_py())
