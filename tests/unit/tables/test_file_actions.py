"""File actions as columns say the same as the values they stand for."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffetstore.tables import AddFile, CommitInfo, DeltaTable, Metadata, RemoveFile
from buffetstore.tables.actions import write_actions
from buffetstore.tables.conflicts import Proposal, conflict
from buffetstore.tables.file_actions import (
    adds_together,
    each_file,
    paths_of,
    removed,
    restored,
    texts,
    write_entry,
)
from buffetstore.tables.log import Entry, parse_entry
from buffetstore.tables.log_columns import AddColumns, RemoveColumns, add_columns, remove_batch

TEXT = st.text(st.sampled_from(["a", "é", '"', "\\", "\n", "\x00", "/", "日", "\x7f", "\u2028", "{"]), max_size=5)
VECTOR = '{"storageType": "u", "pathOrInlineDv": "x\\"", "offset": 1, "sizeInBytes": 3, "cardinality": 2}'
VECTORS = st.sampled_from([None, VECTOR])
VALUES = st.dictionaries(TEXT, st.none() | TEXT, max_size=2)
TAGS = st.dictionaries(TEXT, TEXT, max_size=2)
ADDS = st.lists(
    st.builds(
        AddFile,
        TEXT,
        st.integers(0, 2**40),
        st.integers(0, 2**40),
        VALUES,
        TAGS,
        st.none() | TEXT,
        st.booleans(),
        TEXT,
        VECTORS,
    ),
    max_size=8,
)
REMOVES = st.lists(
    st.builds(
        RemoveFile,
        TEXT,
        st.none() | st.integers(0, 2**40),
        st.booleans(),
        st.none() | VALUES,
        st.none() | st.integers(0, 2**40),
        st.none() | TAGS,
        TEXT,
        VECTORS,
    ),
    max_size=8,
)


def documents(data) -> list:
    return [json.loads(line) for line in bytes(data).decode().removesuffix("\n").split("\n") if line]


@given(ADDS, REMOVES, st.integers(0, 4))
def test_an_entry_of_columns_is_that_of_the_values(adds, removes, start) -> None:
    info = CommitInfo(1, "WRITE", "id")
    added = add_columns(adds).part(min(start, len(adds)), len(adds))
    gone = RemoveColumns(remove_batch(removes).slice(start))
    plain = write_actions((info, *removes[start:], *adds[start:]))
    assert documents(write_entry([info], gone, added)) == documents(plain)
    assert documents(write_entry([info], removes[start:], added)) == documents(plain)


def test_many_values_are_written_as_few_are() -> None:
    adds = [AddFile(f"p{n}", n, n) for n in range(2500)]
    assert documents(write_entry([], (), adds)) == documents(write_actions(adds))
    assert documents(write_entry([], (), adds_together(add_columns(adds[:1]), adds[1:]))) == documents(
        write_actions(adds)
    )
    assert list(adds_together(adds[:2], ())) == adds[:2]
    assert list(paths_of(adds_together(adds[:2], adds[2:4]))) == list(paths_of(adds[:4]))


def test_a_proposal_is_the_entry_that_is_read_from_it() -> None:
    adds = [AddFile(f"a{n}", n, n, {"p": None}, {"t": "x"}, '{"numRecords":1}', log_path=f"a{n}") for n in range(2000)]
    removes = [RemoveFile(f"r{n}", 1, partition_values={}, size=1, tags={}, log_path=f"r{n}") for n in range(2000)]
    metadata = Metadata("id", '{"type":"struct","fields":[]}')
    info = CommitInfo(1, "RESTORE", "id")
    gone = RemoveColumns(remove_batch(removes))
    proposal = Proposal("RESTORE", tuple(adds[1500:]), gone, metadata, restores=add_columns(adds[:1500]))
    read, made = parse_entry(bytes(proposal.body(info)), "t", 7), proposal.entry(7, info)
    assert (made.version, made.metadata, made.protocol) == (read.version, read.metadata, read.protocol)
    assert list(made.adds) == list(read.adds)
    assert [each.path for each in made.removes] == [each.path for each in read.removes]
    assert isinstance(made.adds, AddColumns)


@pytest.mark.parametrize("as_columns", [True, False])
async def test_removed_files_are_a_conflict_however_they_are_told(store, as_columns) -> None:
    async with DeltaTable.create(store, "t", pa.schema([("k", pa.int64())])) as table:
        await table.append(pa.table({"k": [1]}))
        seen = table.snapshot
    ours = removed(seen.files)
    theirs = [RemoveFile("other"), RemoveFile(seen.files["path"][0].as_py())]
    winner = Entry(2, removes=RemoveColumns(remove_batch(theirs)) if as_columns else tuple(theirs))
    assert "has been removed" in (conflict(Proposal("DELETE", removes=ours), seen, [winner]) or "")
    assert conflict(Proposal("DELETE", removes=tuple(ours)), seen, [Entry(2, removes=theirs[:1])]) is None
    assert conflict(Proposal("DELETE", removes=ours), seen, [Entry(2)]) is None


async def test_files_of_a_snapshot_go_and_come_back(store) -> None:
    schema = pa.schema([("k", pa.int64()), ("p", pa.string())])
    async with DeltaTable.create(store, "t", schema, partition_by=["p"]) as table:
        await table.append(pa.table({"k": [1, 2, 3], "p": ["x", None, "日 /"]}, schema=schema))
        snapshot = table.snapshot
        adds = parse_entry(store._objects["t/_delta_log/00000000000000000001.json"][1], "t", 1).adds
    known = snapshot.with_statistics()
    back = {add.path: add for add in restored(known, snapshot.metadata, ["k"])}
    for add in adds:
        again = back[add.path]
        assert json.loads(again.stats) == json.loads(add.stats)
        assert (again.size, again.modification_time, again.log_path) == (add.size, add.modification_time, add.log_path)
        assert (again.partition_values, again.data_change) == (add.partition_values, True)
    gone = {remove.path: remove for remove in removed(snapshot.files, data_change=False)}
    assert {path: remove.partition_values for path, remove in gone.items()} == {
        add.path: add.partition_values for add in adds
    }
    assert not any(remove.data_change for remove in gone.values())
    nothing = known.slice(0, 0)
    assert (len(removed(nothing)), len(restored(nothing, snapshot.metadata, ["k"]))) == (0, 0)
    assert [file["path"] for file in each_file(snapshot.files)] == list(texts(snapshot.files["path"]))
