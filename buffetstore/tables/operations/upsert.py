"""Upsert, decided: which stored rows are replaced by which new ones, by key. Pure; no file is read or written here."""

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
from buffetstore.tables.operations.changes import DELETE, POSTIMAGE, PREIMAGE, marked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

_GROUP_ROWS = 65_536  # of stored files that are matched together at least


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


@dataclass(frozen=True, slots=True)
class Met:
    """What becomes of stored files whose rows have been compared with the new ones.

    Parameters
    ----------
    rewritten:
        By position among the files: the rows that take the place of the file's.
    gone, told:
        For a change feed: rows that are dropped, as their key is there before, and those that are updated. Who takes
        rows in turn must meet a row that goes before the one that stays under its key.
    """

    rewritten: dict[int, pa.Table]
    gone: tuple[pa.Table, ...] = ()
    told: tuple[pa.Table, ...] = ()


class Matching:
    """New rows, whose keys are unique, and what has been found of them in the stored files that passed by.

    Rows that differ in nothing but `ignore` stay as they are. Of several stored rows with one key the first stays.
    A row whose value in one of `placed_by` changes leaves its file for a new one. What changes is told if `tracked`.
    Call the methods in a thread.
    """

    def __init__(
        self,
        new: pa.Table,
        key: Sequence[str],
        ignore: Sequence[str],
        placed_by: Sequence[str] = (),
        *,
        tracked: bool = False,
    ) -> None:
        self._new, self._key, self._placed_by = new, key, placed_by
        self.tracked = tracked
        self._compared = [name for name in new.column_names if name not in key and name not in ignore]
        # Of each new row: whether its key is stored, whether a stored row changes for it, whether it goes elsewhere.
        self._stored = np.zeros(new.num_rows, np.bool_)
        self._touched, self._moved = self._stored.copy(), self._stored.copy()

    @property
    def inserted(self) -> int:
        """New rows whose key was not met so far."""
        return int((~self._stored).sum())

    @property
    def updated(self) -> int:
        """New rows for which stored rows change."""
        return int(self._touched.sum())

    @property
    def unchanged(self) -> int:
        """New rows that are stored as they are."""
        return int(self._stored.sum()) - self.updated

    def added(self) -> pa.Table:
        """Return the rows for new files: those whose keys are new, and those that move to another place."""
        return self._new.filter(pa.array(~self._stored | self._moved)) if self._stored.any() else self._new

    def inserts(self) -> pa.Table:
        """Return the rows whose keys are new."""
        return self._new.filter(pa.array(~self._stored))

    def meet(self, files: Sequence[pa.Table]) -> Met:
        """Return what becomes of the files that come next."""
        met = [each for group in self._groups(files) for each in self._matched(group)]
        return Met(
            {at: each.rewritten[0] for at, each in enumerate(met) if each.rewritten},
            tuple(rows for each in met for rows in each.gone),
            tuple(rows for each in met for rows in each.told),
        )

    def _groups(self, files: Sequence[pa.Table]) -> Iterator[list[pa.Table]]:
        """Yield files with about as many rows as are new: matching takes memory for each of the rows of both."""
        group: list[pa.Table] = []
        rows = 0
        for file in files:
            group.append(file)
            rows += file.num_rows
            if rows >= max(self._new.num_rows, _GROUP_ROWS):
                yield group
                group, rows = [], 0
        if group:
            yield group

    def _matched(self, files: Sequence[pa.Table]) -> list[Met]:
        codes_new, *codes_old = row_codes([self._new, *files], self._key)
        size = int(max((codes.max() for codes in (codes_new, *codes_old) if len(codes)), default=-1)) + 1
        rows_of = first_rows(codes_new, size)
        return [self._meet(file, rows_of[codes]) for file, codes in zip(files, codes_old, strict=True)]

    def _meet(self, file: pa.Table, match: NDArray[np.int64]) -> Met:
        """Compare a file's rows with the new ones that they match, -1 where there is none."""
        at = np.flatnonzero(match >= 0)
        if not len(at):
            return Met({})
        row = match[at]
        # A key's first row in the whole table is kept; later ones are dropped.
        first = np.zeros(len(at), np.bool_)
        first[np.unique(row, return_index=True)[1]] = True
        first &= ~self._stored[row]
        self._stored[row] = True
        changed = _changed(file, self._new, at, row, self._compared)
        self._touched[row[changed | ~first]] = True
        leaves = changed & first & _changed(file, self._new, at, row, self._placed_by)
        self._moved[row[leaves]] = True
        if not changed.any() and first.all():
            return Met({})
        rewritten = {0: _rewritten(file, self._new, at, row, changed, first & ~leaves)}
        if not self.tracked:
            return Met(rewritten)
        updates = changed & first
        before, after = file.take(pa.array(at[updates])), self._new.take(pa.array(row[updates]))
        told = (marked(before, PREIMAGE), marked(after, POSTIMAGE))
        return Met(rewritten, (marked(file.take(pa.array(at[~first])), DELETE),), told)


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
