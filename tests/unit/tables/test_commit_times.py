"""When versions were committed, told by a copy as by the table itself."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random

import pyarrow as pa
import pytest

from buffetstore.errors import (
    ConflictError,
    CorruptFileError,
    StorageError,
    TableNotFoundError,
    TableVersionNotFoundError,
    UnsupportedFeatureError,
)
from buffetstore.objects import LocalStore, MemoryStore, ObjectMeta, copy_store, get_bytes, list_all
from buffetstore.objects.wrappers.base import StoreWrapper
from buffetstore.tables import DeltaTable, copy_tables, keep_commit_times
from buffetstore.tables.kept_times import COMMIT_TIMES, KeptTimes, kept_times
from buffetstore.tables.time_travel import commit_times

SCHEMA = pa.schema([("n", pa.int64())])
START = datetime(2024, 1, 1, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


class Clock:
    """A store's time, which tests set."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def rows(n: int) -> pa.Table:
    return pa.table({"n": [n]})


async def make_table(store: MemoryStore, clock: Clock, path: str = "t") -> DeltaTable:
    """Make five versions, one a day."""
    table = await DeltaTable.create(store, path, SCHEMA)
    for n in range(4):
        clock.now += DAY
        await table.append(rows(n))
    return table


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def source(clock) -> MemoryStore:
    return MemoryStore(now=clock)


@pytest.fixture
def later() -> Clock:
    return Clock(START + 100 * DAY)


@pytest.fixture
def target(later) -> MemoryStore:
    return MemoryStore(now=later)


async def answers(store, path: str = "t", days: int = 5) -> list[int]:
    """Return what the version was at noon of each day."""
    return [
        (await DeltaTable.open(store, path, timestamp=START + day * DAY + 12 * HOUR)).version for day in range(days)
    ]


async def test_a_copy_alone_forgets(source, target, clock) -> None:
    await make_table(source, clock)
    assert await answers(source) == [0, 1, 2, 3, 4]
    await copy_store(source, target)
    with pytest.raises(TableVersionNotFoundError):
        await answers(target)


async def test_a_copied_table_answers_as_its_source(source, target, clock, later) -> None:
    table = await make_table(source, clock)
    report = await copy_tables(source, target)
    assert report.failed == ()
    assert report.tables == ("t/",)
    assert await answers(target) == [0, 1, 2, 3, 4]
    with pytest.raises(TableVersionNotFoundError, match=r"version 0, is of 2024-01-01T00:00:00"):
        await DeltaTable.open(target, "t", timestamp=START - HOUR)
    assert {meta.key for meta in await list_all(source)} == {
        meta.key for meta in await list_all(target) if not meta.key.endswith(COMMIT_TIMES)
    }
    copy = await DeltaTable.open(target, "t")
    assert [each.committed_at for each in await copy.history()] == [each.committed_at for each in await table.history()]
    # What is committed to the copy is of its own time.
    later.now += DAY
    await copy.append(rows(9))
    assert (await DeltaTable.open(target, "t", timestamp=later.now - HOUR)).version == 4
    assert (await DeltaTable.open(target, "t", timestamp=later.now)).version == 5
    told = [change.version async for change in copy.changes(timestamp=START + 2 * DAY)]
    assert told == [3, 4, 5]
    assert (await copy.restore(timestamp=START + 2 * DAY)).restored_version == 2


async def test_from_a_folder_and_back(source, clock, tmp_path) -> None:
    await make_table(source, clock, "raw/t")
    local = LocalStore(tmp_path / "one", create=True)
    await copy_tables(source, local)
    assert await answers(local, "raw/t") == [0, 1, 2, 3, 4]
    moved = LocalStore(tmp_path / "other", create=True)
    await copy_tables(local, moved)  # of a copy
    assert await answers(moved, "raw/t") == [0, 1, 2, 3, 4]
    for version, meta in enumerate(await list_all(local, "raw/t/_delta_log/")):
        os.utime(tmp_path / "one" / meta.key, (START.timestamp() + version * 60,) * 2)
    assert await answers(local, "raw/t") == [0, 1, 2, 3, 4]  # what was kept stands


async def test_a_table_at_the_root_of_a_store(source, target, clock) -> None:
    await make_table(source, clock, "")
    assert (await copy_tables(source, target)).tables == ("",)
    assert await answers(target, "") == [0, 1, 2, 3, 4]


async def test_what_is_no_table_or_cannot_be_read_is_copied_as_it_is(source, target, clock) -> None:
    await make_table(source, clock)
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["new"], "writerFeatures": ["new"]}
    await source.put(f"t/_delta_log/{5:020}.json", json.dumps({"protocol": protocol}).encode())
    await source.put("half/_delta_log/_last_checkpoint", b"{}")
    await source.put(f"broken/_delta_log/{0:020}.json", b"{")
    report = await copy_tables(source, target)
    assert report.tables == ("broken/", "half/", "t/")
    assert [failure.key for failure in report.failed] == [f"broken/{COMMIT_TIMES}"]
    assert report.copied == len(await list_all(source)) == len(await list_all(target))
    with pytest.raises(StorageError, match=f"broken/{COMMIT_TIMES}"):
        report.raise_for_failures()


async def test_copying_again_adds_what_has_come(source, target, clock, later) -> None:
    table = await make_table(source, clock)
    await copy_tables(source, target)
    clock.now += DAY
    await table.append(rows(5))
    later.now += DAY
    assert (await copy_tables(source, target, delete_extra=True)).failed == ()
    assert await answers(target, days=6) == [0, 1, 2, 3, 4, 5]
    before = await get_bytes(target, f"t/{COMMIT_TIMES}")
    assert (await copy_tables(source, target)).copied == 0
    assert await get_bytes(target, f"t/{COMMIT_TIMES}") == before


async def test_times_can_be_kept_before_any_copy(source, target, clock) -> None:
    """So that whatever copies the folder copies them too."""
    table = await make_table(source, clock)
    assert await keep_commit_times(source, "t") == 5
    clock.now += DAY
    await table.append(rows(5))
    assert await keep_commit_times(source, "t") == 6
    assert await keep_commit_times(source, "t") == 6
    await copy_store(source, target)
    assert await answers(target, days=6) == [0, 1, 2, 3, 4, 5]
    assert (await table.verify()).ok
    clock.now += 30 * DAY
    await table.vacuum()
    assert await answers(source, days=6) == [0, 1, 2, 3, 4, 5]


async def test_versions_that_were_cleaned_are_let_go(source, clock) -> None:
    table = await make_table(source, clock)
    await keep_commit_times(source, "t")
    await table.checkpoint()
    await source.delete([f"t/_delta_log/{version:020}.json" for version in (0, 1)])
    assert await keep_commit_times(source, "t") == 3
    kept = await kept_times(source, "t")
    assert kept is not None
    assert sorted(kept.times) == [2, 3, 4]


async def test_in_commit_timestamps_come_first(source, target, clock) -> None:
    await make_table(source, clock)
    stamp = int((START + 4 * DAY + HOUR).timestamp() * 1000)
    info = {"commitInfo": {"timestamp": stamp, "inCommitTimestamp": stamp, "operation": "WRITE"}}
    await source.put(f"t/_delta_log/{5:020}.json", json.dumps(info).encode())
    await copy_tables(source, target)
    for store in (source, target):
        assert (await DeltaTable.open(store, "t", timestamp=START + 4 * DAY + 2 * HOUR)).version == 5
        assert (await DeltaTable.open(store, "t", timestamp=START + 2 * DAY + HOUR)).version == 2


class TestOtherTables:
    async def test_what_is_kept_of_another_table_does_not_count(self, source, clock) -> None:
        await make_table(source, clock)
        await make_table(source, Clock(), "other")
        await keep_commit_times(source, "other")
        sidecar = await get_bytes(source, f"other/{COMMIT_TIMES}")
        clock.now = START + 50 * DAY
        await source.put(f"t/{COMMIT_TIMES}", sidecar)
        assert await answers(source) == [0, 1, 2, 3, 4]
        assert await keep_commit_times(source, "t") == 5
        kept = await kept_times(source, "t")
        assert kept is not None
        assert kept.table_id == (await DeltaTable.open(source, "t")).metadata.id

    async def test_times_of_another_table_are_refused(self, source, target, clock, later) -> None:
        await make_table(source, clock)
        await make_table(target, later)
        with pytest.raises(ConflictError, match="is another one"):
            await keep_commit_times(target, "t", of=source)
        report = await copy_tables(source, target)
        assert [failure.key for failure in report.failed] == [f"t/_delta_log/{0:020}.json"]

    async def test_where_there_is_no_table(self, source) -> None:
        with pytest.raises(TableNotFoundError):
            await keep_commit_times(source, "t")


# As format 1 was written first: it is read for ever.
OLDEST = (
    b'{"format_version": 1, "table_id": "abc", "versions": [0, 2], "microseconds": [1704067200000000, '
    b'1704153600000001], "sha256": "1a022132dd633b921fdb7c086a6c92ae6d9340cfba68accb074996ea6e31f29c"}'
)


class TestTheSidecar:
    async def test_the_oldest_format_is_read(self, source) -> None:
        await source.put(f"t/{COMMIT_TIMES}", OLDEST)
        kept = await kept_times(source, "t")
        assert kept is not None
        assert (kept.table_id, kept.times) == ("abc", {0: START, 2: START + DAY + timedelta(microseconds=1)})

    @pytest.mark.parametrize(
        "damaged",
        [b"", b"[]", b"{}", OLDEST[:-5], OLDEST.replace(b"[0, 2]", b"[0, 3]"), OLDEST.replace(b'"abc"', b'"abd"')],
    )
    async def test_a_damaged_one_is_told(self, source, clock, damaged) -> None:
        table = await make_table(source, clock)
        await source.put(f"t/{COMMIT_TIMES}", damaged)
        with pytest.raises(CorruptFileError, match=r"commit_times\.json.*delete it"):
            await answers(source)
        with pytest.raises(CorruptFileError):
            await keep_commit_times(source, "t")
        assert (await table.to_arrow()).num_rows == 4

    async def test_a_newer_format_is_refused(self, source, clock) -> None:
        await make_table(source, clock)
        await source.put(f"t/{COMMIT_TIMES}", b'{"format_version": 2}')
        with pytest.raises(UnsupportedFeatureError, match="format_version 2, newer than 1"):
            await answers(source)

    async def test_two_keep_at_once(self, source, clock) -> None:
        """Each adds to what the other wrote."""

        class Late(StoreWrapper):
            async def put(self, key, data, **options):
                if not self.done:
                    self.done = True
                    await keep_commit_times(self.inner, "t")
                return await self.inner.put(key, data, **options)

            done = False

        await make_table(source, clock)
        assert await keep_commit_times(Late(source), "t") == 5
        assert await answers(source) == [0, 1, 2, 3, 4]

        class Never(StoreWrapper):
            async def put(self, key, data, **options):
                await self.inner.put(key, b"x")
                return await self.inner.put(key, data, **options)

        clock.now += DAY
        table = await DeltaTable.open(source, "t")
        await table.append(rows(5))
        with pytest.raises((ConflictError, CorruptFileError)):
            await keep_commit_times(Never(source), "t")


@pytest.mark.parametrize("seed", range(30))
def test_kept_times_stand_and_the_others_fit_between(seed) -> None:
    random = Random(seed)
    listed = {version for version in range(12) if random.random() < 0.8} | {11}
    copied = START + 100 * DAY
    commits = {
        version: ObjectMeta("k", 1, "1", copied + random.randrange(3) * timedelta(milliseconds=1)) for version in listed
    }
    known = {version: START + version * HOUR for version in range(12) if random.random() < 0.5}
    found = commit_times(commits, KeptTimes("id", known))
    assert list(found) == sorted(listed)
    for version in listed & set(known):
        assert found[version] == known[version]
    stamps = list(found.values())
    assert stamps == sorted(stamps)
    last = max((version for version in known if version in listed), default=-1)
    assert all(found[version] >= copied for version in listed if version > last)
    plain = list(commit_times(commits).values())
    assert all(after - before >= timedelta(milliseconds=1) for before, after in pairwise(plain))
