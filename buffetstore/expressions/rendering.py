"""Predicates as people write them, for messages and plans."""

from __future__ import annotations

from buffetstore.expressions.nodes import (
    And,
    Column,
    Comparison,
    ComputedComparison,
    Expression,
    IsIn,
    IsNull,
    Like,
    Not,
    Or,
)
from buffetstore.expressions.values import render_value


def render(expression: Expression) -> str:
    """Return the expression as people write it."""
    match expression:
        case Comparison(column, op, value):
            return f"{column} {op} {value.name if isinstance(value, Column) else value!r}"
        case IsIn(column, values):
            shown = ", ".join(map(repr, values[:10])) + (f", ... ({len(values)})" if len(values) > 10 else "")
            return f"{column} in ({shown})"
        case IsNull(column):
            return f"{column} is null"
        case Like(column, pattern):
            return f"{column} like {pattern!r}"
        case ComputedComparison(left, op, right):
            return f"{render_value(left)} {op} {render_value(right)}"
        case And(parts):
            return " and ".join(map(_inner, parts)) if parts else "all rows"
        case Or(parts):
            return " or ".join(map(_inner, parts)) if parts else "no row"
        case Not(part):
            return f"not {_inner(part)}"


def _inner(expression: Expression) -> str:
    return f"({render(expression)})" if isinstance(expression, And | Or) else render(expression)
