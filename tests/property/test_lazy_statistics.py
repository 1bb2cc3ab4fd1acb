"""Statistics that are read when they are asked for say what they would have said at once, wherever they are kept."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buffetstore.expressions import And, Comparison, IsIn, IsNull, Not, Or
from buffetstore.objects import MemoryStore
from buffetstore.tables import (
    AddFile,
    DeltaTable,
    Metadata,
    Protocol,
    RemoveFile,
    file_pieces,
    prune,
    stored_statistics,
)
from buffetstore.tables.actions import write_actions
from buffetstore.tables.checkpoint_writer import write_checkpoint
from buffetstore.tables.file_table import from_actions
from buffetstore.tables.load import load
from buffetstore.tables.log import Entry, commit_key
from buffetstore.tables.schema import schema_to_json
from buffetstore.tables.snapshot import advance, replay

START = datetime(2024, 1, 1, tzinfo=UTC)
SCHEMA = pa.schema(
    [
        ("s", pa.string()),
        ("t", pa.timestamp("us", tz="UTC")),
        ("n", pa.int64()),
        ("x", pa.float64()),
        ("p", pa.decimal128(38, 8)),
        ("part", pa.int32()),
        ("nested", pa.struct([("a", pa.int64())])),
    ]
)
METADATA = Metadata("id", schema_to_json(SCHEMA), ("part",))
MOMENTS = st.integers(0, 10**9).map(lambda n: START + timedelta(microseconds=n))
VALUES = {
    "s": st.sampled_from(["", "AAPL", "é", "z" * 40]),
    # As writers cut them: to the millisecond, or not.
    "t": MOMENTS.map(lambda moment: f"{moment.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z")
    | MOMENTS.map(lambda moment: f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"),
    "n": st.integers(-5, 5) | st.just("odd"),
    "x": st.floats(allow_nan=False, allow_infinity=False, width=32),
    "p": st.integers(-(10**20), 10**20),
}
BOUNDS = st.fixed_dictionaries({}, optional=VALUES)
STATS = st.fixed_dictionaries(
    {},
    optional={
        "numRecords": st.integers(0, 9),
        "minValues": BOUNDS,
        "maxValues": BOUNDS,
        "nullCount": st.dictionaries(st.sampled_from(sorted(VALUES)), st.integers(0, 9)),
        "tightBounds": st.booleans(),
    },
)
TEXTS = st.none() | STATS.map(json.dumps) | st.sampled_from(["", "{}", "not json", "[]"])
VECTORS = st.none() | st.just(
    json.dumps({"storageType": "u", "pathOrInlineDv": "x", "sizeInBytes": 1, "cardinality": 2})
)
ADDS = st.tuples(st.integers(0, 30), TEXTS, st.none() | st.integers(0, 3), VECTORS)
COMMITS = st.lists(
    st.tuples(st.lists(ADDS, max_size=6), st.sets(st.integers(0, 30), max_size=3)), min_size=1, max_size=6
)
LEAVES = st.one_of(
    st.sampled_from(["AAPL", "b", "é"]).flatmap(
        lambda text: st.sampled_from([Comparison("s", op, text) for op in ("==", "<", ">=", "!=")])
    ),
    MOMENTS.flatmap(lambda at: st.sampled_from([Comparison("t", op, at) for op in ("<", ">=", "==")])),
    st.integers(-6, 6).flatmap(lambda n: st.sampled_from([Comparison("n", "==", n), IsIn("n", (n, n + 1))])),
    st.just(Comparison("p", "<", Decimal(3))),
    st.sampled_from([IsNull("s"), Not(IsNull("n")), IsNull("part"), Comparison("part", "==", 1), And(()), Or(())]),
)
PREDICATES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3).flatmap(
        lambda parts: st.sampled_from([And(tuple(parts)), Or(tuple(parts))])
    ),
    max_leaves=4,
)


def entries(commits):
    found, living = [Entry(0, protocol=Protocol(1, 2), metadata=METADATA)], {}
    for version, (adds, gone) in enumerate(commits, 1):
        removes = [RemoveFile(f"f{n}") for n in gone]
        for remove in removes:
            living.pop(remove.path, None)
        new = {}
        for n, stats, part, vector in adds:
            value = {"part": None if part is None else str(part)}
            new[f"f{n}"] = AddFile(f"f{n}", 1, version, value, stats=stats, log_path=f"f{n}", deletion_vector=vector)
        for path, add in new.items():
            living.pop(path, None)
            living[path] = add, version
        found.append(Entry(version, adds=tuple(new.values()), removes=tuple(removes)))
    return found, living


def at_once(living):
    adds = [add for add, _ in living.values()]
    return from_actions(adds, [version for _, version in living.values()], SCHEMA, ("part",)).sort_by("path")


def same(found, expected) -> None:
    found = found.select(expected.column_names).sort_by("path")
    assert found.to_pylist() == expected.to_pylist()


@pytest.fixture(scope="module", autouse=True)
def small():
    """Let a few files be several pieces, of which some are compressed and some are joined."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_pieces, "PIECE_ROWS", 16)
        patch.setattr(file_pieces, "_FEW_OF", 1)
        patch.setattr(stored_statistics, "_LARGE", 300)
        patch.setattr(stored_statistics, "_FEW", 6)
        yield


@settings(max_examples=60, deadline=None)
@given(COMMITS, PREDICATES, st.permutations(SCHEMA.names), st.integers(0, 6))
def test_whatever_is_asked_first(commits, predicate, order, asked_after) -> None:
    log, living = entries(commits)
    expected = at_once(living)
    followed = replay("t", None, log[:1])
    for version, entry in enumerate(log[1:], 1):
        followed = advance(followed, [entry])
        if version == asked_after:
            followed.with_statistics(order[:2])  # what is known already goes on with the files
    for snapshot in (replay("t", None, log), followed):
        assert snapshot.files["path"].to_pylist() == list(living)
        for name in order:
            kept = [column for column in expected.column_names if column.partition(".")[2] in ("", name)]
            same(snapshot.with_statistics([name]), expected.select(kept))
        same(snapshot.with_statistics(), expected)
        pruned = prune(expected, predicate)
        assert sorted(snapshot.prune(predicate)["path"].to_pylist()) == pruned["path"].to_pylist()
        known = [column for column in expected.column_names if column.partition(".")[2] in ("", "t")]
        same(snapshot.prune(predicate, ["t"]), pruned.select(known))


@settings(max_examples=30, deadline=None)
@given(COMMITS, PREDICATES)
def test_in_a_checkpoint_of_ours(commits, predicate) -> None:
    commits = [([(n, text, part, None) for n, text, part, _ in adds], gone) for adds, gone in commits]
    log, living = entries(commits)

    async def opened():
        store = MemoryStore()
        for entry in log:
            first = [action for action in (entry.protocol, entry.metadata) if action is not None]
            body = write_actions([*first, *entry.removes, *entry.adds]) or b'{"commitInfo":{}}\n'
            await store.put(commit_key("t", entry.version), body.strip() or b'{"commitInfo":{}}')
        plain = await load(store, "t")
        await write_checkpoint(store, "t", log[-1].version)
        async with DeltaTable.open(store, "t") as table:
            return plain, table.snapshot

    plain, snapshot = asyncio.run(opened())
    expected = at_once(living).drop_columns(["commit_version", "tags"])  # a checkpoint has no empty tags
    same(plain.with_statistics(), expected)
    same(snapshot.with_statistics(["n"]), expected.select(["path", "num_records", "min.n", "max.n", "null_count.n"]))
    same(snapshot.with_statistics(), expected)
    same(snapshot.prune(predicate, ()), prune(expected, predicate).select(["path", "size", "num_records"]))
