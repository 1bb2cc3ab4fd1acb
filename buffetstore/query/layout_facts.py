"""Numbers of a table's layout, by a few kernels over its list of files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.tables.operations.bins import BUCKET_TAG, Coarsening, arrow_bytes, plan_bins, row_width
from buffetstore.tables.operations.compact import MEMORY_BYTES

if TYPE_CHECKING:
    from datetime import date

    from numpy.typing import NDArray

    from buffetstore.schemas.contract import Contract
    from buffetstore.tables.operations.bins import Bin

_BUCKET = re.compile(r"\d{4}(-\d\d){0,2}")
_DAYS = {4: 365, 7: 30, 10: 1}  # how many, by the length of a bucket's name


class LayoutFacts:
    """The files of a table, and what can be counted of them.

    Parameters
    ----------
    files:
        The files with their statistics (`Snapshot.with_statistics`).
    today:
        The day by which months and years are over.
    """

    def __init__(self, files: pa.Table, contract: Contract, today: date, *, memory: int = MEMORY_BYTES) -> None:
        self.files = files
        self.contract = contract
        self._today = today
        self._memory = memory
        self.sizes: NDArray[np.int64] = files["size"].to_numpy()

    @property
    def count(self) -> int:
        """How many files there are."""
        return int(self.files.num_rows)

    @cached_property
    def rows(self) -> int:
        """How many rows they are known to have."""
        return int(pc.sum(self.files["num_records"]).as_py() or 0)

    @cached_property
    def bytes(self) -> int:
        """How large they are together."""
        return int(self.sizes.sum())

    @cached_property
    def buckets(self) -> Buckets:
        """The spans of time, or partitions, that files are of."""
        names = pc.map_lookup(self.files["tags"], pa.scalar(BUCKET_TAG, pa.string()), "first")
        if self.contract.partition_by or names.null_count:
            folders = pc.replace_substring_regex(self.files["path"], r"/?[^/]*$", "")
            names = folders if self.contract.partition_by else pc.coalesce(names, folders)
        encoded = pc.dictionary_encode(names).combine_chunks()
        encoded = pa.concat_arrays(encoded.chunks) if isinstance(encoded, pa.ChunkedArray) else encoded
        codes: NDArray[np.int64] = encoded.indices.to_numpy().astype(np.int64)
        known = tuple(encoded.dictionary.to_pylist())
        size = len(known)
        return Buckets(
            known,
            codes,
            np.bincount(codes, minlength=size),
            np.bincount(codes, self.sizes, size).astype(np.int64),
            np.array([_DAYS[len(name)] if _BUCKET.fullmatch(name) else 0 for name in known], np.int64),
        )

    def bins(self, target_bytes: int, coarsening: Coarsening | None, chosen: pa.Table | None = None) -> list[Bin]:
        """Return what a compaction would put together."""
        return plan_bins(
            self.files,
            target_bytes=target_bytes,
            memory=self._memory,
            row_bytes=self._row_bytes,
            partition_columns=self.contract.partition_by,
            coarsening=coarsening,
            today=self._today,
            chosen=chosen,
            revisions_of=self.contract.key if self.contract.revisions == "keep" else None,
        )

    @cached_property
    def _row_bytes(self) -> int:
        return row_width(self.contract.schema)

    @cached_property
    def needs(self) -> NDArray[np.int64]:
        """About how many bytes the rows of each file take in memory."""
        return arrow_bytes(self.files, self._row_bytes)

    def column(self, name: str) -> Any:
        """Return a column of the files' statistics; None where there is none."""
        return self.files[name] if name in self.files.column_names else None

    def without_bounds(self, column: str) -> NDArray[np.bool_]:
        """Return for each file whether nothing is known by which it could be left out for its values of a column."""
        low, nulls = self.column(f"min.{column}"), self.column(f"null_count.{column}")
        if low is None:
            return np.ones(self.count, np.bool_)
        only_nulls = False if nulls is None else pc.fill_null(pc.equal(nulls, self.files["num_records"]), False)
        found: NDArray[np.bool_] = pc.and_(pc.is_null(low), pc.invert(only_nulls)).to_numpy()
        return found

    def depths(self, column: str) -> NDArray[np.float64]:
        """Return for each bucket how many of its files one value of a column is looked for in, in the mean.

        It is the mean over the values at which files begin; files without bounds are always opened.
        """
        groups, size = self.buckets.of_file, len(self.buckets.names)
        blind = self.without_bounds(column)
        always = np.bincount(groups[blind], minlength=size).astype(np.float64)
        low, high = self.column(f"min.{column}"), self.column(f"max.{column}")
        if low is None or high is None or pa.types.is_boolean(low.type):
            return always
        known = pc.and_(pc.is_valid(low), pc.is_valid(high)).to_numpy()
        if not known.any():
            return always
        ends = pa.chunked_array([*low.filter(pa.array(known)).chunks, *high.filter(pa.array(known)).chunks])
        ranks = pc.rank(ends, "ascending", tiebreaker="dense").to_numpy().astype(np.int64)
        count = int(known.sum())
        # One number for bucket and value: files of earlier buckets have all begun and ended.
        base = groups[known] * (int(ranks.max()) + 1)
        begins, finishes = base + ranks[:count], base + ranks[count:]
        begun = np.searchsorted(np.sort(begins), begins, side="right")
        over = np.searchsorted(np.sort(finishes), begins, side="left")
        total = np.bincount(groups[known], begun - over, size)
        files = np.bincount(groups[known], minlength=size)
        found: NDArray[np.float64] = always + np.divide(total, files, out=np.zeros(size), where=files > 0)
        return found

    def times(self, chosen: NDArray[np.bool_]) -> tuple[Any, Any]:
        """Return the first and the last event time of some files; None where one of them does not tell."""
        low, high = self.column(f"min.{self.contract.event_time}"), self.column(f"max.{self.contract.event_time}")
        if low is None or high is None:
            return None, None
        mask = pa.array(chosen)
        lows, highs = low.filter(mask), high.filter(mask)
        if lows.null_count or highs.null_count:
            return None, None
        return pc.min(lows).as_py(), pc.max(highs).as_py()


@dataclass(frozen=True, slots=True)
class Buckets:
    """Spans of time that files are of.

    Parameters
    ----------
    names:
        ``2024``, ``2024-01`` or ``2024-01-15``; of partitions and other files, their folders.
    of_file:
        For each file which of them it is of.
    files, bytes, days:
        For each of them how many files it has, their size, and how long it is; 0 where it is no span of time.
    """

    names: tuple[str, ...]
    of_file: NDArray[np.int64]
    files: NDArray[np.int64]
    bytes: NDArray[np.int64]
    days: NDArray[np.int64]
