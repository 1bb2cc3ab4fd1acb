"""Upsert: rows by key replace those that are there, by rewriting the files that hold them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import InvalidInputError
from buffetstore.expressions import And, Comparison, Expression, IsNull, Or
from buffetstore.schemas.columns import Columns
from buffetstore.schemas.uniqueness import repeated
from buffetstore.tables.matching import first_rows, row_codes, same_values
from buffetstore.tables.operations.changes import DELETE, INSERT, POSTIMAGE, PREIMAGE, marked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Plan:
    """What an upsert has to do.

    Parameters
    ----------
    rewritten:
        By position among the files that were read: the rows that take the place of the file's.
    added:
        The rows for new files: those whose keys are new, and those that move to another place.
    changes:
        For a change feed, all that changes; empty where the added rows are all.
    """

    rewritten: dict[int, pa.Table]
    added: pa.Table
    inserted: int
    updated: int
    unchanged: int
    changes: tuple[pa.Table, ...] = ()


def key_range(table: pa.Table, key: Sequence[str]) -> Expression:
    """Return a predicate that holds for every row, here or elsewhere, whose key may be one of the table's."""
    return And(tuple(_range(table[name], name) for name in key))


def check_key(table: pa.Table, key: Sequence[str]) -> None:
    """Raise `InvalidInputError` when the key names no column or two rows have the same key."""
    unknown = [name for name in key if name not in table.column_names]
    if unknown or not key:
        raise InvalidInputError(f"key {list(key)} names no column of {', '.join(table.column_names)}: {unknown}")
    if not table.num_rows or _proved_unique(table, key):
        return
    (codes,) = row_codes([table], key)
    counts = np.bincount(codes)
    if counts.max() > 1:
        row = int(np.flatnonzero(counts[codes] > 1)[0])
        shown = {name: table[name][row].as_py() for name in key}
        raise InvalidInputError(f"{int((counts > 1).sum())} keys come twice in the rows, the first is {shown}")


def _proved_unique(table: pa.Table, key: Sequence[str]) -> bool:
    """Tell whether keys are unique where that shows quickly: rows of a batch are mostly in some order."""
    columns = [table[name] for name in key]
    if any(column.null_count or not _ordered(column.type) for column in columns):
        return False
    times = [name for name in key if pa.types.is_timestamp(table[name].type)]
    return not len(repeated(Columns(table), key, times[0] if times else key[0])[0])


def plan_upsert(
    new: pa.Table,
    files: Sequence[pa.Table],
    key: Sequence[str],
    ignore: Sequence[str],
    placed_by: Sequence[str] = (),
    *,
    tracked: bool = False,
) -> Plan:
    """Return what makes the table hold `new`, whose keys are unique, given the rows of every file that may match.

    Rows that differ in nothing but `ignore` stay as they are. Of several stored rows with one key the first stays.
    A row whose value in one of `placed_by` changes leaves its file for a new one. What changes is told if `tracked`.
    """
    if not files:
        return Plan({}, new, new.num_rows, 0, 0)
    codes_new, *codes_old = row_codes([new, *files], key)
    size = int(max((codes.max() for codes in (codes_new, *codes_old) if len(codes)), default=-1)) + 1
    rows_of = first_rows(codes_new, size)
    compared = [name for name in new.column_names if name not in key and name not in ignore]
    rewritten: dict[int, pa.Table] = {}
    seen = np.zeros(size, np.bool_)
    touched, moved = np.zeros(new.num_rows, np.bool_), np.zeros(new.num_rows, np.bool_)
    gone: list[pa.Table] = []
    told: list[pa.Table] = []
    for position, (file, codes) in enumerate(zip(files, codes_old, strict=True)):
        match = rows_of[codes]
        at = np.flatnonzero(match >= 0)
        if not len(at):
            continue
        # A key's first row in the whole table is kept; later ones are dropped.
        first = np.zeros(len(at), np.bool_)
        first[np.unique(codes[at], return_index=True)[1]] = True
        first &= ~seen[codes[at]]
        seen[codes[at]] = True
        changed = _changed(file, new, at, match[at], compared)
        touched[match[at][changed | ~first]] = True
        leaves = changed & first & _changed(file, new, at, match[at], placed_by)
        moved[match[at][leaves]] = True
        if changed.any() or not first.all():
            rewritten[position] = _rewritten(file, new, at, match[at], changed, first & ~leaves)
            if tracked:
                updates = changed & first
                gone.append(marked(file.take(pa.array(at[~first])), DELETE))
                told.append(marked(file.take(pa.array(at[updates])), PREIMAGE))
                told.append(marked(new.take(pa.array(match[at][updates])), POSTIMAGE))
    stored, updated = seen[codes_new], int(touched.sum())
    added = new.filter(pa.array(~stored | moved)) if stored.any() else new
    if told:
        told.append(marked(new.filter(pa.array(~stored)), INSERT))
    # Who takes rows in turn must meet a row that goes before the one that stays under its key.
    changes = (*gone, *told)
    return Plan(rewritten, added, int((~stored).sum()), updated, int(stored.sum()) - updated, changes)


def _changed(
    file: pa.Table, new: pa.Table, at: NDArray[np.int64], match: NDArray[np.int64], columns: Sequence[str]
) -> NDArray[np.bool_]:
    changed = np.zeros(len(at), np.bool_)
    stored, given = pa.array(at), pa.array(match)
    for name in columns:
        changed |= ~same_values(file[name].take(stored), new[name].take(given))
    return changed


def _rewritten(
    file: pa.Table,
    new: pa.Table,
    at: NDArray[np.int64],
    match: NDArray[np.int64],
    changed: NDArray[np.bool_],
    kept: NDArray[np.bool_],
) -> pa.Table:
    # A changed row takes the place of the stored one, so rows sorted by key stay sorted.
    take = np.arange(file.num_rows)
    take[at[changed]] = file.num_rows + match[changed]
    keep = np.ones(file.num_rows, np.bool_)
    keep[at[~kept]] = False
    return pa.concat_tables([file, new]).take(pa.array(take[keep]))


def _range(column: Any, name: str) -> Expression:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not _ordered(kind):
        return And(())
    found = pc.min_max(column.cast(kind))
    low, high = found["min"], found["max"]
    if not low.is_valid:
        return IsNull(name)
    inside = And((Comparison(name, ">=", low), Comparison(name, "<=", high)))
    return Or((inside, IsNull(name))) if column.null_count else inside


def _ordered(kind: pa.DataType) -> bool:
    # Floats are left out: a NaN key would lie outside of every range.
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_date(kind)
        or pa.types.is_timestamp(kind)
    )
