"""Groups of rows and what they come to: counts, sums, extremes, first and last, as rows pass by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import InvalidQueryError
from buffetstore.expressions import Aggregate, Bucket, Constant, compute, one_zero, render_value
from buffetstore.query.stages.buckets import bucket_starts
from buffetstore.query.stages.rows import HELD_ROWS, Gathered, Latest, distinct_rows
from buffetstore.tables.matching import first_rows, row_codes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from buffetstore.expressions import Value

_ROWS = "rows"
_COMBINED = {"count": "sum", "sum": "sum", "float_sum": "sum", "min": "min", "max": "max"}
_MOST_INT64 = 9.2e18


class Aggregation:
    """One row for each group; without groups one row, of no rows too.

    Sums of whole numbers and decimals are exact, means are floats. Nulls are left out. `min` and `max` leave NaN out
    where there is anything else; sums and means of NaN are NaN.

    Parameters
    ----------
    groups:
        Columns, and spans of time.
    aggregates:
        By their names in the outcome.
    order:
        The columns that `first` and `last` go by.
    """

    def __init__(
        self,
        groups: Sequence[str | Bucket],
        aggregates: Mapping[str, Aggregate],
        order: Sequence[str],
        *,
        held_rows: int = HELD_ROWS,
    ) -> None:
        self._groups = tuple(groups)
        self._keys = [f"g{at}" for at in range(len(self._groups))]
        self._aggregates = dict(aggregates)
        values = [each.value for each in self._aggregates.values() if each.value is not None]
        self._values: dict[Value, str] = {value: f"v{at}" for at, value in enumerate(dict.fromkeys(values))}
        self._order = [f"o{at}" for at in range(len(order))]
        self._order_columns = tuple(order)
        self._types: dict[str, pa.DataType] = {}
        self._sums = Gathered(self._combined, held_rows=held_rows)
        self._chosen = {
            (each.function, self._values[each.value]): Latest(
                self._keys, self._order, earliest=each.function == "first", held_rows=held_rows
            )
            for each in self._aggregates.values()
            if each.value is not None and each.function in {"first", "last"}
        }
        self._distinct = {
            self._values[each.value]: Gathered(distinct_rows, held_rows=held_rows)
            for each in self._aggregates.values()
            if each.value is not None and each.function == "count_distinct"
        }

    def add(self, table: pa.Table) -> None:
        """Take rows.

        Raises
        ------
        InvalidQueryError
            A column is not there, or has not the kind that its aggregate needs.
        """
        rows = self._columns(table)
        self._sums.add(self._summed(rows))
        for (_, name), stage in self._chosen.items():
            stage.add(rows.filter(pc.is_valid(rows[name])).select([*self._keys, *self._order, name]))
        for name, distinct in self._distinct.items():
            known = rows.filter(pc.is_valid(rows[name])).select([*self._keys, name])
            distinct.add(distinct_rows(known))

    def add_known(self, groups: pa.Table, rows: Any, known: Mapping[tuple[str, Value], Any]) -> None:
        """Take sets of rows of which each lies in one group and is known by what it comes to.

        Parameters
        ----------
        groups:
            The columns that the groups are made of, a row for each set.
        rows:
            How many rows each set has.
        known:
            The counts and extremes of values: by ``"count"``, ``"min"`` or ``"max"``, and value. Others need rows.
        """
        columns = {**self._keys_of(groups), _ROWS: rows}
        for each in self._aggregates.values():
            for value, name, partial in self._partials(each):
                columns[f"{name}.{partial}"] = known[partial, value]
        self._sums.add(self._combined(pa.table(columns)))

    def finish(self) -> pa.Table:
        """Return the groups, in no order that means anything, and their aggregates."""
        sums = self._sums.finish()
        found = {_name(group): sums[key] for group, key in zip(self._groups, self._keys, strict=True)}
        for name, each in self._aggregates.items():
            found[name] = self._outcome(each, sums)
        return pa.table(found)

    def _columns(self, table: pa.Table) -> pa.Table:
        columns = self._keys_of(table)
        for value, name in self._values.items():
            columns[name] = _plain(compute(table, value))
        if self._chosen:
            columns |= {key: table[name] for key, name in zip(self._order, self._order_columns, strict=True)}
        return pa.table({**columns, _ROWS: pa.repeat(pa.scalar(1), table.num_rows)})

    def _keys_of(self, table: pa.Table) -> dict[str, Any]:
        columns: dict[str, Any] = {}
        for key, group in zip(self._keys, self._groups, strict=True):
            name = group.column if isinstance(group, Bucket) else group
            if name not in table.column_names:
                raise InvalidQueryError(f"there is no column {name!r}: there are {', '.join(table.column_names)}")
            columns[key] = bucket_starts(table[name], group) if isinstance(group, Bucket) else _groupable(table, name)
        return columns

    def _summed(self, rows: pa.Table) -> pa.Table:
        """Return the partial sums of rows: a column for each value and partial function."""
        prepared = {name: rows[name] for name in [*self._keys, _ROWS]}
        asked = [(_ROWS, "sum")]
        for each in self._aggregates.values():
            for value, name, partial in self._partials(each):
                label = f"{name}.{partial}"
                if label not in prepared:
                    prepared[label] = _prepared(rows[name], partial, each, value)
                    asked.append((label, "count" if partial == "count" else _COMBINED[partial]))
        return self._grouped(pa.table(prepared), asked)

    def _partials(self, aggregate: Aggregate) -> list[tuple[Value, str, str]]:
        value, function = aggregate.value, aggregate.function
        if value is None or function in {"first", "last", "count_distinct"}:
            return []
        name = self._values[value]
        parts = {"count": ["count"], "sum": ["sum", "float_sum"], "mean": ["count", "sum", "float_sum"]}
        return [(value, name, part) for part in parts.get(function, [function])]

    def _combined(self, partials: pa.Table) -> pa.Table:
        asked = [(_ROWS, "sum")]
        labels = [label for label in partials.column_names[len(self._keys) :] if label != _ROWS]
        asked += [(label, _COMBINED[label.partition(".")[2]]) for label in labels]
        return self._grouped(partials, asked)

    def _grouped(self, table: pa.Table, asked: list[tuple[str, str]]) -> pa.Table:
        found = table.group_by(self._keys).aggregate(asked)
        names = {f"{label}_{function}": label for label, function in asked}
        columns = {names.get(name, name): found[name] for name in found.column_names}
        ordered = pa.table({name: columns[name] for name in [*self._keys, *(label for label, _ in asked)]})
        if not self._keys:
            return ordered.set_column(0, _ROWS, pc.fill_null(ordered[_ROWS], 0))
        return ordered

    def _outcome(self, each: Aggregate, sums: pa.Table) -> Any:
        if each.value is None:
            return sums[_ROWS]
        name = self._values[each.value]
        match each.function:
            case "count":
                return pc.fill_null(sums[f"{name}.count"], 0)
            case "sum":
                return _total(each.value, sums[f"{name}.sum"], sums[f"{name}.float_sum"])
            case "mean":
                return _mean(sums[f"{name}.sum"], sums[f"{name}.float_sum"], sums[f"{name}.count"])
            case "min" | "max":
                return sums[f"{name}.{each.function}"]
            case "count_distinct":
                pairs = self._distinct[name].finish()
                return pc.fill_null(self._beside(sums, _counted(pairs, self._keys), "n"), 0)
            case _:
                return self._beside(sums, self._chosen[(each.function, name)].finish(), name)

    def _beside(self, sums: pa.Table, other: pa.Table, column: str) -> pa.ChunkedArray:
        """Return the other table's column in the order of the groups of `sums`; null where it has none."""
        if not self._keys:
            return other[column] if other.num_rows else pa.chunked_array([pa.nulls(1, other[column].type)])
        ours, theirs = row_codes([sums, other], self._keys)
        size = int(max(ours.max(initial=-1), theirs.max(initial=-1))) + 1
        at = first_rows(theirs, size)[ours]
        return other[column].take(pa.array(at, mask=at < 0))


def _name(group: str | Bucket) -> str:
    return group.name if isinstance(group, Bucket) else group


def _groupable(table: pa.Table, name: str) -> Any:
    column = _plain(table[name])
    if pa.types.is_nested(column.type):
        raise InvalidQueryError(f"column {name!r} is {column.type}: rows are not grouped by it")
    if pa.types.is_floating(column.type):
        return one_zero(column)
    return column


def _plain(column: Any) -> Any:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _prepared(column: Any, partial: str, aggregate: Aggregate, value: Value) -> Any:
    kind = column.type
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if partial in {"sum", "float_sum"}:
        if not number:
            raise InvalidQueryError(f"{aggregate.function} of {_shown(value)}, which is {kind}: only numbers add up")
        if partial == "float_sum":
            return column.cast(pa.float64(), safe=False)  # nearly is enough: what is exact is `sum`
        if pa.types.is_decimal(kind):
            return column.cast(pa.decimal128(38, kind.scale))
        return column.cast(pa.float64() if pa.types.is_floating(kind) else pa.int64())
    if partial in {"min", "max"} and pa.types.is_nested(kind):
        raise InvalidQueryError(f"{aggregate.function} of {_shown(value)}, which is {kind}: it has no order")
    return column


def _shown(value: Value) -> str:
    return "a constant" if isinstance(value, Constant) else render_value(value)


def _total(value: Value, exact: Any, about: Any) -> Any:
    """Return the sums, after a look at whether they fit their type: the kernel lets them run over."""
    kind = exact.type
    if pa.types.is_floating(kind):
        return exact
    most = 10.0 ** (38 - kind.scale) if pa.types.is_decimal(kind) else _MOST_INT64
    largest = pc.max(pc.abs(about)).as_py()
    if largest is not None and largest >= most:
        raise InvalidQueryError(f"the sum of {_shown(value)} does not fit {kind}: add it up as a float, times 1.0")
    return exact


def _mean(exact: Any, about: Any, count: Any) -> Any:
    total = exact.cast(pa.float64(), safe=False) if pa.types.is_decimal(exact.type) else about
    return pc.divide(total, count.cast(pa.float64(), safe=False))


def _counted(pairs: pa.Table, keys: list[str]) -> pa.Table:
    found = pairs.append_column("n", pa.repeat(pa.scalar(1), pairs.num_rows)).group_by(keys).aggregate([("n", "sum")])
    return found.rename_columns(["n" if name == "n_sum" else name for name in found.column_names])
