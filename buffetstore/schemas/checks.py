"""A contract's constraints over a batch of typed rows: whole columns at a time."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.schemas.breaches import Breach
from buffetstore.schemas.columns import Columns, in_one_piece, valid
from buffetstore.schemas.constraints import Failure, Values, failures
from buffetstore.schemas.rules import breaches_of_rules, shown, shown_values
from buffetstore.schemas.uniqueness import repeated

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from buffetstore.schemas.arrow import FieldSpec
    from buffetstore.schemas.contract import Contract

    Rows = NDArray[np.int64]

DUPLICATE_KEY = "duplicate_key"
_NONE = np.empty(0, np.int64)


def missing(contract: Contract, table: pa.Table, misfits: Mapping[str, Rows]) -> Iterator[Breach]:
    """Yield the nulls in required columns, but for those that stand for a value that did not fit.

    Parameters
    ----------
    misfits:
        For a column, the rows whose value did not fit its type.
    """
    for column in contract.schema:
        array = table[column.name]
        if not column.nullable and array.null_count:
            rows = np.flatnonzero(array.is_null().to_numpy())
            rows = np.setdiff1d(rows, misfits.get(column.name, _NONE))
            if len(rows):
                yield _missing(column.name, rows)


def breaches(contract: Contract, columns: Columns) -> Iterator[Breach]:
    """Yield everything else that is wrong or odd: constraints, nested values, the key, rules across columns."""
    for spec in contract.fields:
        few = columns.representative(spec.name)
        if len(few) < columns.rows and next(failures(spec, Values(few)), None) is None:
            continue
        array = columns.array(spec.name)
        known = partial(columns.range, spec.name)
        for failure in failures(spec, Values(array, encoded=partial(columns.encoded, spec.name), known=known)):
            yield _breach(spec.name, failure, array, failure.rows)
        if spec.children:
            yield from _nested(spec, array, np.arange(len(array)), spec.name)
    if contract.revisions == "replace":
        yield from _repeated_keys(contract, columns)
    yield from breaches_of_rules(contract.rules, columns)


def _missing(field: str, rows: Rows) -> Breach:
    return Breach(field, "missing", rows, lambda some: [f"{field} is required"] * len(some), structural=True)


def _breach(field: str, failure: Failure, array: pa.Array, rows: Rows) -> Breach:
    """Return a failure as a breach; its elements are `failure.rows` of the array, its rows are `rows`."""
    if len(rows) and len(np.unique(rows)) != len(rows):
        rows, first = np.unique(rows, return_index=True)
        elements = failure.rows[first]
    else:
        elements = failure.rows

    def messages(some: Rows) -> list[str]:
        found = array.take(pa.array(elements[np.searchsorted(rows, some)]))
        return [f"{field} {text} {failure.problem}" for text in shown_values(found)]

    return Breach(field, failure.error_type, rows, messages)


def _nested(spec: FieldSpec, array: pa.Array, rows: Rows, path: str) -> Iterator[Breach]:
    """Check what is inside lists and nested models; `rows` says for each element which row it belongs to."""
    if pa.types.is_list(array.type):
        parents = pc.list_parent_indices(array).to_numpy()
        yield from _inside(spec.children[0], pc.list_flatten(array), rows[parents], f"{path}[]")
        return
    there = np.flatnonzero(valid(array))
    whole = array.take(pa.array(there)) if len(there) < len(array) else array
    for child in spec.children:
        inner = in_one_piece(pc.struct_field(whole, child.name))
        yield from _inside(child, inner, rows[there], f"{path}.{child.name}")


def _inside(spec: FieldSpec, array: pa.Array, rows: Rows, path: str) -> Iterator[Breach]:
    if not spec.nullable and array.null_count:
        yield _missing(path, np.unique(rows[~valid(array)]))
    for failure in failures(spec, Values(array)):
        yield _breach(path, failure, array, rows[failure.rows])
    if spec.children:
        yield from _nested(spec, array, rows, path)


def _repeated_keys(contract: Contract, columns: Columns) -> Iterator[Breach]:
    rows, first = repeated(columns, contract.key, contract.event_time)
    if not len(rows):
        return

    def messages(some: Rows) -> list[str]:
        keys = columns.table.select(list(contract.key)).take(pa.array(some)).to_pylist()
        earlier = first[np.searchsorted(rows, some)].tolist()
        return [
            f"key ({', '.join(f'{name}={shown(value)}' for name, value in key.items())}) repeats row {row}: a batch "
            "holds a key once"
            for key, row in zip(keys, earlier, strict=True)
        ]

    yield Breach(contract.key[0], DUPLICATE_KEY, rows, messages, structural=True)
