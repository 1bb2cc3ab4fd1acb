"""Pruning loses no row that matches, whatever the predicate; masks mean what `evaluate` means."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from buffetstore.expressions import (
    And,
    Arithmetic,
    Bounds,
    Column,
    Comparison,
    ComputedComparison,
    Constant,
    Function,
    IsIn,
    IsNull,
    Like,
    Not,
    Or,
    evaluate,
    mask,
    must_match,
)
from buffetstore.formats import ParquetFormatter, statistics_json
from buffetstore.tables import AddFile, prune
from buffetstore.tables.file_table import from_actions

SCHEMA = pa.schema(
    [
        ("a", pa.int64()),
        ("b", pa.int64()),
        ("x", pa.float64()),
        ("y", pa.float64()),
        ("s", pa.string()),
        ("p", pa.decimal128(18, 8)),
        ("t", pa.timestamp("us", tz="UTC")),
        ("d", pa.date32()),
        ("f", pa.bool_()),
    ]
)
START = datetime(2024, 1, 1, tzinfo=UTC)
VALUES = {
    "a": st.integers(-3, 3),
    "b": st.integers(-3, 3),
    "x": st.sampled_from([-math.inf, -1.5, -0.0, 0.0, 1.5, math.inf, math.nan]),
    "y": st.sampled_from([-1.5, 0.0, 1.5, math.nan]),
    "s": st.sampled_from(["", "a", "b", "é", "z" * 31 + "a", "z" * 40, "z" * 33 + "\U0010ffff", "\U0010ffff" * 40]),
    "p": st.integers(-3, 3).map(lambda n: Decimal(n) / 8) | st.just(Decimal("9999999999.99999999")),
    "t": st.integers(-2000, 2000).map(lambda n: START + timedelta(microseconds=n)),
    "d": st.integers(0, 4).map(lambda n: date(2024, 1, 1) + timedelta(days=n)),
    "f": st.booleans(),
}
SAME_TYPE = {"a": "b", "b": "a", "x": "y", "y": "x"}
OPERATORS = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
ROWS = st.lists(st.fixed_dictionaries({name: st.none() | values for name, values in VALUES.items()}), max_size=4)


PATTERNS = st.lists(
    st.sampled_from(["%", "_", "a", "z", "z" * 33, "\\%", "\\_", "\\\\", "é", "\U0010ffff", ".", "\n"]), max_size=4
).map("".join)
# Sums and products of these are the same as floats and exactly.
COMPUTED = st.recursive(
    st.sampled_from([Column("a"), Column("b"), Column("x"), Constant(2), Constant(0.5), Constant(Decimal("0.25"))]),
    lambda inner: (
        st.builds(Arithmetic, st.sampled_from(["+", "-", "*", "/"]), inner, inner)
        | st.builds(Function, st.sampled_from(["abs", "floor", "ceil", "round"]), inner)
    ),
    max_leaves=3,
)


@st.composite
def leaves(draw):
    name = draw(st.sampled_from(sorted(VALUES)))
    kind = draw(st.sampled_from(["comparison", "comparison", "columns", "in", "null", "like", "computed"]))
    if kind == "like":
        return Like("s", draw(PATTERNS))
    if kind == "computed":
        return ComputedComparison(draw(COMPUTED), draw(OPERATORS), draw(COMPUTED))
    if kind == "null":
        return IsNull(name)
    if kind == "in":
        return IsIn(name, tuple(draw(st.lists(VALUES[name], max_size=3))))
    if kind == "columns" and name in SAME_TYPE:
        return Comparison(name, draw(OPERATORS), Column(SAME_TYPE[name]))
    operators = OPERATORS if name != "f" else st.sampled_from(["==", "!="])
    return Comparison(name, draw(operators), draw(VALUES[name]))


PREDICATES = st.recursive(
    leaves(),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: And(tuple(parts))),
        st.lists(inner, max_size=3).map(lambda parts: Or(tuple(parts))),
        inner.map(Not),
    ),
    max_leaves=6,
)


def meaning(predicate, row) -> bool | None:
    """Return what `evaluate` says, where Python's `in` takes one NaN object for itself."""
    match predicate:
        case IsIn(name, values):
            return None if row[name] is None else any(row[name] == value for value in values)
        case And(parts) | Or(parts):
            found = [meaning(part, row) for part in parts]
            wanted = isinstance(predicate, Or)
            return wanted if wanted in found else (None if None in found else not wanted)
        case Not(part):
            found = meaning(part, row)
            return None if found is None else not found
        case _:
            return evaluate(predicate, row)


def file_of(number: int, stats: str | None) -> AddFile:
    return AddFile(f"{number}.parquet", 1, 0, stats=stats)


@settings(max_examples=200, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=4), PREDICATES, st.booleans())
def test_no_matching_row_is_pruned(files, predicate, told) -> None:
    tables = [pa.Table.from_pylist(rows, schema=SCHEMA) for rows in files]
    adds = [file_of(n, statistics_json(table) if told else None) for n, table in enumerate(tables)]
    kept = set(prune(from_actions(adds, [None] * len(adds), SCHEMA, ()), predicate)["path"].to_pylist())
    for number, rows in enumerate(files):
        if any(meaning(predicate, row) for row in rows):
            assert f"{number}.parquet" in kept


@settings(max_examples=200, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=4), PREDICATES)
def test_every_row_matches_where_all_must(files, predicate) -> None:
    tables = [pa.Table.from_pylist(rows, schema=SCHEMA) for rows in files]
    adds = [file_of(n, statistics_json(table)) for n, table in enumerate(tables)]
    known = from_actions(adds, [None] * len(adds), SCHEMA, ())
    bounds = {
        name: Bounds(known[f"min.{name}"], known[f"max.{name}"], known[f"null_count.{name}"]) for name in SCHEMA.names
    }
    for rows, certain in zip(files, must_match(predicate, bounds, known["num_records"]).to_pylist(), strict=True):
        assert not certain or all(meaning(predicate, row) for row in rows)


def test_groups_that_match_whole() -> None:
    rows = pa.array([3, 3, 3, 3])
    bounds = {"a": Bounds(pa.array([1, 2, None, 2]), pa.array([2, 3, None, 2]), pa.array([0, 0, 3, 1]))}

    def whole(predicate) -> list[bool]:
        return must_match(predicate, bounds, rows).to_pylist()

    assert whole(Comparison("a", "<", 3)) == [True, False, False, False]
    assert whole(Comparison("a", "!=", 5)) == [True, True, False, False]
    assert whole(IsNull("a")) == [False, False, True, False]
    assert whole(Not(IsNull("a"))) == [True, True, False, False]
    assert whole(And(())) == [True] * 4
    assert whole(Comparison("b", "<", 3)) == [False] * 4
    assert whole(Not(Comparison("a", "==", None))) == [False] * 4
    assert whole(Not(IsIn("a", (9, None)))) == [False] * 4


@settings(max_examples=200, deadline=None)
@given(ROWS, PREDICATES)
def test_masks_mean_what_evaluate_means(rows, predicate) -> None:
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    assert mask(table, predicate).to_pylist() == [meaning(predicate, row) for row in rows]


@settings(max_examples=100, deadline=None)
@given(ROWS, PREDICATES)
def test_decoding_gives_the_rows_that_match(rows, predicate) -> None:
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=1)  # each row group is kept or left out by itself
    found = ParquetFormatter().decode(sink.getvalue(), predicate=predicate)
    matching = [index for index, row in enumerate(rows) if meaning(predicate, row)]
    assert str(found.to_pylist()) == str(table.take(pa.array(matching, pa.int64())).to_pylist())


def test_pruning_does_exclude() -> None:
    rows = [dict.fromkeys(SCHEMA.names) | {"a": n, "s": f"S{n}", "t": START + timedelta(days=n)} for n in range(10)]
    adds = [file_of(n, statistics_json(pa.Table.from_pylist([row], schema=SCHEMA))) for n, row in enumerate(rows)]
    files = from_actions(adds, [None] * 10, SCHEMA, ())

    def kept(predicate) -> list[str]:
        return [path.removesuffix(".parquet") for path in prune(files, predicate)["path"].to_pylist()]

    assert kept(Comparison("a", ">", 7)) == ["8", "9"]
    assert kept(Not(Comparison("a", "<", 8))) == ["8", "9"]
    assert kept(IsIn("s", ("S1", "S5"))) == ["1", "5"]
    days = [START + timedelta(days=n) for n in range(5)]
    assert kept(And((Comparison("t", ">=", days[2]), Comparison("t", "<", days[4])))) == ["2", "3"]
    assert kept(Comparison("a", "!=", 3)) == ["0", "1", "2", "4", "5", "6", "7", "8", "9"]
    assert kept(IsNull("a")) == []
    assert kept(Comparison("x", ">", 0.0)) == []  # all null
    assert kept(Comparison("a", "==", Column("b"))) == []
    assert len(kept(IsNull("x"))) == 10
