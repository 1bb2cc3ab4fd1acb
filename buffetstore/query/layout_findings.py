"""What may be wrong with a layout that no compaction mends, and how much it costs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow.compute as pc

from buffetstore.query.layout_report import LayoutFinding, Severity, Vacuum
from buffetstore.tables.file_statistics import has_bounds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from buffetstore.query.layout_facts import LayoutFacts
    from buffetstore.query.recorded import RecordedQuery
    from buffetstore.schemas.contract import Contract

MIB: Final = 2**20
_NARROW: Final = 10  # times shorter than a bucket: a time that most of its file is read in vain for
_LARGE_FILE: Final = 8 * MIB  # below it a file is fetched whole in any case
_SKEWED: Final = 8
_MANY: Final = 1000
_SMALL_GROUP, _LARGE_GROUP = MIB, 256 * MIB
_FEW_ROWS: Final = 65_536  # in a row group; more are not too few, however well they compress


def severity(saved: int, ratio: float) -> Severity:
    """Return how much it hurts that there are so many files too many, and so many times the files there should be."""
    if saved >= _MANY or (ratio >= 10 and saved * 10 >= _MANY):
        return "high"
    return "medium" if ratio >= 2 else "low"


def fewer_files(queries: Sequence[RecordedQuery], share: float) -> int:
    """Return how many files fewer the queries open where that share of files is left; each opens one at least."""
    return round(sum(each.files_scanned - max(1, each.files_scanned * share) for each in queries if each.files_scanned))


def leading(contract: Contract) -> str | None:
    """Return the column that rows are sorted by first, beside partitions and the event time, which files tell apart."""
    apart = (*contract.partition_by, contract.event_time)
    return next((name for name in contract.sort_by or contract.key if name not in apart), None)


def _order(contract: Contract) -> list[str]:
    return [name for name in contract.sort_by or contract.key if name not in contract.partition_by] or list(
        contract.key
    )


def _share_used(facts: LayoutFacts, query: RecordedQuery) -> float:
    """Return which share of the rows of the files that a query opened it was answered with."""
    opened = query.files_scanned * facts.rows / max(facts.count, 1)
    return min(1.0, query.rows / opened) if opened else 1.0


def coarse_buckets(facts: LayoutFacts, queries: Sequence[RecordedQuery]) -> Iterator[LayoutFinding]:
    """Large files of months and years of which a query wants a day."""
    order = _order(facts.contract)
    buckets = facts.buckets
    if order[0] == facts.contract.event_time or not facts.bytes:
        return
    days = float((buckets.days * buckets.bytes).sum() / facts.bytes)
    narrow = [
        each
        for each in queries
        if each.span is not None
        and each.span.total_seconds() / 86_400 * _NARROW <= days
        and not each.filters_by(order[0])
        and each.files_scanned
        and each.bytes_read / each.files_scanned >= _LARGE_FILE
    ]
    if not narrow:
        return
    fewer = sum(each.bytes_read * (1 - _share_used(facts, each)) for each in narrow)
    named = ", ".join(map(repr, (facts.contract.event_time, *(c for c in order if c != facts.contract.event_time))))
    yield LayoutFinding(
        "coarse_buckets",
        "high" if 2 * len(narrow) > len(queries) else "medium",
        f"{len(narrow):,} of {len(queries):,} queries ask for a small part of the {days:,.0f} days that a file holds "
        f"in the mean, and for no {order[0]}: rows in order of time (sort_by=({named}) in the contract) would let them "
        "read less",
        {"queries": len(narrow), "days_per_file": round(days, 1)},
        bytes_fewer=int(fewer),
    )


def skew(facts: LayoutFacts, _queries: Sequence[RecordedQuery]) -> Iterator[LayoutFinding]:
    """Say which bucket is far larger than others of its length."""
    buckets = facts.buckets
    for length in np.unique(buckets.days):
        alike = np.flatnonzero(buckets.days == length)
        sizes = buckets.bytes[alike]
        middle = float(np.median(sizes))
        worst = alike[int(sizes.argmax())]
        if len(alike) < 4 or sizes.max() < _SKEWED * middle or sizes.max() < _LARGE_FILE:
            continue
        ratio = float(sizes.max() / max(middle, 1))
        yield LayoutFinding(
            "skew",
            "medium" if ratio >= 10 * _SKEWED else "low",
            f"{buckets.names[worst]} holds {sizes.max() / MIB:,.0f} MiB, {ratio:,.0f} times what is usual among "
            f"{len(alike):,} like it: what waits for all of them waits for it"
            + (f"; {', '.join(facts.contract.partition_by)} divides rows badly" if facts.contract.partition_by else ""),
            {"bucket": buckets.names[worst], "bytes": int(sizes.max()), "median_bytes": round(middle)},
        )


def sort_order(facts: LayoutFacts, queries: Sequence[RecordedQuery]) -> Iterator[LayoutFinding]:
    """Queries that filter by another column than the one by which rows are sorted first."""
    contract = facts.contract
    order = _order(contract)
    weights: Counter[str] = Counter()
    for query in queries:
        for column in {each.column for each in query.filters if query.filters_by(each.column)}:
            weights[column] += max(query.bytes_read, 1)
    usable = {
        name
        for name in weights
        if name not in (*contract.partition_by, contract.event_time)
        and name in contract.schema.names
        and has_bounds(contract.schema.field(name).type)
        and (contract.revisions != "keep" or name in contract.key)
    }
    best = max(usable, key=lambda name: (weights[name], name == order[0], name), default=None)
    if best is None or best == order[0] or weights[best] < 2 * weights[order[0]]:
        return
    asking = [each for each in queries if each.filters_by(best) and not each.filters_by(order[0])]
    fewer = int(sum(each.bytes_read * (1 - _share_used(facts, each)) for each in asking))
    total = sum(each.bytes_read for each in queries)
    if 4 * fewer < total:
        return  # they want most of what they read
    better = (best, *(name for name in order if name != best))
    yield LayoutFinding(
        "sort_order",
        "high" if 2 * fewer > total else "medium",
        f"{len(asking):,} of {len(queries):,} queries filter by {best}, and rows are sorted by {order[0]} first: with "
        f"sort_by={better!r} in the contract new and compacted files would answer them by a part",
        {"sort_by": list(better), "queries": len(asking)},
        bytes_fewer=fewer,
    )


def columns_without_statistics(facts: LayoutFacts, queries: Sequence[RecordedQuery]) -> Iterator[LayoutFinding]:
    """Columns that are filtered by, or sorted by, of which files tell nothing."""
    asked = {each.column for query in queries for each in query.filters if query.filters_by(each.column)}
    asked |= {name for name in _order(facts.contract) if name != facts.contract.event_time}
    blind = {
        name: int(facts.without_bounds(name).sum())
        for name in sorted(asked)
        if facts.column(f"null_count.{name}") is not None
    }
    found = {name: count for name, count in blind.items() if count * 10 > facts.count}
    if not found:
        return
    told = ", ".join(f"{name} ({count:,})" for name, count in found.items())
    hurt = [each for each in queries if any(each.filters_by(name) for name in found)]
    yield LayoutFinding(
        "columns_without_statistics",
        "medium" if hurt else "low",
        f"files do not tell between which values they lie: {told} of {facts.count:,}. The first 32 columns are told, "
        "or those of the property delta.dataSkippingStatsColumns; floats with NaN never are",
        {"columns": found, "queries": len(hurt)},
    )


def unneeded_files(facts: LayoutFacts, unneeded: tuple[int, int] | None) -> Iterator[LayoutFinding]:
    """Say what is stored and needed by no version."""
    count, size = unneeded or (0, 0)
    if count:
        yield LayoutFinding(
            "unneeded_files",
            "medium" if size > facts.bytes else "low",
            f"{count:,} files ({size / MIB:,.1f} MiB, beside {facts.bytes / MIB:,.1f} MiB that are read) are kept "
            "for no version within retention: vacuum deletes them",
            {"files": count, "bytes": size},
            action=Vacuum(),
        )


def row_groups(groups: pa.Table | None) -> Iterator[LayoutFinding]:
    """Say whether row groups are so small that each is a request, or so large that nothing can be left out."""
    if groups is None or not groups.num_rows:
        return
    sizes = groups["bytes"].to_numpy()
    several = pc.count_distinct(groups["path"]).as_py()
    mean = float(sizes.mean())
    rows = float(groups["rows"].to_numpy().mean())
    too_small = mean < _SMALL_GROUP and rows < _FEW_ROWS and groups.num_rows > 2 * several
    if not too_small and sizes.max() <= _LARGE_GROUP:
        return
    hurts = (
        f"{groups.num_rows / several:,.0f} row groups a file of {mean / MIB:,.2f} MiB: each column of each is a range "
        "to be fetched"
        if too_small
        else f"row groups of up to {sizes.max() / MIB:,.0f} MiB: little of a file can be left out"
    )
    yield LayoutFinding(
        "row_groups",
        "medium",
        f"{hurts}; a file should have groups of some {_SMALL_GROUP / MIB:,.0f} to {_LARGE_GROUP / MIB:,.0f} MiB "
        "(ParquetFormatter's row_group_rows)",
        {"row_groups": groups.num_rows, "files": several, "mean_bytes": round(mean), "mean_rows": round(rows)},
    )
