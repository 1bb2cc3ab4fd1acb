"""Is every key there once? Proved from the rows' order or from a grid, else by sorting packed integers."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from buffetstore.schemas.columns import encode, valid, whole_numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from buffetstore.schemas.columns import Columns

    Codes = NDArray[np.integer[Any]]

_ROWS_PER_RUN = 8  # below so many rows per run, sorting all rows is cheaper than sorting the runs
_LIMIT = 2**62
_SAMPLE = 1_000
_CELLS_PER_ROW = 32
_NONE = np.empty(0, np.int64)


def repeated(columns: Columns, key: Sequence[str], event_time: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows whose key an earlier row has, ascending, and for each the first row that has it.

    Rows with a null in the key have none, and are not compared.
    """
    if columns.rows < 2:
        return _NONE, _NONE
    rows = _rows_with_key(columns, key)
    if rows is not None and len(rows) < 2:
        return _NONE, _NONE
    names = sorted(key, key=lambda name: _is_text(columns.table.schema.field(name).type))
    parts: dict[str, Codes] = {}
    for at, name in enumerate(names):
        if not _is_constant(columns, name):
            part = _codes(columns, name)
            parts[name] = part if rows is None else part[rows]
        texts_follow = at + 1 < len(names) and _is_text(columns.table.schema.field(names[at + 1]).type)
        if texts_follow and _in_order(parts, event_time):
            return _NONE, _NONE  # what is unique by some of its columns is so by all; strings cost the most
    later, first = _repeated(parts, event_time, columns.rows if rows is None else len(rows))
    return (later, first) if rows is None else (rows[later], rows[first])


def _is_constant(columns: Columns, name: str) -> bool:
    few = columns.representative(name)
    return len(few) < columns.rows and not few.null_count and len(few.unique()) == 1


def _in_order(parts: dict[str, Codes], event_time: str) -> bool:
    """Tell whether the order of the rows proves that these columns alone make every key another."""
    if event_time not in parts or len(parts) > 2:
        return False
    time = parts[event_time].astype(np.int64, copy=False)
    others = [part for name, part in parts.items() if name != event_time]
    return _rises_in_runs(others[0], time) if others else _is_rising(time)


def _is_rising(time: NDArray[np.int64]) -> bool:
    few = time[:_SAMPLE]
    return bool((few[1:] > few[:-1]).all() and (time[1:] > time[:-1]).all())


def _rows_with_key(columns: Columns, key: Sequence[str]) -> NDArray[np.int64] | None:
    holed = [columns.array(name) for name in key if columns.table[name].null_count]
    return np.flatnonzero(np.logical_and.reduce([valid(array) for array in holed])) if holed else None


def _codes(columns: Columns, name: str) -> Codes:
    found = whole_numbers(columns.array(name))
    if found is not None:
        return found
    # Decimals of more digits than a word has are rare in keys; their text is as distinct as they are.
    return (
        columns.encoded(name) if _is_text(columns.array(name).type) else encode(columns.array(name).cast(pa.string()))
    ).codes


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_dictionary(kind))


def _repeated(parts: dict[str, Codes], event_time: str, rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    time = parts.get(event_time, np.zeros(1, np.int64)).astype(np.int64, copy=False)
    if len(time) != rows:
        time = np.zeros(rows, np.int64)
    group = _packed([part for name, part in parts.items() if name != event_time], rows)
    if _rises_in_runs(group, time) or _rises(group, time) or _fills_a_grid(group, time):
        return _NONE, _NONE
    both = _packed([group, time], rows).astype(np.int64, copy=False)
    ordered = np.sort(both)
    if (ordered[1:] != ordered[:-1]).all():
        return _NONE, _NONE
    return _pairs(both)


def _packed(parts: list[Codes], rows: int) -> Codes:
    """Return one integer per row that is equal where all parts are equal."""
    return reduce(_pack, parts) if parts else np.zeros(rows, np.int64)


def _pack(left: Codes, right: Codes) -> NDArray[np.int64]:
    low, width = int(right.min()), int(right.max()) - int(right.min()) + 1
    if width == 1:
        return left.astype(np.int64, copy=False)
    left_low, left_width = int(left.min()), int(left.max()) - int(left.min()) + 1
    if left_width == 1 and width < _LIMIT:
        return right.astype(np.int64) - low
    if left_width * width >= _LIMIT:  # too wide to pack: their ranks are not
        return _pack(_ranks(left), _ranks(right))
    return (left.astype(np.int64) - left_low) * width + (right.astype(np.int64) - low)


def _ranks(part: Codes) -> NDArray[np.int64]:
    return np.unique(part, return_inverse=True)[1].astype(np.int64)


def _rises(group: Codes, time: NDArray[np.int64]) -> bool:
    """Tell whether rows are in strict order of time, then group."""
    if len(time) > _SAMPLE and not _rises(group[:_SAMPLE], time[:_SAMPLE]):
        return False
    after, same = time[1:] > time[:-1], time[1:] == time[:-1]
    return bool((after | (same & (group[1:] > group[:-1]))).all())


def _rises_in_runs(group: Codes, time: NDArray[np.int64]) -> bool:
    """Tell whether time rises within each run of a group, and the runs of a group do not overlap."""
    if len(time) > _SAMPLE and np.count_nonzero(group[1:_SAMPLE] != group[: _SAMPLE - 1]) * _ROWS_PER_RUN > _SAMPLE:
        return False
    cut = np.flatnonzero(group[1:] != group[:-1]) + 1
    if len(cut) * _ROWS_PER_RUN > len(group):
        return False
    rising = time[1:] > time[:-1]
    rising[cut - 1] = True
    if not rising.all():
        return False
    starts, ends = np.concatenate(([0], cut)), np.concatenate((cut, [len(time)])) - 1
    order = np.lexsort((time[starts], group[starts]))
    which, low, high = group[starts][order], time[starts][order], time[ends][order]
    return bool(((which[1:] != which[:-1]) | (low[1:] > high[:-1])).all())


def _fills_a_grid(group: Codes, time: NDArray[np.int64]) -> bool:
    """Tell whether every key has a cell of its own in a grid of groups and equal steps of time, where one is small."""
    group = group.astype(np.int64, copy=False)
    since = time - time.min()
    step = int(np.gcd.reduce(since[:_SAMPLE])) or 1
    steps = since // step
    if (steps * step != since).any():
        return False
    width, cell = int(steps.max()) + 1, group - group.min()
    cells = (int(cell.max()) + 1) * width
    if cells > _CELLS_PER_ROW * len(time):
        return False
    taken = np.zeros(cells, bool)
    taken[cell * width + steps] = True
    return int(np.count_nonzero(taken)) == len(time)


def _pairs(key: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    again = np.concatenate(([False], ordered[1:] == ordered[:-1]))
    start = np.maximum.accumulate(np.where(again, 0, np.arange(len(key))))
    later, first = order[again], order[start[again]]
    by_row = np.argsort(later)
    return later[by_row], first[by_row]
