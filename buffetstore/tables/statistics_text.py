"""Statistics of files from columns to the JSON that the log has, by kernels: of many files, whose text is not known.

It is in the form that `buffetstore.formats.statistics` gives to those of new files.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Sequence

_SIDES = {"minValues": "min", "maxValues": "max", "nullCount": "null_count"}


def statistics_texts(files: pa.RecordBatch, columns: Sequence[str]) -> pa.Array:
    """Return the statistics of these columns, those that are there; null where a file's rows are not counted."""
    told = [name for name in columns if f"min.{name}" in files.schema.names]
    groups = [
        _joined(f',"{group}":', _object([(name, json_values(files[f"{side}.{name}"])) for name in told], len(files)))
        for group, side in _SIDES.items()
    ]
    return _joined('{"numRecords":', _stored(files).cast(pa.string()), *groups, "}")


def _stored(files: pa.RecordBatch) -> Any:
    """Return how many rows the files have; the log counts those too that a deletion vector deletes."""
    counts, vectors = files["num_records"], files["deletion_vector"]
    if vectors.null_count == len(vectors):
        return counts
    deleted = [0 if text is None else json.loads(text)["cardinality"] for text in vectors.to_pylist()]
    return pc.add(counts, pa.array(deleted, pa.int64()))


def _object(members: Sequence[tuple[str, pa.Array]], count: int) -> Any:
    if not members:
        return pa.repeat("{}", count)
    texts = [pc.fill_null(_joined(f",{json.dumps(name, ensure_ascii=False)}:", values), "") for name, values in members]
    return _joined("{", pc.utf8_slice_codeunits(_joined(*texts), 1), "}")


def json_values(values: pa.Array) -> pa.Array:
    """Return the values of a column as JSON has them; null stays null, as does what has no place in statistics."""
    kind = values.type
    if pa.types.is_null(kind):
        return values.cast(pa.string())
    if pa.types.is_string(kind):
        return quoted(values)
    if pa.types.is_date(kind):
        return _joined('"', values.cast(pa.string()), '"')
    if pa.types.is_timestamp(kind):
        return _instants(values)
    if pa.types.is_floating(kind):
        return _floats(values.cast(pa.float64()))
    if pa.types.is_decimal(kind):
        return _decimals(values)
    return values.cast(pa.string())


def quoted(texts: pa.Array) -> pa.Array:
    """Return texts as JSON has them; null stays null."""
    if pc.any(pc.match_substring_regex(texts, r"[\x00-\x1f]")).as_py():
        found = [None if text is None else json.dumps(text, ensure_ascii=False) for text in texts.to_pylist()]
        return pa.array(found, pa.string())
    escaped = pc.replace_substring(pc.replace_substring(texts, "\\", "\\\\"), '"', '\\"')
    return _joined('"', escaped, '"')


def _instants(values: pa.Array) -> pa.Array:
    micros = values.cast(pa.timestamp("us"))  # the same instant, as UTC has it
    texts = pc.replace_substring(micros.cast(pa.string()), " ", "T")
    return _joined('"', texts, '"' if values.type.tz is None else 'Z"')


def _floats(values: pa.Array) -> pa.Array:
    texts = values.cast(pa.string())
    # JSON has no infinity; readers round to it what is too great.
    texts = pc.if_else(pc.is_inf(values), pc.if_else(pc.greater(values, 0), "1e999", "-1e999"), texts)
    return pc.if_else(pc.is_nan(values), pa.scalar(None, pa.string()), texts)


def _decimals(values: pa.Array) -> pa.Array:
    texts = values.cast(pa.string())
    if not pc.any(pc.match_substring(texts, "E")).as_py():
        return texts
    # Not with an exponent, of which readers make a float.
    return pa.array([None if value is None else format(value, "f") for value in values.to_pylist()], pa.string())


def _joined(*parts: Any) -> Any:
    return pc.binary_join_element_wise(*parts, "")
