"""What a table declares is held by us on every write, and by deltalake in the same way."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from buffetstore.errors import (
    CommitConflictError,
    ConstraintViolationError,
    InvalidInputError,
    UnsupportedFeatureError,
)
from buffetstore.expressions import And, Column, Comparison, IsIn, IsNull, Not, Or, evaluate
from buffetstore.objects import LocalStore
from buffetstore.tables import DeltaTable, Metadata, Protocol
from buffetstore.tables.actions import write_actions
from buffetstore.tables.constraints import null_safe, violation
from buffetstore.tables.log import commit_key
from buffetstore.tables.schema import schema_to_json
from buffetstore.tables.sql import parse_predicate, to_sql

NAN = float("nan")
SCHEMA = pa.schema([
    ("n", pa.int64()),
    ("s", pa.string()),
    ("p", pa.decimal128(18, 8)),
    ("m", pa.decimal128(22, 2)),
    ("f", pa.float64()),
    ("t", pa.timestamp("us", tz="UTC")),
    ("d", pa.date32()),
    ("b", pa.bool_()),
    ("Low x", pa.int64()),
    ("i", pa.int32()),
])  # fmt: skip
ROW = {
    "n": 1, "s": "a", "p": Decimal(1), "m": Decimal(1), "f": 1.0, "t": datetime(2024, 1, 1, tzinfo=UTC),
    "d": date(2024, 1, 1), "b": True, "Low x": 1, "i": 1,
}  # fmt: skip


def rows(*changes: dict) -> pa.Table:
    return pa.Table.from_pylist([ROW | change for change in changes], schema=SCHEMA)


@pytest.fixture
async def table(store):
    async with DeltaTable.create(store, "t", SCHEMA) as table:
        yield table


# Each predicate with rows, and whether they pass: proved on deltalake below.
CASES = [
    (Comparison("n", ">", 0), [({"n": 1}, True), ({"n": 0}, False), ({"n": None}, False)]),
    (Or((IsNull("n"), Comparison("n", ">=", 0))), [({"n": None}, True), ({"n": -1}, False)]),
    (Comparison("Low x", "<=", 5), [({"Low x": 5}, True), ({"Low x": 6}, False)]),
    (Comparison("n", "<=", Column("i")), [({"i": 0}, False), ({"i": 2}, True), ({"i": None}, False)]),
    (Comparison("p", ">", Decimal("0.00000001")),
     [({"p": Decimal("0.00000001")}, False), ({"p": Decimal("0.00000002")}, True)]),
    (Comparison("p", "<=", Column("m")), [({"p": Decimal("1.00000001")}, False), ({"m": Decimal(10) ** 19}, True)]),
    (Comparison("f", ">", 0.1), [({"f": 0.1}, False), ({"f": 0.10000000000000002}, True), ({"f": NAN}, True)]),
    (Comparison("f", "<=", 1e300), [({"f": 1e301}, False), ({"f": NAN}, False), ({"f": float("-inf")}, True)]),
    (Comparison("f", "==", 0), [({"f": -0.0}, True), ({"f": 5e-324}, False)]),
    (Comparison("d", ">=", date(2000, 1, 1)), [({"d": date(1999, 12, 31)}, False), ({"d": None}, False)]),
    (Comparison("t", ">=", datetime(2000, 1, 1, 0, 0, 0, 5, UTC)),
     [({"t": datetime(2000, 1, 1, 0, 0, 0, 4, UTC)}, False), ({"t": datetime(2000, 1, 1, 0, 0, 0, 5, UTC)}, True)]),
    (Comparison("b", "==", True), [({"b": False}, False), ({"b": None}, False)]),
    (IsIn("s", ("a", "日本 é")), [({"s": "日本 é"}, True), ({"s": "b"}, False), ({"s": None}, False)]),
    (Not(IsIn("s", ("b", "c"))), [({"s": "b"}, False), ({"s": None}, False)]),
    (Not(IsNull("s")), [({"s": None}, False), ({"s": ""}, True)]),
    (And((Comparison("n", "!=", 3), Or((Comparison("s", "==", "a"), Comparison("i", ">", -5))))),
     [({"n": 3}, False), ({"s": "b", "i": -5}, False), ({"s": "b"}, True)]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("predicate", "cases"), CASES, ids=lambda value: to_sql(value) if hasattr(value, "__slots__") else ""
)
async def test_deltalake_and_we_hold_rows_to_the_same(tmp_path, predicate, cases) -> None:
    deltalake = pytest.importorskip("deltalake")
    async with DeltaTable.create(LocalStore(tmp_path), "t", SCHEMA) as table:
        version = await table.add_constraint("k", predicate)
        assert (version, table.snapshot.protocol) == (1, Protocol(1, 3))
        for change, passes in [({}, True), *cases]:
            given = rows(change)
            if change == {} and evaluate(predicate, ROW) is not True:
                continue
            for write in (lambda given=given: deltalake.write_deltalake(tmp_path / "t", given, mode="append"), None):
                refusal = ""
                try:
                    write() if write is not None else await table.append(given)
                except (ConstraintViolationError, deltalake.exceptions.DeltaError) as error:
                    refusal = str(error)
                assert (refusal == "") is passes, (change, refusal)
                assert passes or "failed validation" in refusal or "constraint 'k'" in refusal


@pytest.mark.parametrize("sql", [
    # Not decimals: deltalake 1.6 writes 1.5 as 150000000, and holds rows to that.
    "n > 0", "`n` >= -5 AND NOT (`n` = 7)", "t >= '2000-01-01T00:00:00Z'",
    "d >= '2000-01-01'", "s = 'a' OR s = 'b'", "n BETWEEN 0 AND 5", "b", '"Low x" > 0', "f > 0.1 AND f < 1e3",
])  # fmt: skip
async def test_what_deltalake_writes_of_a_constraint_is_read(tmp_path, sql) -> None:
    deltalake = pytest.importorskip("deltalake")
    deltalake.write_deltalake(tmp_path / "t", rows({}))
    foreign = deltalake.DeltaTable(tmp_path / "t")
    foreign.alter.add_constraint({"k": sql.replace('"', "`")})
    async with DeltaTable.open(LocalStore(tmp_path), "t") as table:
        (written,) = table.metadata.configuration.values()
        assert to_sql(parse_predicate(written, SCHEMA)) == to_sql(parse_predicate(sql, SCHEMA))
        await table.append(rows({}))
        with pytest.raises(ConstraintViolationError, match="'k'"):
            await table.append(rows(dict.fromkeys(ROW)))


async def test_a_violation_names_the_constraint_the_count_and_the_first_row(table) -> None:
    await table.add_constraint("Positive", "n > 0")
    with pytest.raises(ConstraintViolationError) as caught:
        await table.append(rows({}, {"n": -3}, {"n": None}))
    assert (caught.value.constraint, caught.value.rows) == ("positive", 2)
    for part in ("'positive'", "`n` > 0", "'t'", "2 of 3 rows", "row 1: n=-3"):
        assert part in str(caught.value)
    assert table.version == 1
    assert table.files().num_rows == 0


async def test_every_way_to_write_is_held(table) -> None:
    await table.append(rows({"s": "stored"}))
    await table.add_constraint("positive", "n > 0")
    bad = rows({"n": 0})
    with pytest.raises(ConstraintViolationError):
        await table.append(bad)
    with pytest.raises(ConstraintViolationError):
        await table.upsert(bad, key=["s"])
    with pytest.raises(ConstraintViolationError):
        await table.overwrite(bad)
    with pytest.raises(ConstraintViolationError):
        await table.overwrite(bad, predicate=Comparison("s", "==", "a"))
    assert table.version == 2
    await table.upsert(rows({"n": 2, "s": "stored"}), key=["s"])
    await table.overwrite(rows({"n": 3}))
    assert (await table.to_arrow())["n"].to_pylist() == [3]


async def test_a_write_that_is_sent_again_was_done_whatever_has_been_declared_since(table) -> None:
    await table.append(rows({"n": -1}), idempotency_key="k")
    await table.delete(Comparison("n", "<", 0))
    await table.add_constraint("positive", "n > 0")
    assert (await table.append(rows({"n": -1}), idempotency_key="k")).rows == 0
    with pytest.raises(ConstraintViolationError):
        await table.append(rows({"n": -1}), idempotency_key="l")


async def test_partition_columns_are_held_too(store) -> None:
    async with DeltaTable.create(store, "p", SCHEMA, partition_by=["s"]) as table:
        await table.append(rows({"s": "x"}))
        await table.add_constraint("known", IsIn("s", ("x", "y")))
        with pytest.raises(ConstraintViolationError):
            await table.append(rows({"s": "z"}))
        with pytest.raises(ConstraintViolationError, match="stored"):
            await table.add_constraint("only", IsIn("s", ("y",)))


async def test_stored_rows_are_held_before_a_constraint_is_declared(store) -> None:
    async with DeltaTable.create(store, "t", SCHEMA) as table:
        await table.append(rows({"n": 5}))
        await table.append(rows({"n": 7}, {"n": None}))
        with pytest.raises(ConstraintViolationError, match=r"1 of 2 rows.*n=None.*stored"):
            await table.add_constraint("there", "n > 0")
        with pytest.raises(ConstraintViolationError, match="n=5"):
            await table.add_constraint("big", "n IS NULL OR n > 5")
        assert table.version == 2
        assert await table.add_constraint("small", "n IS NULL OR n < 8") == 3
        await table.delete(IsNull("n"))
        assert await table.add_constraint("there", "n IS NOT NULL") == 5


async def test_only_files_that_may_break_it_are_read(store) -> None:
    async with DeltaTable.create(store, "t", SCHEMA) as table:
        first = await table.append(rows({"n": 5}))
        await table.append(rows({"n": 50}))
        await store.delete([f"t/{first.files[0].path}"])
        await table.add_constraint("good", "n >= 50 OR n = 5")


async def test_a_constraint_is_dropped(table) -> None:
    await table.add_constraints({"one": "n > 0", "two": Comparison("n", "<", 9)})
    assert table.version == 1
    with pytest.raises(InvalidInputError, match="'one' already"):
        await table.add_constraint("ONE", "n > 1")
    assert await table.drop_constraint("One") == 2
    await table.append(rows({"n": -1}))
    with pytest.raises(ConstraintViolationError):
        await table.append(rows({"n": 9}))
    with pytest.raises(InvalidInputError, match="there are two"):
        await table.drop_constraint("one")
    assert await table.add_constraints({}) == 3


@pytest.mark.parametrize(("sql", "why"), [
    ("length(s) > 0", "function length"),
    ("n + 1 > 0", "comparison is expected"),
    ("s = 'it''s'", "do not agree"),
    ("s = 'a\\b'", "do not agree"),
    ('s = "b"', "text to some"),
    ("t > TIMESTAMP '2024-01-01 00:00:00'", "as timestamp"),
    ("n > 'a'", "whole number"),
    ("missing > 1", "no column 'missing'"),
    ("n >", "too early"),
    ("", "too early"),
    ("(n > 1", "expected"),
    ("1 = 1", "constants"),
    ("n", "comparison is expected"),
    ("n > NULL", "no column 'NULL'"),
    ("s > n", "is a text"),
    ("n <=> 1", "expected"),
    ("n ? 1", "cannot be read"),
    ("d > CAST(1.5 AS int)", "as int"),
    ("(" * 5000 + "n > 1" + ")" * 5000, "nested too deeply"),
    ("s LIKE 'a%'", "comparison"),
    ("n IN ()", "expected"),
    ("n IN (i)", "list of columns"),
    ("n > 1; DROP", "cannot be read"),
    ("b = 1", "truth"),
    ("p > f", "is a decimal"),
])  # fmt: skip
async def test_what_engines_do_not_read_alike_is_not_declared(table, sql, why) -> None:
    with pytest.raises(InvalidInputError, match=why):
        await table.add_constraint("k", sql)
    assert table.version == 0


@pytest.mark.parametrize("predicate", [
    Comparison("s", "==", "it's"),
    Comparison("s", "==", "a\\"),
    Comparison("s", "==", "a\nb"),
    Comparison("f", ">", NAN),
    Comparison("t", ">", datetime(2024, 1, 1)),  # noqa: DTZ001 - has no zone on purpose
    And(()),
    Or(()),
    IsIn("n", ()),
    Comparison("n", "==", None),
    Comparison("n", ">", b"x"),
])  # fmt: skip
async def test_what_has_no_portable_text_is_not_declared(table, predicate) -> None:
    with pytest.raises(InvalidInputError, match="cannot be declared"):
        await table.add_constraint("k", predicate)


@pytest.mark.parametrize("name", ["", "a b", "a.b", "x'"])
async def test_a_constraint_has_a_plain_name(table, name) -> None:
    with pytest.raises(InvalidInputError, match="letters"):
        await table.add_constraint(name, "n > 1")


async def by_hand(store, protocol: Protocol, configuration=None, **column: str) -> DeltaTable:
    schema = json.loads(schema_to_json(SCHEMA))
    schema["fields"][0]["metadata"] = column
    actions = [protocol, Metadata("id", json.dumps(schema), configuration=configuration or {})]
    await store.put(commit_key("h", 0), write_actions(actions))
    return await DeltaTable.open(store, "h")


async def test_a_constraint_that_cannot_be_read_stops_writing_by_name(store) -> None:
    table = await by_hand(store, Protocol(1, 3), {"delta.constraints.odd": "upper(s) = s"})
    with pytest.raises(UnsupportedFeatureError, match=r"'odd'.*upper"):
        await table.append(rows({}))
    with pytest.raises(UnsupportedFeatureError, match="'odd'"):
        await table.add_constraint("k", "n > 0")
    assert (await table.to_arrow()).num_rows == 0


async def test_constraints_are_ignored_where_the_protocol_does_not_know_them(store) -> None:
    table = await by_hand(store, Protocol(1, 2), {"delta.constraints.odd": "upper(s) = s"})
    await table.append(rows({}))
    assert (await table.to_arrow()).num_rows == 1


async def test_a_table_with_features_gets_the_feature(store) -> None:
    table = await by_hand(store, Protocol(1, 7, (), ("appendOnly",)))
    await table.add_constraint("k", "n > 0")
    assert table.snapshot.protocol == Protocol(1, 7, (), ("appendOnly", "checkConstraints"))
    await table.add_constraint("l", "n > -1")
    assert table.snapshot.protocol.writer_features == ("appendOnly", "checkConstraints")


async def test_invariants_are_held_and_odd_ones_refused(store) -> None:
    invariant = json.dumps({"expression": {"expression": "n > 3"}})
    table = await by_hand(store, Protocol(1, 2), **{"delta.invariants": invariant})
    await table.append(rows({"n": 4}))
    with pytest.raises(ConstraintViolationError, match="invariant of n"):
        await table.append(rows({"n": 3}))
    with pytest.raises(ConstraintViolationError, match="invariant of n"):
        await table.append(rows({"n": None}))


async def test_an_invariant_of_a_nested_field_is_refused(store) -> None:
    field = {"name": "x", "type": "long", "nullable": True, "metadata": {"delta.invariants": "{}"}}
    struct = {"name": "o", "type": {"type": "struct", "fields": [field]}, "nullable": True, "metadata": {}}
    actions = [Protocol(1, 2), Metadata("id", json.dumps({"type": "struct", "fields": [struct]}))]
    await store.put(commit_key("h", 0), write_actions(actions))
    table = await DeltaTable.open(store, "h")
    with pytest.raises(UnsupportedFeatureError, match="nested field"):
        await table.append(pa.table({"o": [{"x": 1}]}))


async def test_rows_on_their_way_are_not_committed_past_a_new_constraint(store) -> None:
    async with DeltaTable.create(store, "t", SCHEMA) as ours, DeltaTable.open(store, "t") as theirs:
        await theirs.add_constraint("k", "n > 0")
        with pytest.raises(CommitConflictError):  # the protocol was changed
            await ours.append(rows({"n": -1}))
        await ours.refresh()
        await theirs.add_constraint("l", "n > 1")
        with pytest.raises(CommitConflictError):  # the metadata was
            await ours.append(rows({"n": 1}))
        await theirs.refresh()
        await ours.refresh()
        await ours.append(rows({"n": 2}))
        # And a constraint is not declared past rows that it was not held to.
        with pytest.raises(ConstraintViolationError, match="stored"):
            await theirs.add_constraint("m", "n > 2")


def test_null_safe_and_violation_are_never_unknown() -> None:
    predicate = And((Comparison("n", ">", 0), Not(Or((IsIn("s", ("a",)), Comparison("n", "<", Column("i")))))))
    for n in (None, 0, 5):
        for s in (None, "a", "b"):
            for i in (None, 1, 9):
                row = {"n": n, "s": s, "i": i}
                truth = evaluate(predicate, row)
                assert evaluate(null_safe(predicate), row) is (truth is not False)
                assert evaluate(violation(predicate), row) is (truth is not True)
