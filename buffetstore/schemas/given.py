"""Refused rows as they were given: in the source's own columns, before anything was read into them."""

from __future__ import annotations

from collections.abc import Mapping as Fields
from dataclasses import dataclass, fields
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel

from buffetstore.resilience.threads import give_way
from buffetstore.schemas.exact_json import FineTime, Opaque, from_json, to_json, value_to_json
from buffetstore.schemas.mapping import Mapping
from buffetstore.schemas.sources import Columns, Rows, open_source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    Places = NDArray[np.int64]

_CHUNK = 2_000
_DONE_BY_THEN = ("header", "index", "file_pattern", "upper")
_SIMPLE = (str, bool, int, float, Decimal, bytes, date)


@dataclass(frozen=True, slots=True)
class Reading:
    """How rows were read, so that they can be read so again.

    Parameters
    ----------
    mapping, extra, available_at:
        As they were given to the validation.
    level:
        How findings were judged.
    """

    mapping: Mapping
    extra: str = "error"
    available_at: str | datetime | None = None
    level: str = "strict"

    def to_json(self) -> str:
        """Return it as JSON, for rows whose columns have names: header, index and file's name have done their work."""
        mapping = {
            name: dict(value) if isinstance(value, Fields) else value
            for name, value in _said(self.mapping, Mapping()).items()
            if name not in _DONE_BY_THEN
        }
        said = _said(self, Reading(self.mapping))
        return to_json(({"mapping": mapping} if mapping else {}) | said)

    @classmethod
    def from_json(cls, text: str) -> Reading:
        """Return what `to_json` wrote.

        Raises
        ------
        CorruptFileError, MappingError
            It did not write this.
        """
        given = from_json(text)
        known = {field.name for field in fields(cls)}
        return cls(Mapping(**given.pop("mapping", {})), **{name: given[name] for name in given.keys() & known})


def _said(given: Any, plain: Any) -> dict[str, Any]:
    """Return what is not as it is by default."""
    both = {field.name: (getattr(given, field.name), getattr(plain, field.name)) for field in fields(given)}
    return {name: value for name, (value, default) in both.items() if value != default}


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """Data, and how it was read. It holds on to the data, which must not be changed."""

    data: Any
    reading: Reading

    def records(self, rows: Places) -> Iterator[dict[str, Any]]:
        """Yield these rows as dicts of Python values by the source's own names."""
        source = open_source(self.data, self.reading.mapping)
        for start in range(0, len(rows), _CHUNK):
            some = rows[start : start + _CHUNK]
            yield from _dicts(source, some) if isinstance(source, Rows) else _cut(_named(source), some)
            give_way()

    def table(self, rows: Places) -> pa.Table:
        """Return these rows as they were given; as JSON text where a column mixes types or holds what Arrow has not."""
        source = open_source(self.data, self.reading.mapping)
        if isinstance(source, Columns):
            columns = {name: _taken(values, rows) for name, values in _named(source).items()}
        else:
            records = list(_dicts(source, rows))
            names = dict.fromkeys(name for record in records for name in record)
            columns = {name: column_of([record.get(name) for record in records]) for name in names}
        return pa.table(columns)


def _dicts(source: Rows, rows: Places) -> Iterator[dict[str, Any]]:
    for row in rows.tolist():
        given = source.rows[row]
        found = {**vars(given), **(given.model_extra or {})} if isinstance(given, BaseModel) else given
        yield {str(name): value for name, value in found.items()}


def _named(source: Columns) -> dict[str, Any]:
    """Return the columns, those of an index by their fields' names, which a column may have that is no field then."""
    own = {(f"{name} (column)" if name in source.from_index else name): v for name, v in source.columns.items()}
    return own | source.from_index


def _cut(columns: dict[str, Any], rows: Places) -> Iterator[dict[str, Any]]:
    if not columns:
        yield from ({} for _ in rows)
        return
    values = [
        values_of(_taken(column, rows))
        if isinstance(column, pa.Array | pa.ChunkedArray)
        else [column[row] for row in rows.tolist()]
        for column in columns.values()
    ]
    for row in zip(*values, strict=True):
        yield dict(zip(columns, row, strict=True))


def _taken(column: Any, rows: Places) -> Any:
    if not isinstance(column, pa.Array | pa.ChunkedArray):
        return column_of([column[row] for row in rows.tolist()])
    try:
        return column.take(pa.array(rows, pa.int64()))
    except pa.ArrowNotImplementedError:  # views of text and bytes
        return pa.array([column[row].as_py() for row in rows.tolist()], _plain(column.type))


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return the type without views."""
    if kind in {pa.string_view(), pa.binary_view()}:
        return pa.large_string() if kind == pa.string_view() else pa.large_binary()
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_plain(field.type)) for field in kind])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.large_list(_plain(kind.value_type))
    return kind


def column_of(values: Sequence[Any]) -> pa.Array:
    """Return Python values as a column of their own type; as JSON text where they are of several, or of none."""
    present = [value for value in values if value is not None]
    kinds = {type(value) for value in present}
    if len(kinds) <= 1 and all(issubclass(kind, (*_SIMPLE, datetime, list, dict)) for kind in kinds):
        try:
            found = pa.array(values)
            if found.to_pylist() == list(values):
                return found
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            pass
        if kinds == {float}:  # NaN differs from itself
            return pa.array(values, pa.float64(), from_pandas=False)
    return pa.array([None if value is None else value_to_json(value) for value in values], pa.string())


def values_of(array: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Return Arrow values as Python's, none of them changed: see `FineTime` and `Opaque`."""
    if isinstance(array, pa.ChunkedArray):
        return [value for chunk in array.chunks for value in values_of(chunk)]
    kind = array.type
    if pa.types.is_dictionary(kind):
        known = values_of(array.dictionary)  # not decoded: views of text cannot be
        return [None if code is None else known[code] for code in array.indices.to_pylist()]
    if getattr(kind, "unit", None) == "ns":
        return _nanoseconds(array)
    if pa.types.is_float32(kind) or pa.types.is_float16(kind):
        numbers = array.to_numpy(zero_copy_only=False)
        return [number if valid else None for number, valid in zip(numbers, array.is_valid().to_pylist(), strict=True)]
    if pa.types.is_struct(kind):
        return _structs(array)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _lists(array)
    try:
        return list(array.to_pylist())
    except (pa.ArrowException, TypeError, ValueError, OverflowError, ImportError):
        texts = array.cast(pa.string()).to_pylist()
        return [None if text is None else Opaque(str(kind), text) for text in texts]


def _nanoseconds(array: pa.Array) -> list[Any]:
    """Return times of nanoseconds, also those that microseconds do not hold."""
    kind = array.type
    coarse = (
        pa.timestamp("us", kind.tz)
        if pa.types.is_timestamp(kind)
        else pa.duration("us")
        if pa.types.is_duration(kind)
        else pa.time64("us")
    )
    counts = array.cast(pa.int64()).to_pylist()
    whole = pa.array([None if count is None else count // 1_000 for count in counts], pa.int64())
    return [
        value if value is None or not count % 1_000 else _fine(value, count, kind)
        for value, count in zip(whole.cast(coarse).to_pylist(), counts, strict=True)
    ]


def _fine(value: Any, count: int, kind: pa.DataType) -> FineTime | Opaque:
    return FineTime.of(value, count % 1_000) if isinstance(value, datetime) else Opaque(str(kind), f"{count} ns")


def _structs(array: pa.Array) -> list[Any]:
    names = [field.name for field in array.type]
    children = [values_of(child) for child in array.flatten()]
    rows = zip(*children, strict=True) if children else ((),) * len(array)
    return [
        dict(zip(names, row, strict=True)) if there else None
        for row, there in zip(rows, array.is_valid().to_pylist(), strict=True)
    ]


def _lists(array: pa.Array) -> list[Any]:
    inner = iter(values_of(array.flatten()))
    lengths = pc.list_value_length(array).to_pylist()
    return [None if length is None else [next(inner) for _ in range(length)] for length in lengths]
