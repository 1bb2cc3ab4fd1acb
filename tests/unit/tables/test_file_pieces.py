"""A snapshot's files in pieces: followed by commits, they are what a replay of the whole log gives, and are shared."""

from __future__ import annotations

from random import Random

import pyarrow as pa
import pytest

from buffetstore.tables import AddFile, Metadata, Protocol, RemoveFile
from buffetstore.tables import file_pieces as pieces_module
from buffetstore.tables.file_pieces import hashes_of
from buffetstore.tables.log import Entry
from buffetstore.tables.schema import schema_to_json
from buffetstore.tables.snapshot import advance, replay

SCHEMA = pa.schema([("k", pa.int64())])
FIRST = Entry(0, protocol=Protocol(1, 2), metadata=Metadata("id", schema_to_json(SCHEMA)))


def add(path, k=0):
    stats = f'{{"numRecords":1,"minValues":{{"k":{k}}},"maxValues":{{"k":{k}}},"nullCount":{{"k":0}}}}'
    return AddFile(path, 10, 20, stats=stats)


def path(n):
    return ("short" if n % 3 else "a path that is much longer than the window/of the hash/") + f"-{n:032}.parquet"[
        n % 7 :
    ]


@pytest.mark.parametrize("seed", range(8))
def test_following_is_replaying(seed, monkeypatch) -> None:
    monkeypatch.setattr(pieces_module, "PIECE_ROWS", 16)  # many pieces
    monkeypatch.setattr(pieces_module, "_MANY", 12)
    random = Random(seed)
    entries = [FIRST]
    for version in range(1, 60):
        many = random.random() < 0.1
        adds = [add(path(n), version) for n in random.sample(range(200), 30 if many else random.randrange(4))]
        gone = [RemoveFile(path(n)) for n in random.sample(range(200), 30 if many else random.randrange(4))]
        entries.append(Entry(version, adds=adds, removes=gone))
    followed = replay("t", None, entries[:20])
    for at in range(20, 60):
        followed = advance(followed, entries[at : at + 1])
    whole = replay("t", None, entries)
    assert followed.files.equals(whole.files)
    assert followed.files["path"].to_pylist() == list(expected(entries))
    assert sum(piece.batch.num_rows for piece in followed.pieces) == followed.files.num_rows
    held = followed.files["path"].to_pylist()
    for asked in (held[:3], held, [*held[:3], "no", "none"], ["no", *held], []):
        assert followed.missing(asked) == next((each for each in asked if each not in held), None)


def expected(entries):
    found = {}
    for entry in entries:
        for remove in entry.removes:
            found.pop(remove.path, None)
        for each in entry.adds:
            found.pop(each.path, None)
            found[each.path] = each
    return found


def test_a_commit_shares_what_it_does_not_change(monkeypatch) -> None:
    monkeypatch.setattr(pieces_module, "PIECE_ROWS", 100)
    first = replay("t", None, [FIRST, Entry(1, adds=[add(path(n), n) for n in range(1000)])])
    second = advance(first, [Entry(2, adds=[add("new")])])
    assert [each.batch for each in second.pieces[:10]] == [each.batch for each in first.pieces]
    assert all(one is other for one, other in zip(first.pieces, second.pieces, strict=False))
    third = advance(second, [Entry(3, removes=[RemoveFile(path(250))])])
    assert [one is other for one, other in zip(second.pieces, third.pieces, strict=True)].count(False) == 1
    assert third.files.num_rows == 1000
    assert second.files.num_rows == 1001


def test_small_pieces_are_joined() -> None:
    snapshot = replay("t", None, [FIRST])
    for n in range(300):
        snapshot = advance(snapshot, [Entry(n + 1, adds=[add(path(n))])])
    assert snapshot.files.num_rows == 300
    assert len(snapshot.pieces) < 12
    assert snapshot.files["commit_version"].to_pylist() == list(range(1, 301))


def test_a_hash_is_of_the_path_alone() -> None:
    paths = [path(n) for n in range(500)] + ["", "x", "é", "y" * 39, "y" * 40, "y" * 41]
    together = hashes_of(pa.array(paths))
    for at, each in enumerate(paths):
        assert hashes_of(pa.array(["before", each, "after"]).slice(1, 1))[0] == together[at]
    assert len(set(together.tolist())) > 450
    assert len(hashes_of(pa.array([], pa.string()))) == 0
