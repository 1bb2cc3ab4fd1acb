"""What every row of a table must satisfy: CHECK constraints and column invariants, held on every write.

Source: Delta protocol, "CHECK Constraints" and "Column Invariants". A row passes when the predicate is true of it:
false and unknown are both violations, as Spark and deltalake have it, so a constraint that lets nulls pass says so
(`n IS NULL OR n >= 0`). NaN is the greatest number there and equals itself.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import ConstraintViolationError, InvalidInputError, InvalidQueryError, UnsupportedFeatureError
from buffetstore.expressions import (
    And,
    Column,
    Comparison,
    Expression,
    IsNull,
    Not,
    Operator,
    Or,
    columns_of,
    mask,
)
from buffetstore.tables.schema import field_metadata, schema_from_json
from buffetstore.tables.sql import parse_predicate, to_sql

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from buffetstore.tables.actions import Metadata, Protocol

PREFIX = "delta.constraints."
INVARIANTS = "delta.invariants"
CONSTRAINTS_WRITER_VERSION = 3
FEATURES_WRITER_VERSION = 7
_NAME = re.compile(r"\w+")
# What is true of x and y where x, y or both are NaN.
_NAN_LEFT: frozenset[Operator] = frozenset({">", ">=", "!="})
_NAN_RIGHT: frozenset[Operator] = frozenset({"<", "<=", "!="})
_NAN_BOTH: frozenset[Operator] = frozenset({"==", "<=", ">="})


@dataclass(frozen=True, slots=True)
class Check:
    """One constraint or invariant. `holds` is None where `fault` says why it cannot be held."""

    name: str
    sql: str
    holds: Expression | None
    fault: str = ""


def checks_of(protocol: Protocol, metadata: Metadata) -> tuple[Check, ...]:
    """Return what rows must satisfy; a table whose protocol does not know constraints has none."""
    constraints: tuple[tuple[str, str], ...] = ()
    if protocol.min_writer_version >= CONSTRAINTS_WRITER_VERSION:
        constraints = tuple(
            (name.removeprefix(PREFIX), sql) for name, sql in metadata.configuration.items() if name.startswith(PREFIX)
        )
    if not constraints and INVARIANTS not in metadata.schema_string:
        return ()
    return _compiled(constraints, metadata.schema_string)


def check_rows(rows: pa.Table, checks: Iterable[Check], table: str) -> None:
    """Hold the rows to the checks; it works through all of them, so call it in a thread.

    Raises
    ------
    ConstraintViolationError
        Naming the first check that does not hold for all rows, how many it refuses, and the first of them.
    """
    for check in checks:
        if check.holds is None:
            continue
        try:
            passing = pc.fill_null(_truth(rows, check.holds), False)
        except InvalidQueryError as error:  # decimals of more digits than can be compared
            raise UnsupportedFeatureError(
                f"constraint {check.name!r} ({check.sql}) of table {table!r} cannot be held: {error}", key=table
            ) from error
        if pc.all(passing).as_py() is False:
            _refuse(rows, check, passing, table)


def compiled_check(name: str, predicate: Expression | str, schema: pa.Schema) -> Check:
    """Return a constraint as every engine reads it; call it in a thread.

    Raises
    ------
    InvalidInputError
        The name is no word, or the predicate is not in the part of SQL that engines read alike; it says why.
    """
    if _NAME.fullmatch(name) is None:
        raise InvalidInputError(f"constraint {name!r}: a name is made of letters, digits and underscores")
    shown = predicate if isinstance(predicate, str) else repr(predicate)
    try:
        sql = to_sql(parse_predicate(predicate if isinstance(predicate, str) else to_sql(predicate), schema))
        holds = parse_predicate(sql, schema)
        _truth(schema.empty_table(), holds)  # kernels refuse types before they look at rows
    except InvalidInputError as error:
        raise InvalidInputError(f"constraint {name!r} ({shown}) cannot be declared: {error}") from error
    return Check(name.lower(), sql, holds)


def null_safe(predicate: Expression, *, negated: bool = False) -> Expression:
    """Return a predicate that is true where `predicate` (or its negation) is true or unknown, and false elsewhere."""
    match predicate:
        case Not(part):
            return null_safe(part, negated=not negated)
        case And(parts) | Or(parts):
            node = And if isinstance(predicate, And) is not negated else Or
            return node(tuple(null_safe(part, negated=negated) for part in parts))
        case IsNull():
            return Not(predicate) if negated else predicate
        case _:
            stated = Not(predicate) if negated else predicate
            return Or((*(IsNull(name) for name in sorted(columns_of(predicate))), stated))


def violation(predicate: Expression) -> Expression:
    """Return what is true of just the rows for which the predicate is not: what stored rows are pruned by."""
    return null_safe(predicate, negated=True)


def with_constraints(protocol: Protocol) -> Protocol:
    """Return the lowest protocol, at or above this one, that makes writers hold constraints."""
    if protocol.min_writer_version >= FEATURES_WRITER_VERSION:
        features = tuple(dict.fromkeys((*protocol.writer_features, "checkConstraints")))
        return replace(protocol, writer_features=features)
    return replace(protocol, min_writer_version=max(protocol.min_writer_version, CONSTRAINTS_WRITER_VERSION))


@lru_cache(maxsize=256)
def _compiled(constraints: tuple[tuple[str, str], ...], schema_string: str) -> tuple[Check, ...]:
    schema = schema_from_json(schema_string)
    found = [_check(name, sql, schema) for name, sql in constraints]
    invariants = [(field.name, held) for field in schema if (held := field_metadata(field).get(INVARIANTS))]
    found += [_check(f"invariant of {name}", _invariant(text), schema) for name, text in invariants]
    if schema_string.count(f'"{INVARIANTS}"') > len(invariants):
        found.append(Check("invariant of a nested field", "", None, "nested fields are not looked into"))
    return tuple(found)


def _check(name: str, sql: str, schema: pa.Schema) -> Check:
    try:
        return Check(name, sql, parse_predicate(sql, schema))
    except InvalidInputError as error:
        return Check(name, sql, None, str(error))


def _invariant(text: str) -> str:
    try:
        return str(json.loads(text)["expression"]["expression"])
    except (ValueError, KeyError, TypeError):
        return text  # which is no predicate either, and is refused as one


def _truth(rows: pa.Table, predicate: Expression) -> Any:
    match predicate:
        case And(parts):
            return reduce(pc.and_kleene, [_truth(rows, part) for part in parts])
        case Or(parts):
            return reduce(pc.or_kleene, [_truth(rows, part) for part in parts])
        case Not(part):
            return pc.invert(_truth(rows, part))
        case Comparison(name, op, value):
            return _with_nan(rows, mask(rows, predicate), name, op, value)
        case _:
            return mask(rows, predicate)


def _with_nan(rows: pa.Table, truth: Any, name: str, op: Operator, value: Any) -> Any:
    """Correct what the kernels say of NaN, in whose order it has no place, to what SQL says."""
    left = _nan(rows[name])
    right = _nan(rows[value.name]) if isinstance(value, Column) else None
    for wrong, holds in ((left, op in _NAN_LEFT), (right, op in _NAN_RIGHT)):
        if wrong is not None:
            truth = pc.if_else(pc.and_(wrong, pc.is_valid(truth)), holds, truth)
    if left is not None and right is not None:
        truth = pc.if_else(pc.and_(left, right), op in _NAN_BOTH, truth)
    return truth


def _nan(column: Any) -> Any:
    if not pa.types.is_floating(column.type):
        return None
    found = pc.fill_null(pc.is_nan(column), False)
    return found if pc.any(found).as_py() else None


def _refuse(rows: pa.Table, check: Check, passing: Any, table: str) -> None:
    assert check.holds is not None, "what cannot be held refuses nothing"
    bad = int(rows.num_rows - pc.sum(passing).as_py())
    first = pc.index(passing, False).as_py()
    shown = {name: rows[name][first].as_py() for name in sorted(columns_of(check.holds))}
    raise ConstraintViolationError(
        f"constraint {check.name!r} ({check.sql}) of table {table!r} does not hold for {bad} of {rows.num_rows} rows, "
        f"the first is row {first}: {', '.join(f'{name}={value!r}' for name, value in shown.items())}",
        key=table,
        constraint=check.name,
        rows=bad,
    )


def same_checks(one: Metadata, other: Metadata) -> bool:
    """Return whether rows that were held to what `one` declares have been held to what `other` does."""
    return _declared(one) == _declared(other)


def _declared(metadata: Metadata) -> Sequence[tuple[str, str]]:
    held = [(name, sql) for name, sql in metadata.configuration.items() if name.startswith(PREFIX)]
    if INVARIANTS in metadata.schema_string:
        held.append((INVARIANTS, metadata.schema_string))
    return sorted(held)
