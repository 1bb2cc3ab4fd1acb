from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pytest

from buffetstore.errors import InvalidQueryError
from buffetstore.expressions import And, Comparison, IsIn, IsNull, Not, Or
from buffetstore.query.model import DataQuery, filter_expression
from buffetstore.query.times import TimeRange


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("AAPL", Comparison("c", "==", "AAPL")),
        (["AAPL", "MSFT"], IsIn("c", ("AAPL", "MSFT"))),
        ({"AAPL"}, IsIn("c", ("AAPL",))),
        ([], IsIn("c", ())),
        ([1, None], Or((IsIn("c", (1,)), IsNull("c")))),
        (None, IsNull("c")),
        ({"ne": None}, And((Not(IsNull("c")),))),
        (
            {"gte": 1, "lt": 2, "ne": 1.5},
            And((Comparison("c", ">=", 1), Comparison("c", "<", 2), Comparison("c", "!=", 1.5))),
        ),
        (np.float64(1.5), Comparison("c", "==", 1.5)),
        (np.array([1, 2]), IsIn("c", (1, 2))),
    ],
)
def test_a_filter_is_an_expression(value: Any, expected: Any) -> None:
    assert filter_expression("c", value) == expected
    assert DataQuery("t", {"c": value}).predicate() == And((expected,))


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ({"filters": {"price": {"gtr": 5}}}, "'gtr'.*did you mean 'gt'"),
        ({"filters": {"price": {}}}, "empty dict"),
        ({"filters": {"price": {"gt": None}}}, "nothing is greater"),
        ({"filters": {"price": {"gt": [1]}}}, "is a list"),
        ({"filters": {"price": float("nan")}}, "NaN"),
        ({"filters": {1: 2}}, "name columns by strings"),
        ({"filters": [("price", 1)]}, "is a list, not a dict"),
        ({"limit": -1}, "limit=-1"),
        ({"limit": 1.5}, r"limit=1\.5"),
        ({"limit": True}, "limit=True"),
        ({"table_version": -2}, "table_version=-2"),
        ({"columns": []}, "names none"),
        ({"columns": "price"}, "list of column names"),
        ({"revisions": "latest"}, "'latest'"),
        ({"known_at": datetime(2024, 1, 1)}, "has no time zone"),  # noqa: DTZ001
        ({"known_at": date(2024, 1, 1)}, "is a day"),
        ({"date_range": {"start": "2024-02-01", "end": "2024-01-01"}}, "2024-02-01 after it ends at 2024-01-01"),
        ({"date_range": {"start": "2024-01-02", "end": "2024-01-01"}}, "after it ends"),
        ({"date_range": {"start": "2024-01-01T00:00:00"}}, "2024-01-01T00:00:00.*time zone"),
        ({"date_range": {"start": datetime(2024, 1, 1)}}, "time zone"),  # noqa: DTZ001
        ({"date_range": {"start": "1/2/2024"}}, "'1/2/2024' is not ISO 8601"),
        ({"date_range": {"start": 20240101}}, "20240101 is a int"),
        ({"date_range": {"from": "2024-01-01"}}, "'from'"),
        ({"date_range": ("2024-01-01", None)}, "'start'"),
        ({"date_range": {"end": date.max}}, "last day there is"),
        ({"tz": "Mars/Base"}, "Mars/Base"),
        ({"data_type": ""}, "data_type=''"),
    ],
)
def test_what_cannot_be_right_is_shown(arguments: dict[str, Any], shown: str) -> None:
    with pytest.raises(InvalidQueryError, match=shown):
        DataQuery(**({"data_type": "market_data"} | arguments))


def test_dates_are_whole_days_both_included() -> None:
    query = DataQuery("t", date_range={"start": "2024-01-01", "end": date(2024, 1, 31)})
    assert query.time_range() == TimeRange(datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC))


def test_days_of_another_zone_follow_its_clock_changes() -> None:
    query = DataQuery("t", date_range={"start": "2024-03-10", "end": "2024-03-10"}, tz="America/New_York")
    start, end = query.time_range()
    assert start == datetime(2024, 3, 10, 5, tzinfo=UTC)
    assert end == datetime(2024, 3, 11, 4, tzinfo=UTC)


def test_moments_are_half_open_and_may_have_any_offset() -> None:
    query = DataQuery("t", date_range={"start": "2024-01-01T09:30:00-05:00", "end": datetime(2024, 1, 2, tzinfo=UTC)})
    assert query.time_range() == TimeRange(datetime(2024, 1, 1, 14, 30, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC))


def test_either_end_may_be_open() -> None:
    assert DataQuery("t", date_range={"start": "2024-01-01"}).time_range().end is None
    assert DataQuery("t", date_range={"end": "2024-01-01", "start": None}).time_range().start is None
    assert DataQuery("t").time_range() == TimeRange()


def test_changing_the_dict_afterwards_does_not_change_the_query() -> None:
    filters: dict[str, Any] = {"symbol": ["AAPL"], "price": {"gt": 1}}
    query = DataQuery("t", filters)
    filters["symbol"].append("MSFT")
    filters["price"]["gt"] = 100
    assert query.predicate() == And((IsIn("symbol", ("AAPL",)), And((Comparison("price", ">", 1),))))
