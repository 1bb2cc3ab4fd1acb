"""Predicates: rules of a contract and filters of a query, as values and as passes over rows and over bounds."""

from buffetstore.expressions.kernels import filter_rows, mask
from buffetstore.expressions.nodes import (
    ALWAYS,
    And,
    Column,
    Comparison,
    Expression,
    IsIn,
    IsNull,
    Not,
    Operator,
    Or,
    columns_of,
    evaluate,
)
from buffetstore.expressions.pruning import Bounds, may_match
from buffetstore.expressions.rendering import render

__all__ = [
    "ALWAYS",
    "And",
    "Bounds",
    "Column",
    "Comparison",
    "Expression",
    "IsIn",
    "IsNull",
    "Not",
    "Operator",
    "Or",
    "columns_of",
    "evaluate",
    "filter_rows",
    "mask",
    "may_match",
    "render",
]
