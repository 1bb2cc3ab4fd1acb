"""Which columns have statistics is for the table to say, and rows are found without them."""

from __future__ import annotations

import json

import deltalake
import pyarrow as pa
import pytest

from buffetstore.expressions import Comparison
from buffetstore.objects import LocalStore
from buffetstore.tables import DeltaTable
from buffetstore.tables.log import commit_key

INDEXED, NAMED = "delta.dataSkippingNumIndexedCols", "delta.dataSkippingStatsColumns"
SCHEMA = pa.schema(
    [
        ("a", pa.int64()),
        ("b", pa.string()),
        ("both", pa.struct([("x", pa.int64()), ("y", pa.int64())])),
        ("c", pa.float64()),
        ("d e", pa.int64()),
    ]
)
CASES = [
    ({}, {"a", "b", "c", "d e"}),
    ({INDEXED: "-1"}, {"a", "b", "c", "d e"}),
    ({INDEXED: "0"}, set()),
    ({INDEXED: "2"}, {"a", "b"}),
    ({NAMED: "c, a"}, {"a", "c"}),
    ({NAMED: "c,`d e`,gone"}, {"c", "d e"}),
    ({NAMED: "b", INDEXED: "1"}, {"b"}),
]
# The struct counts as its two fields, as Spark has it; for deltalake it is one column.
NESTED = [({INDEXED: "4"}, {"a", "b"}), ({INDEXED: "5"}, {"a", "b", "c"})]


def rows(first: int = 0, count: int = 3) -> pa.Table:
    numbers = range(first, first + count)
    columns = {
        "a": list(numbers),
        "b": [f"t{n}" for n in numbers],
        "both": [{"x": n, "y": n} for n in numbers],
        "c": [n / 2 for n in numbers],
        "d e": list(numbers),
    }
    return pa.table(columns, schema=SCHEMA)


def told(folder, version: int) -> list[set[str]]:
    """Return the columns of which the files of a commit have statistics."""
    lines = (folder / commit_key("t", version)).read_text().splitlines()
    stats = [json.loads(body["add"]["stats"]) for body in map(json.loads, lines) if "add" in body]
    for each in stats:
        assert each["numRecords"] > 0
        assert set(each["minValues"]) == set(each["maxValues"]) == set(each["nullCount"])
    return [set(each["minValues"]) for each in stats]


@pytest.mark.parametrize(("properties", "columns"), CASES + NESTED)
async def test_new_files_tell_of_the_columns_that_the_table_asks_for(tmp_path, properties, columns) -> None:
    async with DeltaTable.create(LocalStore(tmp_path), "t", SCHEMA, configuration=properties) as table:
        versions = [(await table.append(rows())).version, (await table.append(rows(3))).version]
        versions.append((await table.upsert(rows(1, 1).set_column(1, "b", pa.array(["new"])), key=["a"])).version)
        versions.append((await table.delete(Comparison("a", "==", 5))).version)
        versions.append((await table.compact()).version)
        assert [told(tmp_path, version) for version in versions] == [[columns]] * len(versions)
        # What statistics cannot tell is read.
        for name, value in (("a", 4), ("b", "t4"), ("c", 2.0), ("d e", 4)):
            found = await table.to_arrow(filters=Comparison(name, "==", value))
            assert found["a"].to_pylist() == [4], name
        assert (await table.verify(deep=True)).ok
        assert (await table.restore(2)).restored


@pytest.mark.parametrize(("properties", "columns"), [case for case in CASES if "gone" not in str(case[0])])
async def test_deltalake_tells_of_the_same_columns(tmp_path, properties, columns) -> None:
    async with DeltaTable.create(LocalStore(tmp_path), "t", SCHEMA, configuration=properties) as table:
        await table.append(rows())
        await table.checkpoint()
        deltalake.write_deltalake(tmp_path / "t", rows(3), mode="append")
        theirs = [{name for name in each if name != "both"} for each in told_by_deltalake(tmp_path, 2)]
        assert theirs == told(tmp_path, 1) == [columns]
        await table.refresh()
        assert (await table.to_arrow(filters=Comparison("c", ">=", 1.5)))["a"].to_pylist() == [3, 4, 5]
        others = deltalake.DeltaTable(tmp_path / "t").to_pyarrow_table(filters=[("a", ">=", 2)])
        assert sorted(others["a"].to_pylist()) == [2, 3, 4, 5]


def told_by_deltalake(folder, version: int) -> list[set[str]]:
    lines = (folder / commit_key("t", version)).read_text().splitlines()
    return [set(json.loads(body["add"]["stats"])["nullCount"]) for body in map(json.loads, lines) if "add" in body]


async def test_a_change_of_the_property_holds_for_files_to_come(tmp_path) -> None:
    async with DeltaTable.create(LocalStore(tmp_path), "t", SCHEMA) as table:
        await table.append(rows())
        await table.set_properties({NAMED: "a"})
        result = await table.append(rows(3))
        assert told(tmp_path, result.version) == [{"a"}]


async def test_a_value_of_another_engine_that_is_no_number_counts_as_none(tmp_path) -> None:
    async with DeltaTable.create(LocalStore(tmp_path), "t", SCHEMA) as table:
        pass
    key = tmp_path / commit_key("t", 0)
    key.write_text(
        key.read_text().replace('"configuration":{}', json.dumps({"configuration": {INDEXED: "many"}})[1:-1])
    )
    async with DeltaTable.open(LocalStore(tmp_path), "t") as table:
        result = await table.append(rows())
        assert told(tmp_path, result.version) == [{"a", "b", "c", "d e"}]
