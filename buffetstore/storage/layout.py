"""Where rows go: files of one time bucket each, sorted inside as the contract says, with names for people.

The bucket of a write is the finest of day, month and year that makes at most `MAX_BUCKETS` files of it: a day's bars
land in ``year=2024/month=01/day=15/``, twenty years of daily bars in twenty year files. Paths are never parsed;
readers prune by the log's statistics.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import UnsupportedFeatureError
from buffetstore.query.ordering import sort_rows
from buffetstore.tables.files import DataPart, default_layout
from buffetstore.tables.operations.bins import BUCKET_TAG, bucket_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from buffetstore.schemas.contract import Contract, Granularity
    from buffetstore.tables.files import Layout

MAX_BUCKETS: Final = 32
MAX_FILE_ROWS: Final = 2_000_000
MAX_NAME_BYTES: Final = 80

_UNITS: Final[tuple[tuple[Granularity, str], ...]] = (("day", "D"), ("month", "M"), ("year", "Y"))


def time_bucket_layout(contract: Contract, *, max_file_rows: int = MAX_FILE_ROWS) -> Layout:
    """Return the layout of a data type: a pure function from the rows of a write to its files.

    Raises
    ------
    UnsupportedFeatureError
        The contract asks for a partition column that its rows do not have.
    """
    for column in contract.partition_by:
        if column not in contract.schema.names:
            raise UnsupportedFeatureError(
                f"{contract.data_type}: partition_by={column!r} would be a generated column, which is not written: "
                "leave it out (files are pruned by time without it), or name a column of the record"
            )

    by_partition = default_layout(contract.partition_by)

    def layout(table: pa.Table) -> list[DataPart]:
        if table.num_rows == 0:
            return []
        parts = by_partition(table) if contract.partition_by else _buckets(table, contract)
        return [file for part in parts for file in _files(part, contract, max_file_rows)]

    return layout


def granularity_of(days: NDArray[np.datetime64]) -> Granularity:
    """Return the finest granularity that puts the days into at most `MAX_BUCKETS` buckets; years where none does."""
    for granularity, unit in _UNITS:
        if len(np.unique(days.astype(f"datetime64[{unit}]"))) <= MAX_BUCKETS:
            return granularity
    return "year"


def _buckets(table: pa.Table, contract: Contract) -> Iterator[DataPart]:
    microseconds = _event_times(table, contract)
    days = microseconds.astype("datetime64[D]")
    unit = dict(_UNITS)[granularity_of(_distinct(days))]
    of_row = days.astype(f"datetime64[{unit}]")
    if not bool(np.all(of_row[1:] >= of_row[:-1])):
        order = np.argsort(of_row, kind="stable")
        table, of_row = table.take(pa.array(order)), of_row[order]
    starts = np.concatenate(([0], np.flatnonzero(of_row[1:] != of_row[:-1]) + 1, [len(of_row)]))
    for start, end in pairwise(starts.tolist()):
        name = str(of_row[start])
        yield DataPart(table.slice(start, end - start), bucket_directory(name), tags={BUCKET_TAG: name})


def _distinct(days: NDArray[np.datetime64]) -> NDArray[np.datetime64]:
    """Return the days without repetitions next to each other, which is nearly all of them, and then all of them."""
    changes = np.flatnonzero(days[1:] != days[:-1]) + 1
    return np.unique(days[np.concatenate(([0], changes))])


def _files(part: DataPart, contract: Contract, most: int) -> Iterator[DataPart]:
    order = contract.sort_by or contract.key
    rows = sort_rows(part.table, [name for name in order if name not in part.partition_values])
    size = -(-rows.num_rows // -(-rows.num_rows // most))
    for start in range(0, rows.num_rows, size):
        piece = rows.slice(start, size)
        yield replace(part, table=piece, stem=file_stem(piece, contract))


def file_stem(rows: pa.Table, contract: Contract) -> str:
    """Return the first part of a file's name, for people: ``AAPL_market_20240115_143052_v1``.

    It has the symbol where the file holds one only, the category, the UTC time of the file's earliest row, and the
    major schema version. A type with models reads ``forecast_AAPL_model-drift_20240115_143052_v1``.
    """
    earliest = pc.min(rows[contract.event_time]).as_py()
    suffix = f"{earliest:%Y%m%d_%H%M%S}_v{contract.version.split('.')[0]}"
    category = encoded(contract.category or contract.data_type) or "data"
    symbol = _only(rows, contract.symbol)
    if "model_name" in contract.key:
        model = _only(rows, "model_name")
        return "_".join(filter(None, (category, symbol, model and f"model-{model}", suffix)))
    return "_".join(filter(None, (symbol, category, suffix)))


def encoded(name: str) -> str | None:
    """Return `name` as part of a file's name, percent-encoded; None where it is empty or too long for one.

    It cannot leave its folder, and never starts with a dot or an underscore: such files count as hidden.
    """
    text = quote(name, safe="")
    if text[:1] in {".", "_"}:
        text = f"%{ord(text[0]):02X}{text[1:]}"
    return text if 0 < len(text) <= MAX_NAME_BYTES else None


def _only(rows: pa.Table, column: str | None) -> str | None:
    """Return the encoded value of `column` if all rows have the same one."""
    if column is None or column not in rows.column_names:
        return None
    values = rows[column]
    first = values[0].as_py()
    if not isinstance(first, str) or values.null_count:
        return None
    return encoded(first) if pc.all(pc.equal(values, pa.scalar(first, values.type))).as_py() else None


def _event_times(table: pa.Table, contract: Contract) -> NDArray[np.datetime64]:
    numbers = table[contract.event_time].cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    return np.asarray(numbers.to_numpy()).view("datetime64[us]")
