"""Which files changed: told from columns as a replay of single files would tell it."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffetstore.errors import CorruptLogError, UnsupportedFeatureError
from buffetstore.tables import AddFile, RemoveFile, live_files
from buffetstore.tables.actions import CdcFile
from buffetstore.tables.file_table import from_actions
from buffetstore.tables.live_files import LiveFiles, Part
from buffetstore.tables.log import Entry

NAMES = st.sampled_from([f"f{n}" for n in range(6)])
VECTORS = st.sampled_from(
    [None, *(json.dumps({"storageType": "u", "pathOrInlineDv": text, "cardinality": 1}) for text in ("x", "y"))]
)
VALUES = st.sampled_from([{}, {"p": "a"}, {"p": None}])
ADDS = st.builds(
    AddFile, NAMES, st.integers(1, 9), st.just(1), VALUES, data_change=st.booleans(), deletion_vector=VECTORS
)
REMOVES = st.builds(
    RemoveFile,
    NAMES,
    data_change=st.booleans(),
    partition_values=VALUES,
    size=st.none() | st.integers(1, 9),
    deletion_vector=VECTORS,
)
FILES = st.lists(ADDS, max_size=4, unique_by=lambda add: add.path)
COMMITS = st.lists(st.tuples(FILES, st.lists(REMOVES, max_size=4)), max_size=8)


def replayed(files: list[AddFile] | None, commits: list[tuple[list, list]]) -> list[list[Part]]:
    """What each commit changed, file by file."""
    live = {add.path: add for add in files or ()}
    gone: set[str] = set()
    told = []
    for adds, removes in commits:
        added, removed = ({each.path: each for each in actions} for actions in (adds, removes))
        lost, come = [], []
        for name in removed | added:
            add, remove = added.get(name), removed.get(name)
            before = live.get(name)
            if before is None and files is None and name not in gone:
                before = remove and AddFile(
                    name, remove.size or 2**26, 1, remove.partition_values, deletion_vector=remove.deletion_vector
                )
            live.pop(name, None)
            gone.add(name)
            if add is not None:
                live[name] = add
            if (add or remove).data_change:
                lost += rows_of(before, add, "delete")
                come += rows_of(add, before, "insert")
        told.append(lost + come)
    return told


def rows_of(one: AddFile | None, other: AddFile | None, kind: str) -> list[Part]:
    if one is None:
        return []
    among = None if other is None else other.deletion_vector
    if other is not None and among in (None, one.deletion_vector):
        return []
    return [Part(kind, one.path, one.size, one.partition_values, one.deletion_vector, among)]


@pytest.mark.parametrize("dead", [0, live_files._DEAD])
@given(st.none() | FILES, COMMITS, st.booleans())
def test_files_are_told_as_one_by_one(dead, files, commits, at_once) -> None:
    table = None if files is None else from_actions(files, [0] * len(files), pa.schema([]), ())
    live = LiveFiles(table, partitioned=True)
    entries = [Entry(n, adds=tuple(adds), removes=tuple(removes)) for n, (adds, removes) in enumerate(commits)]
    told = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live_files, "_DEAD", dead)
        for window in [entries] if at_once else [[entry] for entry in entries]:
            live.look_up(window)
            told += [live.parts(entry, "t") for entry in window]
    assert [list(parts.since(0)) for parts in told] == replayed(files, commits)
    assert [list(parts.sizes(1)) for parts in told] == [[part.size for part in parts.since(1)] for parts in told]


def test_what_cannot_be_told_is_named() -> None:
    live = LiveFiles(None, partitioned=True)
    with pytest.raises(CorruptLogError, match="version 3 of table 't' removes 'f' without its partition values"):
        live.parts(Entry(3, removes=(RemoveFile("f"),)), "t")
    for outside in ("/f", "s3://b/f"):
        with pytest.raises(UnsupportedFeatureError, match=f"'{outside}' by an absolute path"):
            live.parts(Entry(4, adds=(AddFile(outside, 1, 1),)), "t")


def test_change_files_tell_it_alone_and_what_came_and_went_is_forgotten(monkeypatch) -> None:
    monkeypatch.setattr(live_files, "_BATCHES", 4)
    live = LiveFiles(from_actions([], [], pa.schema([]), ()), partitioned=False)
    for n in range(50):
        adds, removes = (AddFile(f"f{n}", 1, 1),), (RemoveFile(f"f{n - 1}"),) if n else ()
        cdcs = (CdcFile("c", 7, {"p": "x"}),) if n % 2 else ()
        parts = list(live.parts(Entry(n, adds=adds, removes=removes, cdcs=cdcs), "t").since(0))
        plain = [Part("delete", f"f{n - 1}", 1)] * bool(n) + [Part("insert", f"f{n}", 1)]
        assert parts == ([Part(None, "c", 7, {"p": "x"})] if cdcs else plain)
        assert len(live._rows) == 1
        assert sum(batch.num_rows for batch in live._batches) <= 6
