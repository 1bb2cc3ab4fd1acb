"""What a row leaves out and can be told from the rest of it. Nothing is invented: a fill only repeats what is known."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import InvalidInputError
from buffetstore.schemas.osi import OptionParts, build_osi, canonical, parse_osi, root_of
from buffetstore.schemas.timestamps import rows_where

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from buffetstore.schemas.findings import Findings

_CONTRACT = "contract_symbol"
_PARTS = ("underlying_symbol", "expiration_date", "option_type", "strike_price")
_GREEKS = ("delta", "gamma", "theta", "vega", "rho")


@dataclass(frozen=True, slots=True)
class Fill:
    """A step that completes typed rows.

    Parameters
    ----------
    name:
        A subclass's fill of the same name takes the place of this one.
    function:
        Takes the table (columns of the contract's schema, all nullable) and the warnings to add to; returns the table
        with the same columns.
    same:
        The two columns that mean the same, of which each is filled from the other; None for other steps.
    """

    name: str
    function: Callable[[pa.Table, Findings], pa.Table]
    same: tuple[str, str] | None = None


def replaced(table: pa.Table, name: str, values: Any) -> pa.Table:
    """Return the table with other values in one column."""
    at = table.schema.get_field_index(name)
    field = table.schema.field(at)
    return table.set_column(at, field, values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values]))


def same_value(first: str, second: str) -> Fill:
    """Return the fill for two columns that mean the same: each is filled from the other."""

    def function(table: pa.Table, _: Findings) -> pa.Table:
        if {first, second} <= set(table.column_names):
            one, other = table[first], table[second]
            if one.null_count:
                table = replaced(table, first, _either(one, other))
            if other.null_count:
                table = replaced(table, second, _either(other, one))
        return table

    return Fill(f"{first}_is_{second}", function, (first, second))


def _either(column: pa.ChunkedArray, other: pa.ChunkedArray) -> pa.ChunkedArray:
    return other if column.null_count == len(column) else pc.coalesce(column, other)


_FIRST_DAY, _LAST_DAY = ((day - date(1970, 1, 1)).days for day in (date.min, date.max))


def _fill_target_date(table: pa.Table, _: Findings) -> pa.Table:
    if "target_date" not in table.column_names or not table["target_date"].null_count:
        return table
    days = table["timestamp"].cast(pa.timestamp("us")).cast(pa.date32()).cast(pa.int32())
    horizon = table["forecast_horizon_days"]
    # What is more is for the checks to refuse; abs() would overflow on the least integer.
    fits = pc.and_(pc.less(horizon, 1_000_000), pc.greater(horizon, -1_000_000))
    reached = pc.add(days.cast(pa.int64()), pc.if_else(fits, horizon, None))
    # Python, and the tools that read the table, know the years 1 to 9999.
    known = pc.and_(pc.greater_equal(reached, _FIRST_DAY), pc.less_equal(reached, _LAST_DAY))
    target = pc.if_else(known, reached, None).cast(pa.int32()).cast(pa.date32())
    return replaced(table, "target_date", pc.coalesce(table["target_date"], target))


def _drop_missing_greeks(table: pa.Table, warnings: Findings) -> pa.Table:
    columns = [name for name in ("implied_volatility", *_GREEKS) if name in table.column_names]
    if "implied_volatility" not in columns or len(columns) == 1:
        return table
    zero = pc.equal(table["implied_volatility"], 0)
    for name in columns[1:]:
        zero = pc.and_(zero, pc.equal(table[name], 0))
    rows = rows_where(zero)
    if not len(rows):
        return table
    warnings.add_rows(
        "implied_volatility",
        "greeks_missing",
        rows,
        lambda _: "implied_volatility 0 with every Greek 0 means that there are none: stored as null",
    )
    mask = pc.fill_null(zero, False)
    for name in columns:
        table = replaced(table, name, pc.if_else(mask, pa.scalar(None, table.schema.field(name).type), table[name]))
    return table


def _fill_option(table: pa.Table, warnings: Findings) -> pa.Table:
    if _CONTRACT not in table.column_names:
        return table
    return _build_symbols(_parse_symbols(table, warnings), warnings)


def _parse_symbols(table: pa.Table, warnings: Findings) -> pa.Table:
    """Spell given symbols in 21 characters, fill the parts from them, and warn where the parts say otherwise."""
    symbols = table[_CONTRACT].combine_chunks()
    if symbols.null_count == len(symbols):
        return table
    encoded = _encoded(symbols)
    parts = [parse_osi(symbol) for symbol in encoded.dictionary.to_pylist()]
    spelled = [_spelled(part, symbol) for part, symbol in zip(parts, encoded.dictionary.to_pylist(), strict=True)]
    table = replaced(table, _CONTRACT, _taken(spelled, encoded, pa.string()))
    for name, attribute in zip(_PARTS, ("root", *_PARTS[1:]), strict=True):
        kind = table.schema.field(name).type
        said = _taken([part and _fitting(getattr(part, attribute), kind) for part in parts], encoded, kind)
        given = table[name]
        differs = rows_where(pc.not_equal(given, said))
        if name == "underlying_symbol" and len(differs):
            differs = _other_roots(differs, given, said)
        _warn_disagreement(name, differs, given, symbols, warnings)
        table = replaced(table, name, pc.coalesce(given, said))
    return table


def _spelled(parts: OptionParts | None, symbol: str) -> str:
    try:
        return symbol if parts is None else canonical(parts)
    except InvalidInputError:
        return symbol


def _fitting(value: Any, kind: pa.DataType) -> Any:
    return value.quantize(Decimal(1).scaleb(-kind.scale)) if isinstance(value, Decimal) else value


def _other_roots(rows: NDArray[np.int64], given: pa.ChunkedArray, said: pa.Array) -> NDArray[np.int64]:
    """Keep the rows whose root is of another underlying: SPXW is SPX's weekly, AAPL1 an adjusted AAPL."""
    pairs = zip(given.take(rows).to_pylist(), said.take(rows).to_pylist(), strict=True)
    return rows[[not root_of(root).startswith(root_of(underlying)) for underlying, root in pairs]]


def _warn_disagreement(
    name: str, rows: NDArray[np.int64], given: pa.ChunkedArray, symbols: pa.Array, warnings: Findings
) -> None:
    if len(rows):
        warnings.add_rows(
            name,
            "contract_symbol_disagrees",
            rows,
            lambda row: f"{name} {given[row]} is not what contract_symbol {str(symbols[row])!r} says",
        )


def _build_symbols(table: pa.Table, warnings: Findings) -> pa.Table:
    """Build the symbols that are absent, once for every distinct contract."""
    absent = table[_CONTRACT].is_null()
    for name in _PARTS:
        absent = pc.and_(absent, table[name].is_valid())
    rows = rows_where(absent)
    if not len(rows):
        return table
    columns = [_encoded(table[name].take(rows).combine_chunks()) for name in _PARTS]
    key = np.zeros(len(rows), np.int64)
    for column in columns:
        key = np.unique(key * len(column.dictionary) + column.indices.to_numpy(), return_inverse=True)[1]
    _, first, which = np.unique(key, return_index=True, return_inverse=True)
    built: list[str | None] = []
    problems: dict[int, str] = {}
    for code, row in enumerate(first.tolist()):
        try:
            built.append(build_osi(*(column[row].as_py() for column in columns)))
        except InvalidInputError as error:
            problems[code] = str(error)
            built.append(None)
    for code, problem in problems.items():
        warnings.add_rows(_CONTRACT, "contract_symbol_not_built", rows[which == code], partial(_said, problem))
    everywhere = np.full(table.num_rows, -1)
    everywhere[rows] = which
    found = pa.array(built, pa.string()).take(pa.array(everywhere, mask=everywhere < 0))
    return replaced(table, _CONTRACT, pc.coalesce(table[_CONTRACT], found))


def _said(text: str, _: int) -> str:
    return text


def _encoded(values: Any) -> Any:
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks)
    return pc.dictionary_encode(values)


def _taken(values: Iterable[Any], encoded: Any, kind: pa.DataType) -> pa.Array:
    return pa.array(values, kind).take(encoded.indices)


PRICE_IS_CLOSE = same_value("price", "close")
TARGET_DATE = Fill("target_date", _fill_target_date)
OPTION_SYMBOL = Fill("option_symbol", _fill_option)
MISSING_GREEKS = Fill("missing_greeks", _drop_missing_greeks)
BUILT_IN: tuple[Fill, ...] = (TARGET_DATE, OPTION_SYMBOL, MISSING_GREEKS)
"""The fills that a stored contract can name."""
