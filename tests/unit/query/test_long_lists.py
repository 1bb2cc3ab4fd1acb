from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffetstore.expressions import Bounds, IsIn, Not, evaluate, filter_rows, may_match

numbers = st.integers(-200, 200)


@given(
    st.lists(st.lists(numbers, min_size=1, max_size=5), min_size=1, max_size=6),
    st.lists(numbers, min_size=33, max_size=90),
)
def test_pruning_by_a_long_list_loses_no_row(groups: list[list[int]], members: list[int]) -> None:
    bounds = {
        "x": Bounds(pa.array(map(min, groups)), pa.array(map(max, groups)), pa.array([0] * len(groups), pa.int64()))
    }
    rows = pa.array(map(len, groups), pa.int64())
    for predicate in (IsIn("x", tuple(members)), Not(IsIn("x", tuple(members)))):
        kept = may_match(predicate, bounds, rows).to_pylist()
        for group, keep in zip(groups, kept, strict=True):
            assert keep or not any(evaluate(predicate, {"x": value}) for value in group)


def test_a_long_list_does_prune() -> None:
    bounds = {"x": Bounds(pa.array([0, 50_000]), pa.array([9, 50_009]), pa.array([0, 0]))}
    members = (*range(100, 140), *range(50_000, 50_040))
    assert may_match(IsIn("x", members), bounds, pa.array([10, 10])).to_pylist() == [False, True]


@pytest.mark.parametrize(
    ("column", "members"),
    [
        (pa.array(["a", None, "é"]), [*(f"s{number}" for number in range(5_000)), "é"]),
        (pa.array([1, None, 3]), [*range(100, 5_000), 3.0, 1.5]),
        (pa.array([Decimal("1.50"), None, Decimal("3.00")]), [*map(Decimal, range(3, 4_000)), Decimal("1.555")]),
        (pa.array([1.5, None, -0.0]), [*map(float, range(3, 4_000)), 0.0, float("nan")]),
    ],
)
def test_rows_of_a_long_list(column: Any, members: list[Any]) -> None:
    assert filter_rows(pa.table({"x": column}), IsIn("x", tuple(members)))["x"].to_pylist() == [column[2].as_py()]
