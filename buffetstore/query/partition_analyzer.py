"""What hurts in the layout of a table, judged by its list of files and by the queries that were asked.

Bloom filters are not among what is suggested: rows are sorted by what is asked for, which statistics find as well.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.query.layout_facts import LayoutFacts
from buffetstore.query.layout_findings import (
    MIB,
    coarse_buckets,
    columns_without_statistics,
    fewer_files,
    leading,
    row_groups,
    severity,
    skew,
    sort_order,
    unneeded_files,
)
from buffetstore.query.layout_report import Compact, LayoutFinding, LayoutReport, worst_first
from buffetstore.tables.operations.bins import Coarsening
from buffetstore.tables.operations.compact import MEMORY_BYTES, TARGET_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date

    from numpy.typing import NDArray

    from buffetstore.query.recorded import RecordedQuery
    from buffetstore.schemas.contract import Contract
    from buffetstore.tables.operations.bins import Bin

_FEWEST: Final = 2  # files fewer that are worth a word
_TINY_FILE: Final = MIB
_LEFT_ALONE: Final = 0.74  # of the target: what is larger is not compacted
_EAGER: Final = Coarsening(timedelta(0), timedelta(0))  # whatever is over


class PartitionAnalyzer:
    """Looks at layouts.

    Parameters
    ----------
    target_bytes:
        The size that files should have.
    memory:
        Bytes of rows that a compaction holds at a time.
    """

    def __init__(self, *, target_bytes: int = TARGET_BYTES, memory: int = MEMORY_BYTES) -> None:
        self._target = target_bytes
        self._memory = memory

    def analyze(
        self,
        files: pa.Table,
        contract: Contract,
        queries: Sequence[RecordedQuery] = (),
        *,
        today: date,
        table_version: int = -1,
        groups: pa.Table | None = None,
        unneeded: tuple[int, int] | None = None,
    ) -> LayoutReport:
        """Return what is to be said of the files. It takes about a second for a hundred thousand: call it in a thread.

        Parameters
        ----------
        files:
            The files with statistics (`Snapshot.with_statistics`) of the key, of the event time, and of the columns
            that queries filter by.
        queries:
            What was asked of the data type.
        today:
            The day by which months and years are over.
        groups:
            Where footers are known: `path`, `rows` and `bytes` of each row group.
        unneeded:
            Where it is known: how many files no version needs, and their bytes.
        """
        facts = LayoutFacts(files, contract, today, memory=self._memory)
        findings: list[LayoutFinding] = []
        if facts.count:
            bins = facts.bins(self._target, None)
            findings += self._small_files(facts, bins, queries)
            findings += self._fine_buckets(facts, bins, queries)
            findings += self._unclustered(facts, queries)
            findings += self._unpruned(facts, bins, queries)
            findings += self._deleted(facts, bins)
            for look in (coarse_buckets, skew, sort_order, columns_without_statistics):
                findings += look(facts, queries)
        findings += row_groups(groups)
        findings += unneeded_files(facts, unneeded)
        return LayoutReport(
            contract.data_type,
            table_version,
            facts.count,
            facts.rows,
            facts.bytes,
            len(facts.buckets.names) if facts.count else 0,
            len(queries),
            worst_first(findings),
        )

    def _small_files(
        self, facts: LayoutFacts, bins: Sequence[Bin], queries: Sequence[RecordedQuery]
    ) -> Iterator[LayoutFinding]:
        saved = _saved(bins)
        if saved < _FEWEST:
            return
        left = facts.count - saved
        taken = sum(each.files.num_rows for each in bins)
        size = sum(each.size for each in bins) / taken
        yield LayoutFinding(
            "small_files",
            severity(saved, facts.count / left),
            f"{taken:,} of {facts.count:,} files are small ({size / MIB:,.2f} MiB in the mean): compaction makes "
            f"{taken - saved:,} of them",
            {"small": taken, "mean_bytes": round(size), "files": facts.count, "files_after": left},
            files_fewer=fewer_files(queries, left / facts.count),
            action=Compact(self._target, None),
        )

    def _fine_buckets(
        self, facts: LayoutFacts, bins: Sequence[Bin], queries: Sequence[RecordedQuery]
    ) -> Iterator[LayoutFinding]:
        """Buckets so small that those of a month or year, when it is over, should be one."""
        now = facts.count - _saved(bins)
        coarser = facts.bins(self._target, _EAGER)
        after = facts.count - _saved(coarser)
        if now - after < _FEWEST:
            return
        asked_by_time = [each for each in queries if each.span is not None and each.span.days <= 2]
        mean = facts.bytes / facts.count
        if 2 * len(asked_by_time) > len(queries) and mean >= _TINY_FILE:
            return  # days are what is asked for
        joined = [each for each in coarser if each.bucket is not None]
        rows = facts.rows / max(len(facts.buckets.names), 1)
        yield LayoutFinding(
            "fine_buckets",
            severity(now - after, now / after),
            f"{len(facts.buckets.names):,} buckets of time hold {rows:,.0f} rows each: those of months and years that "
            f"are over fit into {len({each.bucket for each in joined}):,}, in {now - after:,} files fewer",
            {"buckets": len(facts.buckets.names), "rows_per_bucket": round(rows), "files": now, "files_after": after},
            files_fewer=fewer_files(queries, after / facts.count),
            action=Compact(self._target, _EAGER),
        )

    def _unclustered(self, facts: LayoutFacts, queries: Sequence[RecordedQuery]) -> Iterator[LayoutFinding]:
        """Files of one bucket whose ranges of the leading column overlap: all of them are opened for one value."""
        lead = leading(facts.contract)
        if lead is None:
            return
        depths = facts.depths(lead)
        bad = depths >= 2
        if not bad.any():
            return
        of_file = facts.buckets.of_file
        chosen = bad[of_file]
        target = max(self._target, int(facts.sizes[chosen].max() / _LEFT_ALONE))
        start, end = facts.times(chosen)
        bins = facts.bins(target, None, facts.files.filter(pa.array(chosen))) if start is not None else []
        files = facts.buckets.files
        groups = files - _taken_by_bucket(facts, bins)
        after = np.where(bad, np.maximum(1.0, depths * groups / np.maximum(files, 1)), depths)
        before_sum, after_sum = float(depths.sum()), float(after.sum())
        share = after_sum / before_sum
        asked = [each for each in queries if each.filters_by(lead)]
        worst = int(depths.argmax())
        mends = share < 0.95
        advice = (
            f"putting them together sorted leaves {after_sum:,.0f}"
            if mends
            else "they are too large to be sorted together: write them in larger batches, or by fewer writers"
        )
        yield LayoutFinding(
            "unclustered",
            "high" if depths[worst] >= 10 else "medium" if depths[worst] >= 4 else "low",
            f"one {lead} is looked for in {before_sum:,.0f} files, though there are {len(depths):,} buckets of time; "
            f"in {depths[worst]:,.1f} of the {files[worst]:,} of {facts.buckets.names[worst]}: {advice}",
            {
                "column": lead,
                "files_opened": round(before_sum, 1),
                "files_opened_after": round(after_sum, 1),
                "buckets": int(bad.sum()),
                "worst_bucket": facts.buckets.names[worst],
                "worst_depth": round(float(depths[worst]), 1),
            },
            files_fewer=fewer_files(asked, share),
            bytes_fewer=int(sum(each.bytes_read for each in asked) * (1 - share)),
            action=Compact(target, None, start, _after(end)) if mends else None,
        )

    def _unpruned(
        self, facts: LayoutFacts, bins: Sequence[Bin], queries: Sequence[RecordedQuery]
    ) -> Iterator[LayoutFinding]:
        time = facts.contract.event_time
        blind = pc.is_null(facts.files["num_records"]).to_numpy() | facts.without_bounds(time)
        count = int(blind.sum())
        if not count:
            return
        mended = _among(facts, bins, blind)
        advice = "compaction writes them anew" if mended else "rewrite them: no query can leave them out"
        yield LayoutFinding(
            "files_without_statistics",
            "high" if count * 10 > facts.count else "medium",
            f"{count:,} of {facts.count:,} files do not tell their rows or their {time}, so that every query reads "
            f"them: {advice}",
            {"without": count, "files": facts.count, "compacted": mended},
            files_fewer=sum(min(count, each.files_scanned) for each in queries),
            action=Compact(self._target, None) if mended else None,
        )

    def _deleted(self, facts: LayoutFacts, bins: Sequence[Bin]) -> Iterator[LayoutFinding]:
        vectors = facts.files["deletion_vector"]
        marked = pc.is_valid(vectors).to_numpy()
        count = int(marked.sum())
        if not count:
            return
        found = pc.extract_regex(vectors.filter(pa.array(marked)), r'"cardinality"\s*:\s*(?P<n>\d+)')
        deleted = int(pc.sum(pc.struct_field(found, "n").cast(pa.int64())).as_py() or 0)
        share = deleted / max(deleted + facts.rows, 1)
        mended = _among(facts, bins, marked)
        yield LayoutFinding(
            "deletion_vectors",
            "high" if share > 0.3 else "medium" if share > 0.05 else "low",
            f"{count:,} files hold {deleted:,} rows that are deleted ({share:.0%} of what is read), and need a second "
            f"file to tell which: compaction rewrites {mended:,} of them",
            {"files": count, "rows_deleted": deleted, "share": round(share, 4), "compacted": mended},
            action=Compact(self._target, None) if mended else None,
        )


def _saved(bins: Sequence[Bin]) -> int:
    return sum(each.files.num_rows - each.outputs for each in bins)


def _places(facts: LayoutFacts, bins: Sequence[Bin]) -> NDArray[np.int64]:
    """Return which of the files the bins take, bin after bin."""
    if not bins:
        return np.zeros(0, np.int64)
    paths = pa.concat_tables([each.files.select(["path"]) for each in bins])["path"]
    found: NDArray[np.int64] = pc.index_in(paths, value_set=facts.files["path"].combine_chunks()).to_numpy()
    return found.astype(np.int64)


def _taken_by_bucket(facts: LayoutFacts, bins: Sequence[Bin]) -> NDArray[np.int64]:
    """Return how many files fewer stand beside each other in each bucket: the pieces of a bin do not overlap."""
    of_file = facts.buckets.of_file[_places(facts, bins)]
    size = len(facts.buckets.names)
    ends = np.cumsum([each.files.num_rows for each in bins], dtype=np.int64) - 1
    return np.bincount(of_file, minlength=size) - np.bincount(of_file[ends], minlength=size)


def _among(facts: LayoutFacts, bins: Sequence[Bin], marked: NDArray[np.bool_]) -> int:
    return int(marked[_places(facts, bins)].sum())


def _after(end: datetime | None) -> datetime | None:
    return None if end is None else end + timedelta(microseconds=1)
