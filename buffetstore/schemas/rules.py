"""Rules across columns as kernels: an expression over whole columns, three-valued as `evaluate` is for a row."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.expressions import Column, Comparison, columns_of, mask
from buffetstore.schemas.breaches import Breach
from buffetstore.schemas.columns import Range, valid, whole_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from buffetstore.expressions import Expression, Operator
    from buffetstore.schemas.columns import Columns
    from buffetstore.schemas.contract import Rule

_WORDS: dict[str, Callable[[Any, Any], Any]] = {
    "==": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}


def breaches_of_rules(rules: tuple[Rule, ...], columns: Columns) -> Iterator[Breach]:
    """Yield what breaks the rules."""
    for rule in rules:
        rows = broken(rule.holds, columns)
        if len(rows):
            yield Breach(rule.field, rule.name, rows, _Words(rule, columns), rule.severity)


def broken(holds: Expression, columns: Columns) -> NDArray[np.int64]:
    """Return the rows for which the expression is false; unknown is not."""
    if isinstance(holds, Comparison):
        if any(columns.table[name].null_count == columns.rows for name in columns_of(holds)):
            return np.empty(0, np.int64)
        if isinstance(holds.value, Column):
            found = _unequal_words(columns.array(holds.column), holds.op, columns.array(holds.value.name))
            if found is not None:
                return found
    truth = mask(columns.plain(columns_of(holds)), holds)
    if pc.all(truth).as_py():  # nulls left out
        return np.empty(0, np.int64)
    return np.flatnonzero(pc.fill_null(pc.invert(truth), False).to_numpy(zero_copy_only=False))


def _unequal_words(left: pa.Array, op: Operator, right: pa.Array) -> NDArray[np.int64] | None:
    """Compare two columns of one type as integers, without a copy; None where they are not."""
    x, y = whole_numbers(left), whole_numbers(right)
    if left.type != right.type or x is None or y is None:
        return None
    if op in {"==", "<=", ">="} and Range(left, None, None).is_of(right):  # filled one from the other
        return np.empty(0, np.int64)
    bad = ~_WORDS[op](x, y)
    if bad.any():  # what lies under a null may be anything
        for array in (left, right):
            if array.null_count:
                bad &= valid(array)
    return np.flatnonzero(bad)


class _Words:
    """The rule's message, filled with the values of a row."""

    def __init__(self, rule: Rule, columns: Columns) -> None:
        self._rule = rule
        self._columns = columns

    def __call__(self, rows: NDArray[np.int64]) -> list[str]:
        names = sorted({self._rule.field, *columns_of(self._rule.holds)})
        places = pa.array(rows)
        values = {name: shown_values(self._columns.array(name).take(places)) for name in names}
        return [self._rule.message.format_map({name: values[name][at] for name in names}) for at in range(len(rows))]


def shown_values(array: pa.Array) -> list[str]:
    """Return values as a message shows them: plain, without the zeros that fill a decimal's scale."""
    return [shown(value) for value in array.to_pylist()]


def shown(value: Any) -> str:
    """Return one value as a message shows it."""
    if isinstance(value, Decimal):
        text = f"{value.normalize():f}"
    else:
        text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


_SHOWN = 80
