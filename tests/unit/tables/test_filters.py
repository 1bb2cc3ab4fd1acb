from __future__ import annotations

import pyarrow as pa
import pytest

from buffetstore.errors import InvalidQueryError
from buffetstore.expressions import And, Comparison, IsIn, IsNull, Not, Or
from buffetstore.objects import MemoryStore
from buffetstore.tables import DeltaTable
from buffetstore.tables.filters import predicate_of


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (None, None),
        ([], None),
        (IsNull("a"), IsNull("a")),
        ([("a", "=", 1)], Comparison("a", "==", 1)),
        ([("a", "<>", 1), ("b", ">=", 2)], And((Comparison("a", "!=", 1), Comparison("b", ">=", 2)))),
        ([[("a", "in", {1})], [("b", "not in", [2])]], Or((IsIn("a", (1,)), Not(IsIn("b", (2,)))))),
        ([("a", "==", None)], IsNull("a")),
        ([("a", "!=", None)], Not(IsNull("a"))),
    ],
)
def test_triples_are_predicates(filters, expected):
    assert predicate_of(filters) == expected


@pytest.mark.parametrize(
    "filters", ["a > 1", 5, [("a", ">")], [("a", "~", 1)], [["a", ">", 1]], [("a", "in", "text")], [("a", "in", 5)]]
)
def test_what_is_no_filter_is_said(filters):
    with pytest.raises(InvalidQueryError):
        predicate_of(filters)


async def test_they_choose_rows_and_files():
    table = await DeltaTable.create(MemoryStore(), "t", pa.schema([("k", pa.int64())]))
    for keys in ([1, 2], [3, 4]):
        await table.append(pa.table({"k": keys}))
    assert (await table.find_files([("k", ">", 2)])).num_rows == 1
    assert (await table.to_arrow(filters=[("k", "in", [1, 4])]))["k"].to_pylist() == [1, 4]
    assert [batch.num_rows async for batch in table.scan(filters=[("k", "<", 2)])] == [1]
    with pytest.raises(InvalidQueryError, match="no column 'z'"):
        await table.to_arrow(filters=[("z", ">", 2)])
