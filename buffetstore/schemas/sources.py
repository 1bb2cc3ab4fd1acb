"""What can be taken in: rows (dicts, models) and columns (Arrow, pandas, polars, dict of columns), told apart.

pandas and polars are never imported: an object's own module says that it is theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel

from buffetstore.errors import InvalidInputError, MappingError

if TYPE_CHECKING:
    from buffetstore.schemas.mapping import Mapping as SourceMapping

ACCEPTED = "a list of dicts or models, one of them, a dict of columns, an Arrow table, a pandas or a polars DataFrame"


_HELD_BY_ARROW = frozenset({"StringDtype", "ArrowDtype", "CategoricalDtype"})
"""Types of pandas whose elements are Python objects, but not in memory."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Records, one object each."""

    rows: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns by name: Arrow arrays, or sequences of Python values."""

    columns: dict[str, Any]
    rows: int
    from_index: dict[str, Any] = field(default_factory=dict)


def open_source(data: Any, mapping: SourceMapping) -> Rows | Columns:
    """Return the data as rows or as columns.

    Raises
    ------
    InvalidInputError
        The data is of a kind that is not taken in, or is empty.
    MappingError
        The mapping's header or index does not fit it.
    """
    source = _open(data, mapping)
    if mapping.index_fields and not (isinstance(source, Columns) and source.from_index):
        raise MappingError(f"index={mapping.index!r} is for pandas frames; the data is {_kind(data)}")
    if mapping.header and isinstance(source, Rows):
        raise MappingError(f"header={mapping.header!r} is for sources without names; the data is {_kind(data)}")
    rows = len(source.rows) if isinstance(source, Rows) else source.rows
    if not rows:
        raise InvalidInputError(f"there are no rows in the data ({_kind(data)}); store at least one")
    return source


def _open(data: Any, mapping: SourceMapping) -> Rows | Columns:
    packages = {base.__module__.partition(".")[0] for base in type(data).__mro__}
    if isinstance(data, BaseModel):
        return Rows([data])
    if isinstance(data, Mapping):
        return _from_mapping(data)
    if isinstance(data, list | tuple):
        return Rows(data)
    if "pandas" in packages and hasattr(data, "columns"):
        return _from_pandas(data, mapping)
    if "polars" in packages and type(data).__name__ == "LazyFrame":
        raise InvalidInputError("a polars LazyFrame has no rows yet: call .collect() first")
    if isinstance(data, pa.RecordBatch):
        data = pa.Table.from_batches([data])
    elif isinstance(data, pa.RecordBatchReader):
        data = data.read_all()
    elif not isinstance(data, pa.Table) and hasattr(data, "__arrow_c_stream__") and hasattr(data, "columns"):
        try:
            data = pa.table(data)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise InvalidInputError(f"{_kind(data)} has columns that Arrow cannot hold: {error}") from error
    if isinstance(data, pa.Table):
        return _columns(data.column_names, data.columns, data.num_rows, mapping)
    raise InvalidInputError(f"{_kind(data)} cannot be taken in; give {ACCEPTED}")


def _from_mapping(data: Mapping[str, Any]) -> Rows | Columns:
    if not data:
        return Rows([])
    if not all(_is_column(value) for value in data.values()):
        return Rows([data])
    lengths = {name: len(value) for name, value in data.items()}
    if len(set(lengths.values())) > 1:
        raise InvalidInputError(f"columns differ in length: {', '.join(f'{n} {c}' for n, c in lengths.items())}")
    columns = {name: _values(value) for name, value in data.items()}
    return Columns(columns, next(iter(lengths.values())))


def _is_column(value: Any) -> bool:
    return isinstance(value, list | tuple | np.ndarray | pa.Array | pa.ChunkedArray) or (
        hasattr(value, "__len__") and hasattr(value, "dtype") and hasattr(value, "to_numpy")
    )


def _values(column: Any) -> Any:
    """Return one column as Arrow values, or as Python values where Arrow has no type for it."""
    if isinstance(column, list | tuple | pa.Array | pa.ChunkedArray):
        return column
    try:
        if getattr(column.dtype, "kind", "") == "O" and type(column.dtype).__name__ not in _HELD_BY_ARROW:
            return list(column)
        if not isinstance(column, np.ndarray) and hasattr(column, "__arrow_c_stream__"):
            return pa.chunked_array(column)
        return pa.array(column)
    except (pa.ArrowException, TypeError, ValueError):
        return list(column)


def _from_pandas(frame: Any, mapping: SourceMapping) -> Columns:
    names = [str(name) if not isinstance(name, tuple) else " ".join(map(str, name)).strip() for name in frame.columns]
    columns = [_values(frame.iloc[:, position]) for position in range(len(names))]
    source = _columns(names, columns, len(frame), mapping)
    levels = [_values(frame.index.get_level_values(level)) for level in range(frame.index.nlevels)]
    fields = mapping.index_fields
    if fields:
        if len(fields) != len(levels):
            raise MappingError(
                f"index={mapping.index!r} names {len(fields)} fields, the index has {len(levels)} levels"
            )
        return Columns(source.columns, source.rows, dict(zip(fields, levels, strict=True)))
    for name, level in zip(frame.index.names, levels, strict=True):
        if name is not None and str(name) not in source.columns:
            source.columns[str(name)] = level
    if frame.index.names == [None] and type(frame.index).__name__ in {"DatetimeIndex", "PeriodIndex"}:
        raise MappingError("the frame's index holds times but has no name: say which field it is, index='timestamp'")
    return source


def _columns(names: Sequence[str], columns: Sequence[Any], rows: int, mapping: SourceMapping) -> Columns:
    if mapping.header:
        if len(mapping.header) != len(names):
            raise MappingError(
                f"header has {len(mapping.header)} names ({', '.join(mapping.header)}), the source {len(names)} columns"
            )
        names = mapping.header
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise InvalidInputError(f"column {twice[0]!r} is there more than once; rename or drop one")
    return Columns(dict(zip(names, columns, strict=True)), rows)


def _kind(data: Any) -> str:
    return f"{type(data).__module__.partition('.')[0]}.{type(data).__qualname__}".removeprefix("builtins.")
