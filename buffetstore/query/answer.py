"""The rows that a query found, and what was read and pruned to find them."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from zoneinfo import ZoneInfo

import pyarrow as pa

from buffetstore.errors import InvalidInputError, MissingDependencyError
from buffetstore.resilience.threads import give_way
from buffetstore.schemas import with_nanoseconds

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

Decimals: TypeAlias = Literal["float", "exact"]

_CHUNK_ROWS = 2_000
_UTC = ZoneInfo("UTC")  # held, or pyarrow reads it from disk when a caller's loop asks for the first Python value


class ArrowRows:
    """Rows as an Arrow table, and as everything that people make of one."""

    __slots__ = ()

    table: pa.Table

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return int(self.table.num_rows)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Give the rows to any consumer of Arrow's C stream interface: polars, DuckDB, pandas, nanoarrow."""
        return self.table.__arrow_c_stream__(requested_schema)

    def __len__(self) -> int:
        return self.rows

    def to_pylist(self) -> list[dict[str, Any]]:
        """Return the rows as dicts, Decimals and datetimes exact.

        This takes some 5 microseconds a row and holds the interpreter: of more than a few thousand rows call it as
        ``await asyncio.to_thread(answer.to_pylist)``, or stay with `table`.
        """
        rows: list[dict[str, Any]] = []
        for start in range(0, self.table.num_rows, _CHUNK_ROWS):
            rows += self.table.slice(start, _CHUNK_ROWS).to_pylist()
            give_way()
        return rows

    def to_pandas(self, decimals: Decimals = "float") -> pd.DataFrame:
        """Return a pandas data frame: decimals as float64, or with ``decimals="exact"`` as Decimal objects.

        Times that are kept with their nanoseconds apart are whole.

        Raises
        ------
        MissingDependencyError
            pandas is not installed.
        """
        if importlib.util.find_spec("pandas") is None:
            raise MissingDependencyError("pandas", "pandas")
        frame: pd.DataFrame = self._table(decimals).to_pandas()
        return frame

    def to_polars(self, decimals: Decimals = "float") -> pl.DataFrame:
        """Return a polars data frame: decimals as Float64, or with ``decimals="exact"`` as Decimal.

        Times that are kept with their nanoseconds apart are whole.

        Raises
        ------
        MissingDependencyError
            polars is not installed.
        """
        if importlib.util.find_spec("polars") is None:
            raise MissingDependencyError("polars", "polars")
        from buffetstore.query.polars_frame import to_polars

        return to_polars(self._table(decimals))

    def _table(self, decimals: Decimals) -> pa.Table:
        if decimals not in {"float", "exact"}:
            raise InvalidInputError(f"decimals={decimals!r} is neither 'float' nor 'exact'")
        table = with_nanoseconds(self.table)
        return table if decimals == "exact" else with_floats(table)


@dataclass(frozen=True, slots=True)
class QueryAnswer(ArrowRows):
    """Rows in order of their key, and how they were found.

    Parameters
    ----------
    table:
        The rows, exact: decimals as decimals, times as UTC microseconds (`buffetstore.schemas.with_nanoseconds` joins
        those that have nanoseconds beside them).
    data_type, table_version:
        What was read, as of which version.
    partitions_scanned, partitions_total:
        Time buckets (or Delta partitions) that had to be read, of all there are.
    files_scanned, files_pruned:
        Data files that were read, and those that were not: statistics ruled them out, or `limit` was reached before.
    bytes_read, requests:
        Bytes of data files that the store sent, and the requests for them; what came from memory is in neither.
    cache_hit:
        Files were needed, and every byte of them came from memory or disk; or the answer itself was kept.
    seconds:
        From the call to the answer.
    short_cut:
        What made reading some files needless: ``"metadata"`` (the log's statistics told what was asked of them),
        ``"top-k"`` (their bounds told that none of their rows is among the first).
    notes:
        What a reader of the answer ought to know.
    """

    table: pa.Table
    data_type: str
    table_version: int
    partitions_scanned: int = 0
    partitions_total: int = 0
    files_scanned: int = 0
    files_pruned: int = 0
    bytes_read: int = 0
    requests: int = 0
    cache_hit: bool = False
    seconds: float = 0.0
    short_cut: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def partitions_pruned(self) -> int:
        """Time buckets that were not read."""
        return self.partitions_total - self.partitions_scanned


def with_floats(table: pa.Table) -> pa.Table:
    """Return the table with every decimal, those inside of lists and structs too, as float64."""
    fields = [field.with_type(_with_floats(field.type)) for field in table.schema]
    return table.cast(pa.schema(fields)) if fields != list(table.schema) else table


def _with_floats(kind: Any) -> Any:
    if pa.types.is_decimal(kind):
        return pa.float64()
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_with_floats(kind.value_type)))
    if pa.types.is_struct(kind):
        children = (kind.field(index) for index in range(kind.num_fields))
        return pa.struct([child.with_type(_with_floats(child.type)) for child in children])
    return kind
