"""Properties are set where a table can keep them, refused by name where it cannot, and promises to readers are kept."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pytest

from buffetstore.errors import CommitConflictError, InvalidInputError, UnsupportedFeatureError
from buffetstore.objects import LocalStore
from buffetstore.tables import DeltaTable, Metadata, Protocol
from buffetstore.tables.actions import write_actions
from buffetstore.tables.log import commit_key
from buffetstore.tables.readers import READ_FEATURES, READABLE_BY, check_read_by, readable_by
from buffetstore.tables.schema import schema_to_json

SCHEMA = pa.schema([("n", pa.int64())])
ROWS = pa.table({"n": [1]})


@pytest.fixture
async def table(store):
    async with DeltaTable.create(store, "t", SCHEMA, configuration={"mine": "1"}) as table:
        yield table


async def test_properties_are_set_and_unset_in_one_commit(table, store) -> None:
    wanted = {"delta.appendOnly": "true", "owner": "desk", "delta.logRetentionDuration": "interval 3 days"}
    assert await table.set_properties(wanted, unset=["mine", "not there"]) == 1
    assert table.metadata.configuration == wanted
    assert table.snapshot.protocol == Protocol()
    await table.append(ROWS)
    again = await DeltaTable.open(store, "t")
    assert again.metadata.configuration == wanted
    assert again.metadata.id == table.metadata.id


async def test_nothing_is_committed_where_nothing_changes(table) -> None:
    assert await table.set_properties({"mine": "1"}, unset=["other"]) == 0
    assert await table.set_properties({}) == 0


async def test_the_change_feed_raises_the_protocol(table) -> None:
    assert await table.set_properties({"delta.enableChangeDataFeed": "true"}) == 1
    assert table.snapshot.protocol == Protocol(1, 4)
    await table.append(ROWS)
    await table.set_properties({"delta.enableChangeDataFeed": "false"})
    assert table.snapshot.protocol == Protocol(1, 4)


async def test_the_change_feed_is_a_feature_where_there_are_features(store) -> None:
    actions = [Protocol(1, 7, (), ("appendOnly",)), Metadata("id", schema_to_json(SCHEMA))]
    await store.put(commit_key("t", 0), write_actions(actions))
    table = await DeltaTable.open(store, "t")
    await table.set_properties({"delta.enableChangeDataFeed": "true"})
    assert table.snapshot.protocol.writer_features == ("appendOnly", "changeDataFeed")


@pytest.mark.parametrize(("name", "value"), [
    ("delta.appendOnly", "yes"), ("delta.checkpointInterval", "0"), ("delta.checkpointInterval", "ten"),
    ("delta.dataSkippingNumIndexedCols", "-2"), ("delta.logRetentionDuration", "interval 1 month"),
    ("delta.deletedFileRetentionDuration", "a week"), ("delta.isolationLevel", "None"), ("delta.targetFileSize", "big"),
    ("delta.dataSkippingStatsColumns", " "), ("delta.checkpoint.writeStatsAsJson", "1"), ("delta.noSuchThing", "true"),
    ("delta.constraints.k", "n > 0"), ("delta.columnMapping.maxColumnId", "3"), ("", "x"), ("mine", 3),
    (READABLE_BY, "deltalake,abacus"),
])  # fmt: skip
async def test_a_value_that_cannot_be_kept_is_refused(table, name, value) -> None:
    with pytest.raises(InvalidInputError, match=name or "''"):
        await table.set_properties({name: value})
    assert table.version == 0


@pytest.mark.parametrize(("name", "value", "feature"), [
    ("delta.enableDeletionVectors", "true", "deletionVectors"), ("delta.enableTypeWidening", "true", "typeWidening"),
    ("delta.enableInCommitTimestamps", "true", "inCommitTimestamp"), ("delta.enableRowTracking", "true", "rowTracking"),
    ("delta.checkpointPolicy", "v2", "v2Checkpoint"), ("delta.feature.clustering", "supported", "clustering"),
    ("delta.minWriterVersion", "7", "by hand"), ("delta.enableIcebergCompatV2", "true", "icebergCompatV2"),
    ("delta.universalFormat.enabledFormats", "iceberg", "Iceberg"),
])  # fmt: skip
async def test_what_needs_a_feature_that_is_not_written_is_refused_by_name(store, table, name, value, feature) -> None:
    with pytest.raises(UnsupportedFeatureError, match=feature):
        await table.set_properties({name: value})
    with pytest.raises(UnsupportedFeatureError, match=feature):
        await DeltaTable.create(store, "other", SCHEMA, configuration={name: value})


async def test_turning_off_what_is_off_does_no_harm(table) -> None:
    await table.set_properties({"delta.enableDeletionVectors": "false", "delta.checkpointPolicy": "classic"})
    await table.append(ROWS)


async def test_a_name_is_set_or_unset(table) -> None:
    with pytest.raises(InvalidInputError, match="'mine'"):
        await table.set_properties({"mine": "2"}, unset=["mine"])
    with pytest.raises(InvalidInputError, match="drop_constraint"):
        await table.set_properties({}, unset=["delta.constraints.k"])


async def test_two_who_set_properties_both_do(store, table) -> None:
    async with DeltaTable.open(store, "t") as other:
        await table.set_properties({"a": "1"})
        await other.append(ROWS)
        await other.set_properties({"b": "2"})
        assert other.metadata.configuration == {"mine": "1", "a": "1", "b": "2"}


async def test_a_commit_that_always_loses_says_so(table) -> None:
    async def loses(*_args, **_options):
        raise CommitConflictError("lost", key="t")

    table._head.commit = loses
    with pytest.raises(CommitConflictError, match="16 plans"):
        await table.set_properties({"a": "1"})


async def test_a_promise_to_readers_is_declared_and_kept(store, table) -> None:
    await table.set_properties({READABLE_BY: " deltalake, Polars,duckdb,spark"})
    assert readable_by(table.metadata.configuration) == ("deltalake", "polars", "duckdb", "spark")
    mapped = Metadata("id", schema_to_json(SCHEMA), configuration={READABLE_BY: "spark"})
    check_read_by(Protocol(2, 5), mapped, "t")
    for engine in set(READ_FEATURES) - {"spark"}:
        promised = Metadata("id", schema_to_json(SCHEMA), configuration={READABLE_BY: f"spark,{engine}"})
        check_read_by(Protocol(3, 7, ("timestampNtz",)), promised, "t")
        for protocol in (Protocol(2, 5), Protocol(3, 7, ("deletionVectors",))):
            with pytest.raises(UnsupportedFeatureError, match=engine):
                check_read_by(protocol, promised, "t")
    assert check_read_by(Protocol(2, 5), Metadata("id", ""), "t") is None


def read_with(engine: str, folder: Path) -> list[tuple]:
    module = pytest.importorskip(engine)
    if engine == "deltalake":
        return [tuple(row.values()) for row in module.DeltaTable(folder).to_pyarrow_table().to_pylist()]
    if engine == "polars":
        return module.read_delta(str(folder)).rows()
    extension = pytest.importorskip("duckdb_extension_delta")
    found = list(Path(extension.__file__).parent.glob(f"extensions/v{module.__version__}/delta.duckdb_extension"))
    if not found:
        pytest.skip("needs DuckDB's delta extension for this version of DuckDB")
    with module.connect() as connection:
        connection.execute(f"INSTALL '{found[0]}'; LOAD delta; SET TimeZone='UTC'")
        return connection.execute(f"SELECT * FROM delta_scan('{folder}')").fetchall()


@pytest.mark.parametrize("engine", sorted(set(READ_FEATURES) - {"spark"}))
def test_each_engine_reads_what_the_promise_says_that_it_does(tmp_path, engine) -> None:
    deltalake = pytest.importorskip("deltalake")
    moment = datetime(2024, 1, 1, 12)  # noqa: DTZ001 - of no zone on purpose
    deltalake.write_deltalake(tmp_path / "t", pa.table({"at": pa.array([moment], pa.timestamp("us"))}))
    assert deltalake.DeltaTable(tmp_path / "t").protocol().reader_features == ["timestampNtz"]
    assert READ_FEATURES[engine] == {"timestampNtz"}
    assert read_with(engine, tmp_path / "t") == [(moment,)]


@pytest.mark.parametrize("engine", sorted(set(READ_FEATURES) - {"spark"}))
async def test_each_engine_reads_a_table_with_constraints(tmp_path, engine) -> None:
    async with DeltaTable.create(LocalStore(tmp_path), "t", SCHEMA) as table:
        await table.append(ROWS)
        await table.set_properties({READABLE_BY: engine})
        await table.add_constraint("positive", "n > 0")
        await table.append(ROWS)
    assert read_with(engine, tmp_path / "t") == [(1,), (1,)]


async def test_a_table_is_created_with_its_constraints(store) -> None:
    settings = {"delta.constraints.positive": "n > 0"}
    async with DeltaTable.create(store, "c", SCHEMA, configuration=settings) as table:
        assert table.snapshot.protocol == Protocol(1, 3)
        with pytest.raises(InvalidInputError, match="'positive'"):
            await table.append(pa.table({"n": [0]}))
    both = settings | {"delta.enableChangeDataFeed": "true"}
    async with DeltaTable.create(store, "d", SCHEMA, configuration=both) as table:
        assert table.snapshot.protocol == Protocol(1, 4)
    with pytest.raises(UnsupportedFeatureError, match="'odd'"):
        await DeltaTable.create(store, "e", SCHEMA, configuration={"delta.constraints.odd": "abs(n) > 0"})
