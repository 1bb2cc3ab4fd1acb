from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffetstore.errors import InvalidQueryError
from buffetstore.expressions import And, Comparison, Expression, IsIn, IsNull, Not, Or, evaluate
from buffetstore.query.model import DataQuery
from buffetstore.query.optimizer import QueryOptimizer
from buffetstore.query.rules import NEVER, simplify


def plan(filters: dict[str, Any] | None = None, **options: Any) -> Any:
    return QueryOptimizer().optimize(DataQuery("market_data", filters, **options))


def test_ranges_on_a_column_are_merged() -> None:
    merged, rules = simplify(
        And(
            (
                Comparison("p", ">", 1),
                And((Comparison("p", ">=", 2), Comparison("p", "<", 9), Comparison("p", "<=", 9))),
            )
        )
    )
    assert merged == And((Comparison("p", ">=", 2), Comparison("p", "<", 9)))
    assert rules == ("flatten", "merge ranges")


def test_members_are_distinct_and_within_the_range() -> None:
    assert simplify(And((IsIn("p", (1, 5, 5, 9)), Comparison("p", ">", 1), Comparison("p", "!=", 9))))[0] == Comparison(
        "p", "==", 5
    )
    assert plan({"symbol": ["A", "B", "A"]}).predicate == IsIn("symbol", ("A", "B"))


@pytest.mark.parametrize(
    "filters",
    [
        {"price": {"gt": 5, "lt": 3}},
        {"price": {"gt": Decimal(5), "lte": 5}},
        {"price": []},
        {"timestamp": {"gte": datetime(2024, 1, 2, tzinfo=UTC), "lt": datetime(2024, 1, 1, tzinfo=UTC)}},
        {"expiration_date": {"gt": date(2024, 1, 1), "lt": date(2024, 1, 1)}},
    ],
)
def test_contradictions_make_an_empty_plan(filters: dict[str, Any]) -> None:
    assert plan(filters).is_empty
    assert "nothing to read" in plan(filters).explain()


def test_text_has_no_order_before_its_column_is_known() -> None:
    assert not plan({"price": {"gte": "9", "lte": "10"}}).is_empty
    assert simplify(And((Comparison("c", ">=", "9"), Comparison("c", "<=", "10"))))[0] == NEVER


def test_limit_zero_and_an_empty_moment_read_nothing() -> None:
    assert plan(limit=0).is_empty
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    assert plan(date_range={"start": moment, "end": moment}).is_empty


def test_explain_names_every_step() -> None:
    text = plan(
        {"symbol": ["A", "B"], "price": {"gte": 1}}, date_range={"start": "2024-01-01"}, columns=["price"], limit=3
    ).explain()
    for step in ("limit 3", "columns price", "symbol in ('A', 'B')", "price >= 1", "2024-01-01", "prune"):
        assert step in text


def test_a_plan_is_its_own_plan_and_nothing_else_is() -> None:
    found = plan()
    assert QueryOptimizer().optimize(found) is found
    with pytest.raises(InvalidQueryError, match="dict"):
        QueryOptimizer().optimize({"data_type": "market_data"})  # type: ignore[arg-type]


values = st.integers(-3, 3)
leaves = st.one_of(
    st.builds(Comparison, st.sampled_from("ab"), st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), values),
    st.builds(IsIn, st.sampled_from("ab"), st.lists(values, max_size=4).map(tuple)),
    st.builds(IsNull, st.sampled_from("ab")),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(And, st.lists(inner, max_size=4).map(tuple)),
        st.builds(Or, st.lists(inner, max_size=4).map(tuple)),
        st.builds(Not, inner),
    ),
    max_leaves=12,
)
ROWS = [{"a": a, "b": b} for a in (None, *range(-3, 4)) for b in (None, -1, 0, 2)]


@given(trees)
def test_rules_never_change_which_rows_satisfy(expression: Expression) -> None:
    simpler, _ = simplify(expression)
    for row in ROWS:
        assert (evaluate(simpler, row) is True) == (evaluate(expression, row) is True), (simpler, row)
