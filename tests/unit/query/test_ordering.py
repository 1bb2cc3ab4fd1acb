from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from buffetstore.query.ordering import last_of_each, sort_rows

rows = st.lists(
    st.fixed_dictionaries(
        {
            "text": st.sampled_from(["", "a", "B", "é", "日"]),
            "number": st.sampled_from([None, -(2**62), -1, 0, 2**62]),
            "time": st.sampled_from([datetime(1969, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)]),
            "day": st.sampled_from([date(1, 1, 1), date(2024, 1, 1)]),
            "price": st.sampled_from([Decimal("-1.5"), Decimal("2.25")]),
            "flag": st.booleans(),
        }
    ),
    max_size=40,
)
SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("number", pa.int64()),
        ("time", pa.timestamp("us", "UTC")),
        ("day", pa.date32()),
        ("price", pa.decimal128(18, 8)),
        ("flag", pa.bool_()),
    ]
)


@given(rows, st.lists(st.sampled_from(SCHEMA.names), unique=True, min_size=1))
def test_order_is_that_of_arrow_and_stable(found: list[dict[str, object]], columns: list[str]) -> None:
    table = pa.Table.from_pylist(found, SCHEMA).append_column("position", pa.array(range(len(found)), pa.int64()))
    expected = table.sort_by([(name, "ascending") for name in [*columns, "position"]])
    assert sort_rows(table, columns).equals(expected)


@given(rows, st.lists(st.sampled_from(SCHEMA.names), unique=True, min_size=1))
def test_the_last_of_each_key_remains(found: list[dict[str, object]], key: list[str]) -> None:
    table = pa.Table.from_pylist(found, SCHEMA)
    latest = {tuple(row[name] for name in key): row for row in found}
    kept = last_of_each(table, key).to_pylist()
    assert {tuple(row[name] for name in key): row for row in kept} == latest
    assert len(kept) == len(latest)


def test_sorted_rows_are_not_copied() -> None:
    table = pa.table({"a": ["x", "x", "y"], "b": [1, 2, 0]})
    assert sort_rows(table, ["a", "b"]) is table
