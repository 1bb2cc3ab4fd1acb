"""Contracts as SQL: a table for engines that speak ANSI SQL, and a Delta table for Spark.

Constraints and rules become CHECKs, which as in SQL null passes. Patterns are no portable SQL and become comments;
limits of what is inside lists and nested columns are left out.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from buffetstore.errors import InvalidInputError
from buffetstore.expressions import (
    And,
    Arithmetic,
    Column,
    Comparison,
    ComputedComparison,
    Constant,
    Expression,
    Function,
    IsIn,
    IsNull,
    Like,
    Not,
    Or,
    Value,
)
from buffetstore.schemas.interchange.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buffetstore.schemas.arrow import FieldSpec
    from buffetstore.schemas.contract import Contract

Dialect = Literal["ansi", "spark"]
_OPERATORS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
_SPELLED = {"==": "=", "!=": "<>"}
_FUNCTIONS = {"log": "LN"}
_ANSI = {
    pa.string(): "VARCHAR",
    pa.int64(): "BIGINT",
    pa.int16(): "SMALLINT",
    pa.float64(): "DOUBLE PRECISION",
    pa.bool_(): "BOOLEAN",
    pa.date32(): "DATE",
    pa.timestamp("us", "UTC"): "TIMESTAMP WITH TIME ZONE",
}
_SPARK = {
    **_ANSI,
    pa.string(): "STRING",
    pa.float64(): "DOUBLE",
    pa.timestamp("us", "UTC"): "TIMESTAMP",
}


def to_sql(contract: Contract, dialect: Dialect = "ansi", *, table: str | None = None) -> str:
    """Return the statements that make a table of the contract's rows.

    Parameters
    ----------
    dialect:
        ``ansi`` or ``spark``, which makes a Delta table.
    table:
        Its name; the data type's by default.

    Raises
    ------
    InvalidInputError
        There is no such dialect.
    """
    if dialect not in {"ansi", "spark"}:
        raise InvalidInputError(f"dialect {dialect!r} is neither 'ansi' nor 'spark'")
    writer = _Writer(dialect)
    name = writer.name(table or contract.data_type)
    checks = list(writer.checks(contract))
    return writer.spark(contract, name, checks) if dialect == "spark" else writer.ansi(contract, name, checks)


def to_condition(holds: Expression, dialect: Dialect = "ansi") -> str:
    """Return a rule as an SQL condition: both are three-valued."""
    return _Writer(dialect).condition(holds)


class _Writer:
    """Writes in one dialect."""

    def __init__(self, dialect: Dialect) -> None:
        self._quote = "`" if dialect == "spark" else '"'
        self._is_spark = dialect == "spark"

    def name(self, name: str) -> str:
        return self._quote + name.replace(self._quote, self._quote * 2) + self._quote

    def ansi(self, contract: Contract, name: str, checks: list[tuple[str, str]]) -> str:
        lines = [f"  {self._column(spec)}" for spec in contract.fields]
        if contract.revisions != "keep":
            lines.append(f"  PRIMARY KEY ({', '.join(map(self.name, contract.key))})")
        lines += [f"  CONSTRAINT {self.name(label)} CHECK ({check})" for label, check in checks]
        return _head(contract) + f"CREATE TABLE {name} (\n" + ",\n".join(lines) + "\n);\n"

    def spark(self, contract: Contract, name: str, checks: list[tuple[str, str]]) -> str:
        lines = [f"  {self._column(spec)}{_comment(spec)}" for spec in contract.fields]
        partition = f"\nPARTITIONED BY ({', '.join(map(self.name, contract.partition_by))})" * bool(
            contract.partition_by
        )
        said = f"\nCOMMENT {text(contract.description)}" if contract.description else ""
        made = f"CREATE TABLE {name} (\n" + ",\n".join(lines) + f"\n)\nUSING DELTA{partition}{said};\n"
        added = [f"ALTER TABLE {name} ADD CONSTRAINT {self.name(label)} CHECK ({check});\n" for label, check in checks]
        return _head(contract) + made + "".join(added)

    def _column(self, spec: FieldSpec) -> str:
        default = "" if spec.default is None or self._is_spark else f" DEFAULT {self.literal(spec.default)}"
        return f"{self.name(spec.name)} {self._type(spec)}{default}{'' if spec.nullable else ' NOT NULL'}"

    def _type(self, spec: FieldSpec) -> str:
        kind = spec.type
        if pa.types.is_decimal(kind):
            return f"DECIMAL({kind.precision},{kind.scale})"
        if pa.types.is_list(kind):
            element = self._type(spec.children[0])
            return f"ARRAY<{element}>" if self._is_spark else f"{element} ARRAY"
        if pa.types.is_struct(kind):
            colon = ":" if self._is_spark else ""
            inner = ", ".join(f"{self.name(child.name)}{colon} {self._type(child)}" for child in spec.children)
            return f"STRUCT<{inner}>" if self._is_spark else f"ROW({inner})"
        longest = Limits.of(spec).max_length
        if longest is not None and not self._is_spark and pa.types.is_string(kind):
            return f"VARCHAR({longest})"
        return (_SPARK if self._is_spark else _ANSI)[kind]

    def checks(self, contract: Contract) -> Iterator[tuple[str, str]]:
        for spec in contract.fields:
            if not pa.types.is_nested(spec.type):
                yield from ((f"{spec.name}_{label}", check) for label, check in self._limits(spec))
        yield from ((rule.name, self.condition(rule.holds)) for rule in contract.rules if rule.severity == "error")

    def _limits(self, spec: FieldSpec) -> Iterator[tuple[str, str]]:
        column = self.name(spec.name)
        for limit, value in Limits.of(spec).stated().items():
            if limit in _OPERATORS:
                yield limit, f"{column} {_OPERATORS[limit]} {self.literal(value)}"
            elif limit == "multiple_of" and not pa.types.is_floating(spec.type):
                yield limit, f"MOD({column}, {self.literal(value)}) = 0"
            elif limit in {"min_length", "max_length"}:
                yield limit, f"CHAR_LENGTH({column}) {'>=' if limit == 'min_length' else '<='} {value}"
        if spec.choices is not None:
            yield "choices", f"{column} IN ({', '.join(map(text, spec.choices))})"

    def condition(self, holds: Expression) -> str:
        match holds:
            case Comparison(column, op, value):
                right = self.name(value.name) if isinstance(value, Column) else self.literal(value)
                return f"{self.name(column)} {_SPELLED.get(op, op)} {right}"
            case IsIn(column, values):
                return f"{self.name(column)} IN ({', '.join(map(self.literal, values))})" if values else "FALSE"
            case IsNull(column):
                return f"{self.name(column)} IS NULL"
            case Like(column, pattern):
                return f"{self.name(column)} LIKE {text(pattern)} ESCAPE '\\'"
            case ComputedComparison(left, op, computed):
                return f"{self.value(left)} {_SPELLED.get(op, op)} {self.value(computed)}"
            case And(parts):
                return " AND ".join(f"({self.condition(part)})" for part in parts) or "TRUE"
            case Or(parts):
                return " OR ".join(f"({self.condition(part)})" for part in parts) or "FALSE"
            case Not(part):
                return f"NOT ({self.condition(part)})"

    def value(self, value: Value) -> str:
        match value:
            case Column(name):
                return self.name(name)
            case Constant(known):
                return self.literal(known)
            case Arithmetic(op, left, right):
                return f"({self.value(left)} {op} {self.value(right)})"
            case Function(function, argument):
                return f"{_FUNCTIONS.get(function, function.upper())}({self.value(argument)})"

    def literal(self, value: Any) -> str:
        if isinstance(value, bool):
            return str(value).upper()
        if isinstance(value, datetime):
            return f"TIMESTAMP {text(value.isoformat(sep=' '))}"
        if isinstance(value, date):
            return f"DATE {text(value.isoformat())}"
        if isinstance(value, int | float | Decimal):
            return f"{value:f}" if isinstance(value, Decimal) else repr(value)
        return text(str(value.value) if hasattr(value, "value") else str(value))


def text(value: str) -> str:
    """Return a string constant."""
    return "'" + value.replace("'", "''") + "'"


def _head(contract: Contract) -> str:
    lines = [f"{contract.data_type} {contract.version}", *contract.description.splitlines()]
    lines += [
        f"{spec.name} must match {pattern}"
        for spec in contract.fields
        if (pattern := Limits.of(spec).pattern) is not None
    ]
    return "".join(f"-- {line}".rstrip() + "\n" for line in lines)


def _comment(spec: FieldSpec) -> str:
    said = ", ".join(filter(None, [spec.description, spec.unit and f"unit {spec.unit}"]))
    return f" COMMENT {text(said)}" if said else ""
