"""Each rule by itself, and that together they never change which rows satisfy."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffetstore.expressions import (
    ALWAYS,
    And,
    Arithmetic,
    Column,
    Comparison,
    ComputedComparison,
    Constant,
    Expression,
    IsIn,
    IsNull,
    Like,
    Not,
    Or,
    evaluate,
)
from buffetstore.query import DataQuery, QueryOptimizer, bind, bind_expression
from buffetstore.query.folding import (
    any_text,
    fold_constants,
    negate_comparisons,
    plain_patterns,
    push_not,
    without_values,
)
from buffetstore.query.rules import NEVER, UNBOUND_RULES, simplify
from buffetstore.schemas import SchemaManager

READS = ComputedComparison(Arithmetic("+", Column("a"), Constant(1)), ">", Constant(1))
A, B = Comparison("a", ">", 1), Comparison("b", "==", 2)
SCHEMA = pa.schema([("a", pa.int64()), ("b", pa.int64()), ("s", pa.string()), ("x", pa.float64())])


def constants(left: Any, op: Any, right: Any) -> ComputedComparison:
    return ComputedComparison(Constant(left), op, Arithmetic("*", Constant(right), Constant(2)))


@pytest.mark.parametrize(
    ("rule", "given", "simpler"),
    [
        (fold_constants, constants(4, "==", 2), ALWAYS),
        (fold_constants, Not(And((constants(4, ">", 2), A))), Not(And((NEVER, A)))),
        (fold_constants, constants(None, "==", 2), constants(None, "==", 2)),
        (fold_constants, constants("text", "==", "other"), constants("text", "==", "other")),
        (fold_constants, READS, READS),
        (plain_patterns, Not(Like("s", "AAPL")), Not(Comparison("s", "==", "AAPL"))),
        (plain_patterns, Like("s", "A_PL"), Like("s", "A_PL")),
        (plain_patterns, Like("s", "\\%"), Like("s", "\\%")),
        (any_text, And((Like("s", "%%"), A)), And((Not(IsNull("s")), A))),
        (any_text, Not(Like("s", "%")), Not(Like("s", "%"))),
        (any_text, Like("s", ""), Like("s", "")),
        (push_not, Not(And((A, Not(B)))), Or((Not(A), B))),
        (push_not, Not(Or((A, IsNull("a")))), And((Not(A), Not(IsNull("a"))))),
        (push_not, Not(ALWAYS), NEVER),
        (negate_comparisons, Not(A), Comparison("a", "<=", 1)),
        (negate_comparisons, Not(Comparison("x", ">", 1.0)), Not(Comparison("x", ">", 1.0))),
        (negate_comparisons, Not(Comparison("a", ">", Column("b"))), Not(Comparison("a", ">", Column("b")))),
        (without_values, And((Not(IsNull("a")), A)), And((A,))),
        (without_values, And((Not(IsNull("b")), A)), And((Not(IsNull("b")), A))),
        (without_values, And((IsNull("s"), Like("s", "A%"))), NEVER),
        (without_values, And((IsNull("s"), Not(IsNull("s")))), NEVER),
        (without_values, Or((IsNull("s"), Like("s", "A%"))), Or((IsNull("s"), Like("s", "A%")))),
    ],
)  # fmt: skip
def test_a_rule(rule: Any, given: Expression, simpler: Expression) -> None:
    assert rule(given) == simpler


def test_together() -> None:
    bound = bind_expression(And((Like("s", "A"), Comparison("s", ">", "B"))), SCHEMA, "things")
    assert bound == NEVER
    bound = bind_expression(And((Not(Comparison("a", "<=", 3)), IsIn("a", (1, 3, 5)))), SCHEMA, "things")
    assert bound == Comparison("a", "==", 5)


def test_a_filter_outside_of_the_date_range_reads_nothing() -> None:
    contract = SchemaManager().contract("market_data")
    query = DataQuery(
        "market_data",
        {"timestamp": {"lt": datetime(2024, 1, 1, tzinfo=UTC)}},
        date_range={"start": date(2024, 1, 1)},
    )
    assert bind(QueryOptimizer().optimize(query), contract, contract.schema).is_empty


def test_a_pattern_on_numbers_stays_a_pattern_until_its_column_is_known() -> None:
    assert simplify(Like("a", "12"), UNBOUND_RULES)[0] == Like("a", "12")


numbers = st.integers(-2, 2)
operators = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
leaves = st.one_of(
    st.builds(Comparison, st.sampled_from("ab"), operators, numbers),
    st.builds(Comparison, st.just("x"), operators, st.sampled_from([-1.0, 0.0, 1.5])),
    st.builds(Comparison, st.just("s"), operators, st.sampled_from(["", "A", "AB"])),
    st.builds(Comparison, st.just("a"), operators, st.just(Column("b"))),
    st.builds(IsIn, st.sampled_from("ab"), st.lists(numbers, max_size=3).map(tuple)),
    st.builds(Like, st.just("s"), st.sampled_from(["%", "A", "A%", "_", "%%", ""])),
    st.builds(IsNull, st.sampled_from("absx")),
    st.builds(constants, numbers, operators, numbers),
    st.builds(ComputedComparison, st.just(READS.left), operators, st.builds(Constant, numbers)),
)  # fmt: skip
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(And, st.lists(inner, max_size=4).map(tuple)),
        st.builds(Or, st.lists(inner, max_size=4).map(tuple)),
        st.builds(Not, inner),
    ),
    max_leaves=10,
)
rows = st.fixed_dictionaries(
    {
        "a": st.none() | st.integers(-3, 3),
        "b": st.none() | st.integers(-3, 3),
        "s": st.sampled_from([None, "", "A", "AB", "B"]),
        "x": st.sampled_from([None, -1.0, 0.0, 1.5, 2.0, math.nan]),
    }
)


@given(trees, st.lists(rows, min_size=1, max_size=20))
def test_rules_never_change_which_rows_satisfy(expression: Expression, found: list[dict[str, Any]]) -> None:
    bound = bind_expression(expression, SCHEMA, "things")
    unbound, _ = simplify(expression, UNBOUND_RULES)
    for row in found:
        wanted = evaluate(expression, row) is True
        assert (evaluate(bound, row) is True) == wanted, (bound, row)
        assert (evaluate(unbound, row) is True) == wanted, (unbound, row)
