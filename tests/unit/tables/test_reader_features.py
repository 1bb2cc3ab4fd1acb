"""Tables with features that others write: columns under stored names, deleted rows, other kinds of checkpoints."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffetstore.errors import (
    CorruptFileError,
    InvalidInputError,
    TableVersionNotFoundError,
    UnsupportedFeatureError,
)
from buffetstore.expressions import Comparison, IsNull
from buffetstore.objects import MemoryStore, list_all
from buffetstore.tables import DeltaTable
from buffetstore.tables.deletion_vectors import _B85, _Z85, DeletionVector, read_positions
from buffetstore.tables.log import commit_key

LOG = "t/_delta_log/"
PROTOCOL = {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": [], "writerFeatures": []}}


@pytest.fixture
def store():
    return MemoryStore()


def field(name, kind, **metadata):
    return {"name": name, "type": kind, "nullable": True, "metadata": metadata}


def metadata(fields, partition_columns=(), **configuration):
    schema = json.dumps({"type": "struct", "fields": fields})
    return {
        "metaData": {
            "id": "one",
            "format": {"provider": "parquet", "options": {}},
            "schemaString": schema,
            "partitionColumns": list(partition_columns),
            "configuration": configuration,
        }
    }


def parquet(table):
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=3)
    return sink.getvalue().to_pybytes()


async def put_file(store, name, table, stats=None, **extra):
    data = parquet(table)
    await store.put(f"t/{name}", data)
    body = {"path": name, "size": len(data), "modificationTime": 0, "partitionValues": {}, "dataChange": True}
    if stats is not None:
        body["stats"] = json.dumps(stats)
    return {"add": body | extra}


async def put_log(store, version, *actions):
    await store.put(commit_key("t", version), "\n".join(map(json.dumps, actions)).encode())


def mapped(name, kind, identifier, stored):
    return field(name, kind, **{"delta.columnMapping.id": identifier, "delta.columnMapping.physicalName": stored})


@pytest.mark.parametrize("mode", ["name", "id"])
async def test_columns_under_other_names(store, mode) -> None:
    inner = {"type": "struct", "fields": [mapped("x", "long", 4, "c4"), mapped("later", "string", 5, "c5")]}
    fields = [
        mapped("n", "long", 1, "c1"),
        mapped("part", "string", 2, "c2"),
        mapped("s", inner, 3, "c3"),
        mapped("many", {"type": "array", "elementType": inner, "containsNull": True}, 6, "c6"),
    ]

    def stored(name, kind, identifier):
        return pa.field(name, kind, metadata={"PARQUET:field_id": str(identifier)})

    # In id mode the names in the file say nothing.
    names = {1: "c1", 3: "c3", 4: "c4", 6: "c6"} if mode == "name" else {1: "old", 3: "older", 4: "oldest", 6: "c1"}
    struct_type = pa.struct([stored(names[4], pa.int64(), 4)])
    schema = pa.schema(
        [
            stored(names[1], pa.int64(), 1),
            stored(names[3], struct_type, 3),
            stored(names[6], pa.list_(pa.field("element", struct_type)), 6),
        ]
    )
    inside = {names[4]: 7}
    rows = pa.Table.from_arrays(
        [
            pa.array([1, 2, None], pa.int64()),
            pa.array([inside, None, inside], struct_type),
            pa.array([[inside, None], None, []], pa.list_(pa.field("element", struct_type))),
        ],
        schema=schema,
    )
    stats = {"numRecords": 3, "minValues": {"c1": 1}, "maxValues": {"c1": 2}, "nullCount": {"c1": 1}}
    add = await put_file(store, "f.parquet", rows, stats, partitionValues={"c2": "p"})
    protocol = {"protocol": {"minReaderVersion": 2, "minWriterVersion": 5}}
    await put_log(store, 0, protocol, metadata(fields, ["part"], **{"delta.columnMapping.mode": mode}), add)
    table = await DeltaTable.open(store, "t")
    assert table.snapshot.with_statistics().select(["min.n", "max.n", "null_count.n", "min.part"]).to_pylist() == [
        {"min.n": 1, "max.n": 2, "null_count.n": 1, "min.part": "p"}
    ]
    one = {"x": 7, "later": None}
    assert (await table.to_arrow()).to_pylist() == [
        {"n": 1, "part": "p", "s": one, "many": [one, None]},
        {"n": 2, "part": "p", "s": None, "many": None},
        {"n": None, "part": "p", "s": one, "many": []},
    ]
    assert (await table.to_arrow(["part"], Comparison("n", ">", 1))).to_pylist() == [{"part": "p"}]
    assert (await table.find_files(Comparison("n", ">", 2))).num_rows == 0
    with pytest.raises(UnsupportedFeatureError, match="columnMapping"):
        await table.append(pa.table({"n": [3]}))


async def test_a_mapping_that_was_turned_off_says_nothing(store) -> None:
    add = await put_file(store, "f.parquet", pa.table({"n": [1]}))
    await put_log(store, 0, PROTOCOL, metadata([mapped("n", "long", 1, "c1")]), add)
    assert (await (await DeltaTable.open(store, "t")).to_arrow()).to_pylist() == [{"n": 1}]


async def test_a_column_that_went_and_came_again_under_its_name_has_no_bounds_from_before(store) -> None:
    mode = {"delta.columnMapping.mode": "name"}
    protocol = {"protocol": {"minReaderVersion": 2, "minWriterVersion": 5}}
    stats = {"numRecords": 1, "minValues": {"c1": 5}, "maxValues": {"c1": 5}, "nullCount": {"c1": 0}}
    old = await put_file(store, "old.parquet", pa.table({"c0": [1], "c1": [5]}), stats)
    kept = mapped("k", "long", 1, "c0")
    await put_log(store, 0, protocol, metadata([kept, mapped("n", "long", 2, "c1")], **mode), old)
    table = await DeltaTable.open(store, "t")
    assert (await table.find_files(Comparison("n", "<", 5))).num_rows == 0
    await put_log(store, 1, metadata([kept], **mode))
    await put_log(store, 2, metadata([kept, mapped("n", "long", 3, "c2")], **mode))
    for each in (await DeltaTable.open(store, "t"), table):
        await each.refresh()
        assert (await each.to_arrow(filters=IsNull("n"))).to_pylist() == [{"k": 1, "n": None}]
    await put_log(store, 3, metadata([mapped("n", "long", 1, "c0"), mapped("k", "long", 3, "c2")], **mode))
    await table.refresh()
    assert (await table.to_arrow()).to_pylist() == [{"n": 1, "k": None}]


async def test_types_that_were_widened(store) -> None:
    old = pa.table({"i": pa.array([1, None], pa.int16()), "f": pa.array([1.5, 2.5], pa.float32())})
    stats = {"numRecords": 2, "minValues": {"i": 1, "f": 1.5}, "maxValues": {"i": 1, "f": 2.5}, "nullCount": {"i": 1}}
    add = await put_file(store, "old.parquet", old, stats)
    new = await put_file(store, "new.parquet", pa.table({"i": [2**40], "f": [0.1]}))
    features = {"readerFeatures": ["typeWidening"], "writerFeatures": ["typeWidening"]}
    protocol = {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7} | features}
    await put_log(store, 0, protocol, metadata([field("i", "long"), field("f", "double")]), add, new)
    table = await DeltaTable.open(store, "t")
    assert (await table.to_arrow()).to_pylist() == [
        {"i": 1, "f": 1.5},
        {"i": None, "f": 2.5},
        {"i": 2**40, "f": 0.1},
    ]
    assert (await table.to_arrow(filters=Comparison("i", ">", 2**33))).num_rows == 1


def roaring(positions, *, with_runs):
    """Return the portable form, written from the format's specification; with or without run containers."""
    by_key = {}
    for position in positions:
        by_key.setdefault(position >> 16, []).append(position & 0xFFFF)
    heads, bodies, is_run = [], [], []
    for key, values in sorted(by_key.items()):
        heads.append(struct.pack("<HH", key, len(values) - 1))
        runs = []
        for value in values:
            if runs and runs[-1][0] + runs[-1][1] + 1 == value:
                runs[-1][1] += 1
            else:
                runs.append([value, 0])
        is_run.append(with_runs and len(runs) < len(values))
        if is_run[-1]:
            bodies.append(struct.pack("<H", len(runs)) + b"".join(struct.pack("<HH", *run) for run in runs))
        elif len(values) <= 4096:
            bodies.append(struct.pack(f"<{len(values)}H", *values))
        else:
            bits = np.zeros(65536, np.uint8)
            bits[values] = 1
            bodies.append(np.packbits(bits, bitorder="little").tobytes())
    if any(is_run):
        start = struct.pack("<I", 12347 | (len(heads) - 1) << 16) + np.packbits(is_run, bitorder="little").tobytes()
    else:
        start = struct.pack("<II", 12346, len(heads))
    offsets = b"" if any(is_run) and len(heads) < 4 else bytes(4 * len(heads))
    return start + b"".join(heads) + offsets + b"".join(bodies)


def vector_bytes(positions, *, with_runs=False):
    by_high = {}
    for position in sorted(positions):
        by_high.setdefault(position >> 32, []).append(position & 0xFFFFFFFF)
    parts = [struct.pack("<I", high) + roaring(low, with_runs=with_runs) for high, low in sorted(by_high.items())]
    return struct.pack("<iq", 1681511377, len(parts)) + b"".join(parts)


def z85(data):
    return base64.b85encode(data + bytes(-len(data) % 4)).translate(bytes.maketrans(_B85, _Z85)).decode()


def inline(positions, **more):
    data = vector_bytes(positions, **more)
    return {
        "storageType": "i",
        "pathOrInlineDv": z85(data),
        "sizeInBytes": len(data),
        "cardinality": len(positions),
    }


spans = st.builds(
    lambda start, length: set(range(start, start + length)), st.integers(0, 1 << 34), st.integers(1, 6000)
)


@given(st.lists(st.one_of(spans, st.sets(st.integers(0, 1 << 20), max_size=50)), max_size=5), st.booleans())
async def test_positions_come_back(groups, with_runs) -> None:
    positions = sorted(set().union(*groups))
    vector = DeletionVector.from_json(inline(positions, with_runs=with_runs))
    found = await read_positions(MemoryStore(), "t", vector, "f")
    assert found.tolist() == positions


async def test_deleted_rows_do_not_come(store) -> None:
    rows = pa.table({"n": list(range(10)), "m": [None] * 5 + [1] * 5})
    stats = {"numRecords": 10, "minValues": {"n": 0}, "maxValues": {"n": 9}, "nullCount": {"n": 0, "m": 5}}
    body = vector_bytes([5, 6, 7, 8, 9])
    data = b"\x01" + struct.pack(">i", len(body)) + body + struct.pack(">I", zlib.crc32(body))
    await store.put("t/ab/deletion_vector_00010203-0405-0607-0809-0a0b0c0d0e0f.bin", data)
    stored = {
        "storageType": "u",
        "pathOrInlineDv": "ab" + z85(bytes(range(16))),
        "offset": 1,
        "sizeInBytes": len(body),
        "cardinality": 5,
    }
    one = await put_file(store, "one.parquet", rows, stats, deletionVector=stored)
    two = await put_file(store, "two.parquet", rows, stats, deletionVector=inline([0, 3]))
    features = {"readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]}
    protocol = {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7} | features}
    await put_log(store, 0, protocol, metadata([field("n", "long"), field("m", "long")]), one, two)
    table = await DeltaTable.open(store, "t")
    assert table.snapshot.with_statistics([])["num_records"].to_pylist() == [5, 8]
    assert (await table.to_arrow(["n"]))["n"].to_pylist() == [0, 1, 2, 3, 4, 1, 2, 4, 5, 6, 7, 8, 9]
    assert (await table.to_arrow(["n"], Comparison("n", "<", 4)))["n"].to_pylist() == [0, 1, 2, 3, 1, 2]
    assert (await table.to_arrow([])).num_rows == 13
    # In the first file all rows that are left are null, as many as the log says of all: that proves nothing.
    assert (await table.to_arrow(["n"], IsNull("m")))["n"].to_pylist() == [0, 1, 2, 3, 4, 1, 2, 4]
    with pytest.raises(UnsupportedFeatureError, match="deletionVectors"):
        await table.append(rows)


@pytest.mark.parametrize("damage", ["magic", "cardinality", "crc", "cut"])
async def test_a_damaged_deletion_vector(store, damage) -> None:
    body = bytearray(vector_bytes([1, 2, 70_000]))
    held = {"storageType": "u", "pathOrInlineDv": z85(bytes(16)), "offset": 1, "sizeInBytes": len(body)}
    crc = zlib.crc32(body)
    if damage == "magic":
        body[0] ^= 1
        crc = zlib.crc32(body)
    data = b"\x01" + struct.pack(">i", len(body)) + body + struct.pack(">I", crc ^ (damage == "crc"))
    await store.put(
        "t/deletion_vector_00000000-0000-0000-0000-000000000000.bin", data[:-9] if damage == "cut" else data
    )
    vector = DeletionVector.from_json(held | {"cardinality": 4 if damage == "cardinality" else 3})
    with pytest.raises(CorruptFileError, match="deletion vector of 'f'"):
        await read_positions(store, "t", vector, "f")


async def test_a_deletion_vector_outside_of_the_table(store) -> None:
    vector = DeletionVector("p", "s3://elsewhere/dv.bin", 1, 10, 1)
    with pytest.raises(UnsupportedFeatureError, match="elsewhere"):
        await read_positions(store, "t", vector, "f")


@pytest.mark.parametrize("kind", ["json", "parquet"])
async def test_a_checkpoint_with_sidecars(store, kind) -> None:
    adds = [await put_file(store, f"{n}.parquet", pa.table({"n": [n]})) for n in range(4)]
    features = {"readerFeatures": ["v2Checkpoint"], "writerFeatures": ["v2Checkpoint"]}
    protocol = {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7} | features}
    about = metadata([field("n", "long")])
    for number, add in enumerate(adds[:2]):
        body = {key: value for key, value in add["add"].items() if key != "partitionValues"}
        await store.put(f"{LOG}_sidecars/{number}.parquet", parquet(pa.table({"add": [body]})))
    sidecars = [{"sidecar": {"path": f"{n}.parquet", "sizeInBytes": 1, "modificationTime": 0}} for n in range(2)]
    head = [{"checkpointMetadata": {"version": 2}}, protocol, about, {"txn": {"appId": "a", "version": 7}}, *sidecars]
    name = f"{LOG}{2:020}.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.{kind}"
    if kind == "json":
        await store.put(name, "\n".join(map(json.dumps, [*head, adds[2]])).encode())
    else:
        columns = {key: [action.get(key) for action in head] for key in ("txn", "sidecar", "protocol")}
        held = about["metaData"] | {"format": {"provider": "parquet"}, "configuration": None}
        columns["metaData"] = [held if "metaData" in action else None for action in head]
        await store.put(name, parquet(pa.table(columns)))
        await put_log(store, 3, adds[2])
    await put_log(store, 4 if kind == "parquet" else 3, adds[3])
    table = await DeltaTable.open(store, "t")
    assert sorted((await table.to_arrow())["n"].to_pylist()) == [0, 1, 2, 3]
    assert table.snapshot.txns["a"].version == 7
    with pytest.raises(TableVersionNotFoundError, match="no version 1"):
        await DeltaTable.open(store, "t", version=1)


async def test_compacted_entries_stand_for_theirs(store) -> None:
    table = await DeltaTable.create(store, "t", pa.schema([("n", pa.int64())]))
    for n in range(5):
        await table.append(pa.table({"n": [n]}))
    lines = []
    for version in (1, 2, 3):
        for line in (await (await store.get(commit_key("t", version))).read()).splitlines():
            lines += [line] if b'"add"' in line else []
        await store.put(commit_key("t", version), b"not read")
    await store.put(f"{LOG}{1:020}.{3:020}.compacted.json", b"\n".join(lines))
    again = await DeltaTable.open(store, "t")
    assert (await again.to_arrow())["n"].to_pylist() == [0, 1, 2, 3, 4]
    assert again.files()["commit_version"].to_pylist() == [None, None, None, 4, 5]
    assert (await (await DeltaTable.open(store, "t", version=4)).to_arrow()).num_rows == 4


def stamped(milliseconds):
    return {"commitInfo": {"timestamp": 1, "inCommitTimestamp": milliseconds, "operation": "WRITE"}}


async def test_the_version_at_a_time_by_in_commit_timestamps(store) -> None:
    await put_log(store, 0, stamped(1000), PROTOCOL, metadata([field("n", "long")]))
    for version, milliseconds in ((1, 2000), (2, 3000), (3, 4000)):
        await put_log(store, version, stamped(milliseconds))
    for milliseconds, version in ((1000, 0), (2999, 1), (3000, 2), (3500, 2), (4000, 3), (10**12, 3)):
        at = datetime.fromtimestamp(milliseconds / 1000, UTC)
        assert (await DeltaTable.open(store, "t", timestamp=at)).version == version
    with pytest.raises(TableVersionNotFoundError, match=r"version 0, is of 1970-01-01T00:00:01"):
        await DeltaTable.open(store, "t", timestamp=datetime.fromtimestamp(0.999, UTC))


async def test_the_version_at_a_time_by_the_log_of_the_store(store) -> None:
    table = await DeltaTable.create(store, "t", pa.schema([("n", pa.int64())]))
    stamps = []
    for n in range(3):
        await table.append(pa.table({"n": [n]}))
        stamps.append((await list_all(store, LOG))[-1].last_modified)
    found = await DeltaTable.open(store, "t", timestamp=stamps[-1] + timedelta(seconds=1))
    assert found.version == 3
    with pytest.raises(TableVersionNotFoundError):
        await DeltaTable.open(store, "t", timestamp=stamps[0] - timedelta(days=1))
    with pytest.raises(InvalidInputError, match="no zone"):
        await DeltaTable.open(store, "t", timestamp=datetime(2024, 1, 1))  # noqa: DTZ001 - it is what is refused
    with pytest.raises(InvalidInputError, match="one of them"):
        await DeltaTable.open(store, "t", version=1, timestamp=stamps[0])
