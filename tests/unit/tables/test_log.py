"""Logs as they may be found: gaps, damage, checkpoints alone or in parts, hints that are wrong, features to refuse."""

from __future__ import annotations

import asyncio
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from buffetstore.errors import CorruptLogError, TableVersionNotFoundError, UnsupportedFeatureError
from buffetstore.expressions import Comparison
from buffetstore.objects.helpers import get_bytes, list_all
from buffetstore.objects.wrappers.base import StoreWrapper
from buffetstore.tables import AddFile, DeltaTable, Metadata, Protocol, RemoveFile, Txn
from buffetstore.tables.actions import CdcFile, CommitInfo, decode_path, encode_path, read_action, write_actions
from buffetstore.tables.commit import Committer
from buffetstore.tables.head import Head
from buffetstore.tables.log import commit_key
from buffetstore.tables.schema import canonical_schema, schema_from_json, schema_to_json
from buffetstore.testing import CountingStore

SCHEMA = pa.schema([("k", pa.int64())])
STRINGS = pa.map_(pa.string(), pa.string())
ADD = pa.struct(
    [
        ("path", pa.string()),
        ("partitionValues", STRINGS),
        ("size", pa.int64()),
        ("modificationTime", pa.int64()),
        ("dataChange", pa.bool_()),
        ("stats", pa.string()),
        ("tags", STRINGS),
    ]
)
PROTOCOL = pa.struct([("minReaderVersion", pa.int32()), ("minWriterVersion", pa.int32())])
METADATA = pa.struct(
    [
        ("id", pa.string()),
        ("name", pa.string()),
        ("format", pa.struct([("provider", pa.string()), ("options", STRINGS)])),
        ("schemaString", pa.string()),
        ("partitionColumns", pa.list_(pa.string())),
        ("configuration", STRINGS),
    ]
)
TXN = pa.struct([("appId", pa.string()), ("version", pa.int64())])


@pytest.fixture
async def table(store):
    """Versions 0 to 4; the last one holds the rows 1 to 4."""
    table = await DeltaTable.create(store, "t", SCHEMA)
    for n in range(1, 5):
        await table.append(pa.table({"k": [n]}), txn=Txn("app", n))
    return table


async def write_checkpoint(store, table, parts: int = 1, *, hint: bool = True) -> None:
    """Write the state of the table as the protocol's checkpoint, in one file or in parts."""
    actions = [{"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}]
    body = table.metadata.to_json()["metaData"]
    body["configuration"] = list(body["configuration"].items())
    body["format"] = {"provider": "parquet", "options": []}
    actions.append({"metaData": body})
    actions += [{"txn": {"appId": txn.app_id, "version": txn.version}} for txn in table.snapshot.txns.values()]
    for meta in await list_all(store, "t/_delta_log/"):
        for line in (await get_bytes(store, meta.key)).splitlines() if meta.key.endswith(".json") else []:
            if "add" in (entry := json.loads(line)):
                add = entry["add"]
                actions.append({"add": add | {"partitionValues": [], "tags": [("tag", "yes")]}})
    whole = pa.Table.from_pylist(
        actions, schema=pa.schema([("protocol", PROTOCOL), ("metaData", METADATA), ("txn", TXN), ("add", ADD)])
    )
    size = -(-whole.num_rows // parts)
    for part in range(parts):
        sink = pa.BufferOutputStream()
        pq.write_table(whole.slice(part * size, size), sink)
        name = f"{table.version:020}.checkpoint" + (f".{part + 1:010}.{parts:010}" if parts > 1 else "") + ".parquet"
        await store.put(f"t/_delta_log/{name}", sink.getvalue().to_pybytes())
    if hint:
        text = json.dumps({"version": table.version, "size": whole.num_rows})
        await store.put("t/_delta_log/_last_checkpoint", text.encode())


class Pages(StoreWrapper):
    """Lists page by page, as services do: other requests are answered in between."""

    async def list_objects(self, prefix="", *, after=""):
        count = 0
        async for meta in self.inner.list_objects(prefix, after=after):
            count += 1
            if count % 1000 == 0:
                for _ in range(20):
                    await asyncio.sleep(0)
            yield meta


async def keys_of(store, version=None) -> list[int]:
    table = await DeltaTable.open(store, "t", version=version)
    return sorted((await table.to_arrow())["k"].to_pylist())


@pytest.mark.parametrize("damage", [b"", b"{", b"not json\n", b'{"add":{}}\n', b'{"add":5}\n', b"[1]\n", b"\xff\xfe\n"])
async def test_a_damaged_entry_names_version_and_path(table, store, damage) -> None:
    before = {meta.key: meta.version for meta in await list_all(store)}
    await store.put(commit_key("t", 2), damage)
    with pytest.raises(CorruptLogError, match=r"version 2 of table 't'.*t/_delta_log/00000000000000000002.json"):
        await DeltaTable.open(store, "t")
    assert await keys_of(store, 1) == [1]
    after = {meta.key: meta.version for meta in await list_all(store)}
    assert {key for key in after if after[key] != before[key]} == {commit_key("t", 2)}


async def test_an_entry_cut_off_in_a_line_is_seen(table, store) -> None:
    data = await get_bytes(store, commit_key("t", 4))
    await store.put(commit_key("t", 4), data[:-20])
    with pytest.raises(CorruptLogError, match="version 4 of table 't'"):
        await DeltaTable.open(store, "t")
    reader = await DeltaTable.open(store, "t", version=3)
    writer = DeltaTable(Head(Committer(store, "t"), reader.snapshot), table._formatter, pinned=False)
    with pytest.raises(CorruptLogError, match="version 4 of table 't'"):
        await writer.append(pa.table({"k": [9]}))
    with pytest.raises(CorruptLogError, match="version 4 of table 't'"):
        await writer.refresh()


async def test_a_gap_is_named(table, store) -> None:
    await store.delete([commit_key("t", 2)])
    with pytest.raises(CorruptLogError, match=r"gap: entry 2 is missing at 't/_delta_log/0+2.json', the latest is 4"):
        await DeltaTable.open(store, "t")
    assert await keys_of(store, 1) == [1]


async def test_missing_first_entries_without_checkpoint(table, store) -> None:
    await store.delete([commit_key("t", 0), commit_key("t", 1)])
    with pytest.raises(CorruptLogError, match="entry 0 is missing"):
        await DeltaTable.open(store, "t")


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("hint", [True, False])
async def test_a_checkpoint_alone_is_a_table(table, store, parts, hint) -> None:
    await write_checkpoint(store, table, parts, hint=hint)
    await store.delete([commit_key("t", n) for n in range(5)])
    again = await DeltaTable.open(store, "t")
    assert again.version == 4
    assert await keys_of(store) == [1, 2, 3, 4]
    assert again.snapshot.txns["app"].version == 4
    files = again.snapshot.with_statistics().to_pylist()
    assert [file["min.k"] for file in files] == [1, 2, 3, 4]
    assert dict(files[0]["tags"]) == {"tag": "yes"}
    assert (await again.find_files(Comparison("k", ">", 3))).num_rows == 1
    await again.append(pa.table({"k": [5]}))
    await again.delete(Comparison("k", "==", 1))
    assert await keys_of(store) == [2, 3, 4, 5]
    assert await keys_of(store, 5) == [1, 2, 3, 4, 5]
    with pytest.raises(TableVersionNotFoundError, match="no version 3: there are versions 4 to 6"):
        await DeltaTable.open(store, "t", version=3)


async def test_an_incomplete_checkpoint_is_ignored(table, store) -> None:
    await write_checkpoint(store, table, 3)
    await store.delete([f"t/_delta_log/{4:020}.checkpoint.{2:010}.{3:010}.parquet"])
    assert await keys_of(store) == [1, 2, 3, 4]


async def test_a_damaged_checkpoint_is_named(table, store) -> None:
    await write_checkpoint(store, table)
    await store.put(f"t/_delta_log/{4:020}.checkpoint.parquet", b"PAR1")
    with pytest.raises(CorruptLogError, match="checkpoint of version 4 of table 't'"):
        await DeltaTable.open(store, "t")
    assert await keys_of(store, 3) == [1, 2, 3]


@pytest.mark.parametrize("hint", [b"", b"{", b"[]", b'{"version":"x"}', b'{"version":1}'])
async def test_a_wrong_hint_does_no_harm(table, store, hint) -> None:
    await store.put("t/_delta_log/_last_checkpoint", hint)
    assert await keys_of(store) == [1, 2, 3, 4]


async def test_a_log_whose_end_was_deleted_is_named(table, store) -> None:
    await write_checkpoint(store, table)
    await table.append(pa.table({"k": [5]}))
    await store.delete([commit_key("t", 5)])  # nobody can know: the checkpoint is of version 4
    assert await keys_of(store) == [1, 2, 3, 4]
    await store.delete([commit_key("t", 4), f"t/_delta_log/{4:020}.checkpoint.parquet"])
    with pytest.raises(CorruptLogError, match=r"ends at version 3, but `_last_checkpoint` names .* version 4"):
        await DeltaTable.open(store, "t")
    assert await keys_of(store, 3) == [1, 2, 3]
    await store.delete(["t/_delta_log/_last_checkpoint"])
    assert await keys_of(store) == [1, 2, 3]


async def test_a_checkpoint_written_while_the_log_is_listed_is_no_damage(table, store) -> None:
    written = asyncio.Event()

    class Late(StoreWrapper):
        async def list_objects(self, prefix="", *, after=""):
            async for meta in self.inner.list_objects(prefix, after=after):
                yield meta
            if not written.is_set():
                await table.append(pa.table({"k": [5]}))
                await write_checkpoint(store, table)
                written.set()

        async def get(self, key, **options):
            if key.endswith("_last_checkpoint"):
                await written.wait()
            return await self.inner.get(key, **options)

    assert (await DeltaTable.open(Late(store), "t")).version == 5


async def test_a_held_table_never_goes_back(table, store) -> None:
    now = [0.0]
    head = Head(Committer(store, "t"), table.snapshot, clock=lambda: now[0])
    await store.delete([commit_key("t", 4)])
    assert (await head.refresh()).version == 4  # which it has
    now[0] = 1e6
    with pytest.raises(CorruptLogError, match=r"was at version 4, and now its log ends at version 3"):
        await head.refresh()
    assert head.snapshot.version == 4


async def test_a_long_log_is_listed_from_its_hint(store) -> None:
    table = await DeltaTable.create(store, "t", SCHEMA)
    body = write_actions([CommitInfo(1, "WRITE")])
    for version in range(1, 3001):
        await store.put(commit_key("t", version), body)
    table = await DeltaTable.open(store, "t")
    assert table.version == 3000
    await write_checkpoint(store, table)
    counting = CountingStore(Pages(store))
    again = await DeltaTable.open(counting, "t")
    assert again.version == 3000
    assert counting.requests["list_objects"] == 2
    assert counting.requests["get"] == 2
    assert (await DeltaTable.open(store, "t", version=1500)).version == 1500


async def test_open_takes_two_rounds(table, store) -> None:
    counting = CountingStore(store, latency_seconds=0.005)
    await DeltaTable.open(counting, "t")
    assert counting.round_trips <= 2
    assert dict(counting.requests) == {"list_objects": 1, "get": 6}


async def test_files_beside_the_log_are_not_its_entries(table, store) -> None:
    for name in (
        "00000000000000000009.crc",
        "00000000000000000003.00000000000000000009.compacted.json",
        "x.json",
        "_staged_commits/00000000000000000009.3a0d65cd-4056-49b8-937b-95f9e3ee90e5.json",
    ):
        await store.put(f"t/_delta_log/{name}", b"junk")
    assert (await DeltaTable.open(store, "t")).version == 4


async def commit_by_hand(store, *actions) -> None:
    table = await DeltaTable.open(store, "t")
    await store.put(commit_key("t", table.version + 1), "\n".join(map(json.dumps, actions)).encode())


@pytest.mark.parametrize("feature", ["catalogManaged", "variantType", "allThatIsToCome"])
async def test_reader_features_are_refused_by_name(table, store, feature) -> None:
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": [feature], "writerFeatures": [feature]}
    await commit_by_hand(store, {"protocol": protocol})
    with pytest.raises(UnsupportedFeatureError, match=feature):
        await DeltaTable.open(store, "t")
    with pytest.raises(UnsupportedFeatureError, match=feature):
        await table.append(pa.table({"k": [9]}))


@pytest.mark.parametrize(
    "feature", ["rowTracking", "domainMetadata", "inCommitTimestamp", "icebergCompatV1", "clustering"]
)
async def test_writer_features_are_refused_on_write(table, store, feature) -> None:
    await commit_by_hand(
        store, {"protocol": {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": [feature]}}
    )
    reader = await DeltaTable.open(store, "t")
    assert (await reader.to_arrow()).num_rows == 4
    with pytest.raises(UnsupportedFeatureError, match=feature):
        await reader.append(pa.table({"k": [9]}))
    assert (await DeltaTable.open(store, "t")).version == 5


@pytest.mark.parametrize(("version", "configuration", "column", "feature"), [
    (2, {}, {"delta.invariants": "{}"}, "invariant of k"),
    (3, {"delta.constraints.short": "length(k) < 3"}, {}, "'short'"),
    (4, {}, {"delta.generationExpression": "1"}, "generatedColumns"),
    (6, {}, {"delta.identity.start": 1}, "identityColumns"),
])  # fmt: skip
async def test_active_legacy_features_are_refused_on_write(store, version, configuration, column, feature) -> None:
    schema = {"type": "struct", "fields": [{"name": "k", "type": "long", "nullable": True, "metadata": column}]}
    actions = [Protocol(1, version), Metadata("id", json.dumps(schema), configuration=configuration)]
    await store.put(commit_key("t", 0), write_actions(actions))
    table = await DeltaTable.open(store, "t")
    assert (await table.to_arrow()).num_rows == 0
    with pytest.raises(UnsupportedFeatureError, match=feature):
        await table.append(pa.table({"k": [1]}))


async def test_inactive_legacy_features_do_no_harm(store) -> None:
    features = ("appendOnly", "invariants", "checkConstraints", "generatedColumns")
    actions = [Protocol(1, 7, (), features), Metadata("id", schema_to_json(SCHEMA))]
    await store.put(commit_key("t", 0), write_actions(actions))
    table = await DeltaTable.open(store, "t")
    assert (await table.append(pa.table({"k": [1]}))).version == 1


@pytest.mark.parametrize("path", ["/abs/x.parquet", "file:///abs/x.parquet", "s3://other/x.parquet"])
async def test_files_outside_of_the_table_are_refused(table, store, path) -> None:
    await commit_by_hand(store, AddFile("x", 1, 1, log_path=path).to_json())
    with pytest.raises(UnsupportedFeatureError, match="absolute path"):
        await DeltaTable.open(store, "t")


def test_actions_come_back_as_they_were() -> None:
    actions = [
        Protocol(3, 7, ("a",), ("a", "b")),
        Metadata("id", "{}", ("p",), {"a": "b"}, "name", "text", 5),
        AddFile(
            "a b/é%.parquet", 5, 6, {"p": None}, {"t": "x"}, '{"numRecords":1}', log_path="a%20b/%C3%A9%25.parquet"
        ),
        RemoveFile("x", 5, True, {"p": "1"}, 3, {"t": "x"}, "x", '{"storageType": "i"}'),
        CdcFile("_change_data/a b", 5, {"p": None}, "_change_data/a%20b"),
        Txn("app", 3, 4),
        CommitInfo(1, "WRITE", "id", {"mode": "Append"}, 3, True, "engine", "note"),
    ]
    lines = write_actions(actions).splitlines()
    assert [read_action(json.loads(line)) for line in lines] == actions
    assert read_action({"domainMetadata": {"domain": "x"}}) is None


@pytest.mark.parametrize("path", ["plain/x.parquet", "a b", "a%20b", "x:y", "é/日経", "'\"#?&+;=,$!()*~@[]{}^|\\<>`"])
def test_paths_come_back(path) -> None:
    assert decode_path(encode_path(path)) == path


def test_one_file_has_one_name() -> None:
    assert decode_path("/a/b") == decode_path("file:/a/b") == decode_path("file:///a/b") == "/a/b"


def test_schemas_come_back(every_type) -> None:
    assert schema_from_json(schema_to_json(every_type.schema)).equals(every_type.schema)
    kept = '{"type":"struct","fields":[{"name":"a","type":"long","nullable":true,"metadata":{"comment":"text"}}]}'
    assert schema_to_json(schema_from_json(kept)) == kept
    wide = pa.schema(
        [
            ("s", pa.large_string()),
            ("c", pa.dictionary(pa.int8(), pa.string())),
            ("n", pa.timestamp("ns", "Asia/Tokyo")),
        ]
    )
    assert canonical_schema(wide).types == [pa.string(), pa.string(), pa.timestamp("us", tz="UTC")]
    with pytest.raises(CorruptLogError):
        schema_from_json("{}")
    with pytest.raises(UnsupportedFeatureError, match="variant"):
        schema_from_json('{"fields":[{"name":"a","type":"variant","nullable":true}]}')


async def test_a_refresh_without_news_is_one_request(table, store) -> None:
    counting = CountingStore(store, latency_seconds=0.005)
    other = await DeltaTable.open(counting, "t")
    counting.reset()
    assert (await other.refresh()).version == 4
    assert dict(counting.requests) == {"get": 1}
    await table.append(pa.table({"k": [9]}))
    counting.reset()
    assert (await other.refresh()).version == 5
    assert counting.requests["list_objects"] == 0
    assert counting.round_trips == 2
