"""Everything from one store to another: whole, once, and in an order that no reader of a table can trip over."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import product
from random import Random

import pyarrow as pa
import pytest

from buffetstore.errors import (
    BucketNotFoundError,
    ChecksumMismatchError,
    ConflictError,
    InvalidInputError,
    StorageError,
    UnavailableError,
)
from buffetstore.objects import Attributes, LocalStore, MemoryStore, StoreWrapper, get_bytes, head, list_all, put_text
from buffetstore.objects.checksums import checksum
from buffetstore.objects.copier import SOURCE_VERSION, ObjectCopier
from buffetstore.objects.copy_store import copy_store, side_by_side, table_of
from buffetstore.objects.wrappers.base import WrappedResult
from buffetstore.tables import DeltaTable
from buffetstore.testing import CountingStore, Fault, FaultyStore

BODIES = {
    "a": b"",
    "a b/é.txt": b"text",
    "dir/large": Random(3).randbytes(9_000_000),
    "dir/small": b"small",
    "z": b"last",
}
LOG = "raw/t/_delta_log/"


class Checksummed(StoreWrapper):
    """Gives a checksum by one algorithm of all that is read or written."""

    def __init__(self, inner, algorithm="crc32c"):
        super().__init__(inner)
        self.algorithm = algorithm

    async def marked(self, meta):
        return replace(meta, checksum=checksum(self.algorithm, await get_bytes(self.inner, meta.key)))

    async def put(self, key, data, **options):
        return await self.marked(await super().put(key, data, **options))

    async def get(self, key, **options):
        result = await super().get(key, **options)
        return WrappedResult(result, await self.marked(result.meta), aiter(result))

    async def list_objects(self, prefix="", *, after=""):
        async for meta in super().list_objects(prefix, after=after):
            yield await self.marked(meta)


class Flipping(StoreWrapper):
    """Stores the first so many bodies with a wrong bit."""

    def __init__(self, inner, times):
        super().__init__(inner)
        self.times = times

    async def put(self, key, data, **options):
        if data and self.times:
            self.times -= 1
            data = bytes([data[0] ^ 1]) + bytes(data[1:])
        return await super().put(key, data, **options)


@pytest.fixture
async def source():
    store = MemoryStore()
    for key, body in BODIES.items():
        await store.put(key, body, attributes=Attributes("text/x-test", {"kind": "k"}))
    return store


async def contents(store, prefix=""):
    return {meta.key: await get_bytes(store, meta.key) for meta in await list_all(store, prefix)}


@pytest.mark.parametrize("verify", [True, False, "read"])
@pytest.mark.parametrize("kind", ["memory", "local", "checksummed", "other algorithm"])
async def test_everything_is_copied_and_then_skipped(source, tmp_path, kind, verify):
    target = {
        "memory": MemoryStore,
        "local": lambda: LocalStore(tmp_path),
        "checksummed": lambda: Checksummed(MemoryStore()),
        "other algorithm": lambda: Checksummed(MemoryStore(), "md5"),
    }[kind]()
    told = []
    report = await copy_store(source, target, verify=verify, progress=lambda *step: told.append(step))
    total = sum(map(len, BODIES.values()))
    assert (report.copied, report.skipped, report.bytes, report.failed) == (5, 0, total, ())
    assert await contents(target) == BODIES
    assert told[-1] == (total, total)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    if kind == "memory":
        kept = (await head(target, "dir/small")).attributes
        assert (kept.content_type, kept.metadata["kind"]) == ("text/x-test", "k")
    told.clear()
    counting = CountingStore(target)
    report = await copy_store(source, counting, verify=verify, progress=lambda *step: told.append(step))
    assert (report.copied, report.skipped, report.deleted) == (0, 5, 0)
    assert told[-1] == (total, total)
    assert not counting.requests["put"] + counting.requests["start_upload"]
    report.raise_for_failures()


async def test_only_what_differs_is_copied_again(source):
    target = MemoryStore()
    await copy_store(source, target)
    await source.put("dir/small", b"SMALL")  # of the same size, so that only the version tells
    await target.put("z", b"LAST")
    await target.delete(["a"])
    report = await copy_store(source, target)
    assert (report.copied, report.skipped) == (3, 2)
    assert await contents(target) == BODIES | {"dir/small": b"SMALL"}


async def test_how_copies_are_told(source):
    """Checksums need no request at all, a recorded version one, and contents a read of each side."""
    for key in ("dir/small", "z"):
        await source.put(key, BODIES[key])
    ours = await head(source, "z")
    target = CountingStore(MemoryStore())
    copier = ObjectCopier(source, target)
    theirs = await target.put("z", b"last")
    target.reset()
    assert await copier.are_same(ours, theirs)
    assert target.requests == {"head": 1, "get": 1}
    assert not await copier.are_same(ours, await target.put("z", b"tsal"))
    theirs = await copier.copy("z")
    target.reset()
    assert await copier.are_same(ours, theirs)
    assert target.requests == {"head": 1}
    target.reset()
    one, other = replace(ours, checksum=checksum("md5", b"1")), replace(theirs, checksum=checksum("md5", b"2"))
    assert not await copier.are_same(one, other)
    assert await copier.are_same(one, replace(other, checksum=one.checksum))
    assert not await copier.are_same(ours, replace(theirs, size=3))
    assert target.total == 0
    await target.delete(["z"])
    assert not await copier.are_same(ours, theirs), "it is gone by the time it is looked at"


async def test_a_prefix_alone(source):
    target = MemoryStore()
    await target.put("z", b"other")
    report = await copy_store(source, target, "dir/", delete_extra=True)
    assert (report.copied, report.deleted) == (2, 0)
    assert await contents(target) == {"dir/large": BODIES["dir/large"], "dir/small": b"small", "z": b"other"}


async def test_what_is_extra_is_deleted_only_when_asked_and_nothing_failed(source):
    target = MemoryStore()
    await target.put("extra", b"")
    await copy_store(source, target)
    assert "extra" in await contents(target)
    await source.put("new", b"")
    report = await copy_store(FaultyStore(source, {"get": [Fault()]}), target, delete_extra=True)
    assert (report.deleted, [failure.key for failure in report.failed]) == (0, ["new"])
    report = await copy_store(source, target, delete_extra=True)
    assert (report.deleted, report.failed) == (1, ())
    assert await contents(target) == BODIES | {"new": b""}


async def test_an_object_that_came_during_the_copy_is_not_extra(source):
    target = MemoryStore()
    await target.put("y", b"came to both")

    class Late(StoreWrapper):
        """An object shows only once the source has been listed."""

        async def get(self, key, **options):
            if key == "y":
                await self.inner.put("y", b"came to both")
            return await super().get(key, **options)

    assert (await copy_store(Late(source), target, delete_extra=True)).deleted == 0
    assert "y" in await contents(target)


async def test_one_failure_does_not_stop_the_others(source):
    faulty = FaultyStore(source, {"get": [None, Fault(), Fault("body")]})
    target = MemoryStore()
    report = await copy_store(faulty, target, concurrency=1)
    assert (report.copied, [failure.key for failure in report.failed]) == (3, ["a b/é.txt", "dir/large"])
    assert all(isinstance(failure.error, UnavailableError) for failure in report.failed)
    with pytest.raises(StorageError, match=r"2 objects were not copied, 3 were: 'a b/é.txt'.*again") as failure:
        report.raise_for_failures()
    assert failure.value.key == "a b/é.txt"
    assert (await copy_store(source, target)).copied == 2
    assert await contents(target) == BODIES


@pytest.mark.parametrize(("times", "stored"), [(1, True), (2, False)])
async def test_what_arrives_wrong_is_sent_again_and_never_left(times, stored):
    source, inner = MemoryStore(), MemoryStore()
    await source.put("k", b"body")
    report = await copy_store(source, Flipping(inner, times))
    assert await contents(inner) == ({"k": b"body"} if stored else {})
    assert [type(failure.error) for failure in report.failed] == ([] if stored else [ChecksumMismatchError])


async def test_a_body_that_ends_early_is_not_stored(source):
    target = MemoryStore()
    faulty = FaultyStore(source, {"get": [None, Fault("truncated"), Fault("truncated", after_bytes=5_000_000)]})
    report = await copy_store(faulty, target, concurrency=1)
    assert [failure.key for failure in report.failed] == ["a b/é.txt", "dir/large"]
    assert "ended after" in str(report.failed[0].error)
    assert set(await contents(target)) == {"a", "dir/small", "z"}


async def test_an_object_replaced_while_it_is_copied_is_copied_anew(source):
    class Replacing(StoreWrapper):
        times = 1

        async def get(self, key, *, if_match=None, **options):
            result = await super().get(key, if_match=if_match, **options)
            if key != "dir/large" or not self.times:
                return result
            self.times -= 1
            return WrappedResult(result, result.meta, self.cut(result))

        async def cut(self, result):
            yield await anext(aiter(result))
            await self.inner.put("dir/large", b"x" * 5_000_000)
            async with await self.inner.get("dir/large", if_match=result.meta.version):
                yield b""

    told = []
    target = MemoryStore()
    report = await copy_store(Replacing(source), target, progress=lambda *step: told.append(step))
    assert report.failed == ()
    assert (await head(target, "dir/large")).size == 5_000_000
    restless = Replacing(source)
    restless.times = 100
    await source.put("dir/large", BODIES["dir/large"])
    report = await copy_store(restless, MemoryStore())
    assert [failure.key for failure in report.failed] == ["dir/large"]


async def test_what_all_would_meet_stops_the_copy(source, tmp_path):
    with pytest.raises(BucketNotFoundError):
        await copy_store(source, LocalStore(tmp_path / "missing"))
    gone = Fault(error=BucketNotFoundError)
    with pytest.raises(BucketNotFoundError):
        await copy_store(source, FaultyStore(MemoryStore(), {"put": [gone]}))
    with pytest.raises(UnavailableError):
        await copy_store(FaultyStore(source, {"list_objects": [Fault()]}), MemoryStore())
    with pytest.raises(InvalidInputError, match="concurrency is 0"):
        await copy_store(source, MemoryStore(), concurrency=0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_no_more_than_asked_are_on_their_way():
    source = MemoryStore()
    for number in range(30):
        await source.put(f"k{number}", b"x")

    class Watching(StoreWrapper):
        now = most = 0

        async def put(self, key, data, **options):
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.001)
            self.now -= 1
            return await super().put(key, data, **options)

    watching = Watching(MemoryStore())
    await copy_store(source, watching, concurrency=4)
    assert watching.most == 4


def rows(number):
    return pa.table({"id": pa.array([number], pa.int64())})


@pytest.fixture
async def lake():
    """A store with a table of three versions."""
    store = MemoryStore()
    async with await DeltaTable.create(store, "raw/t", rows(0).schema) as table:
        await table.append(rows(1))
        await table.append(rows(2))
    await put_text(store, "readme", "not of the table")
    return store


async def numbers(store):
    async with await DeltaTable.open(store, "raw/t") as table:
        return sorted((await table.to_arrow()).column("id").to_pylist())


async def test_a_table_can_be_read_at_every_moment_of_its_copy(lake):
    class Recording(StoreWrapper):
        def __init__(self, inner):
            super().__init__(inner)
            self.written, self.modes, self.seen = [], {}, []

        async def put(self, key, data, *, mode, **options):
            meta = await super().put(key, data, mode=mode, **options)
            self.written.append(key)
            self.modes[key] = mode.kind
            if table_of(key) is not None and key.endswith(".json"):
                self.seen.append(await numbers(self.inner))
            return meta

    await put_text(lake, f"{LOG}00000000000000000002.checkpoint.parquet", "a checkpoint")
    await put_text(lake, f"{LOG}_sidecars/s.parquet", "a sidecar")
    await put_text(lake, f"{LOG}_last_checkpoint", "a hint")
    target = Recording(MemoryStore())
    (await copy_store(lake, target)).raise_for_failures()
    log = [key.removeprefix(LOG) for key in target.written if key.startswith(LOG)]
    commits = [f"{version:020}.json" for version in range(3)]
    assert log == ["_sidecars/s.parquet", *commits, "00000000000000000002.checkpoint.parquet", "_last_checkpoint"]
    assert max(i for i, key in enumerate(target.written) if table_of(key) is None) < target.written.index(
        f"{LOG}_sidecars/s.parquet"
    )
    assert {target.modes[LOG + name] for name in commits} == {"create"}
    assert target.seen == [[], [1], [1, 2]]


async def test_commits_made_during_the_copy_wait_for_the_next_run(lake):
    class Busy(StoreWrapper):
        done = False

        async def get(self, key, **options):
            if not self.done and not key.startswith(LOG):
                self.done = True
                async with await DeltaTable.open(self.inner, "raw/t") as table:
                    await table.append(rows(3))
            return await super().get(key, **options)

    target = MemoryStore()
    (await copy_store(Busy(lake), target)).raise_for_failures()
    assert await numbers(target) == [1, 2]
    (await copy_store(lake, target)).raise_for_failures()
    assert await numbers(target) == [1, 2, 3]


async def test_a_hint_that_changed_is_left_for_the_next_run(lake):
    await put_text(lake, f"{LOG}_last_checkpoint", "one")

    class Busy(StoreWrapper):
        async def get(self, key, **options):
            await put_text(self.inner, f"{LOG}_last_checkpoint", "two")
            return await super().get(key, **options)

    target = MemoryStore()
    (await copy_store(Busy(lake), target)).raise_for_failures()
    assert f"{LOG}_last_checkpoint" not in await contents(target)


async def test_another_table_at_the_target_is_left_alone(lake):
    target = MemoryStore()
    async with await DeltaTable.create(target, "raw/t", rows(0).schema) as table:
        await table.append(rows(7))
    before = await contents(target, LOG)
    report = await copy_store(lake, target)
    assert [type(failure.error) for failure in report.failed] == [ConflictError]
    assert "is another commit" in str(report.failed[0].error)
    assert await contents(target, LOG) == before
    assert await numbers(target) == [7]
    assert await get_bytes(target, "readme") == b"not of the table", "the rest is copied"


@pytest.mark.parametrize("is_other", [True, False])
async def test_a_commit_that_comes_to_the_target_meanwhile(lake, is_other):
    commit = f"{LOG}{1:020}.json"

    class Racing(StoreWrapper):
        async def put(self, key, data, **options):
            if key == commit:
                await self.inner.put(commit, b"another" if is_other else data)
            return await super().put(key, data, **options)

    target = Racing(MemoryStore())
    report = await copy_store(lake, target)
    assert [failure.key for failure in report.failed] == ([commit] if is_other else [])
    assert (await get_bytes(target, commit) == b"another") == is_other
    assert (f"{LOG}{2:020}.json" in await contents(target)) != is_other


async def test_the_log_of_a_table_whose_file_failed_is_not_copied(lake):
    class Broken(StoreWrapper):
        async def get(self, key, **options):
            if key.startswith("raw/t/") and table_of(key) is None:
                raise UnavailableError("no", key=key)
            return await super().get(key, **options)

    target = MemoryStore()
    report = await copy_store(Broken(lake), target)
    assert list(await contents(target)) == ["readme"]
    assert report.failed[-1].key == LOG
    assert "2 of its files" in str(report.failed[-1].error)


async def test_an_entry_that_fails_ends_its_log(lake):
    class Broken(StoreWrapper):
        async def get(self, key, **options):
            if key == f"{LOG}{1:020}.json":
                raise UnavailableError("no", key=key)
            return await super().get(key, **options)

    target = MemoryStore()
    report = await copy_store(Broken(lake), target)
    assert len(report.failed) == 1
    assert list(await contents(target, LOG)) == [f"{LOG}{0:020}.json"]


async def test_an_extra_table_goes_log_first(lake):
    deleted = []

    class Recording(StoreWrapper):
        async def delete(self, keys):
            deleted.extend(keys)
            await super().delete(keys)

    report = await copy_store(MemoryStore(), Recording(lake), delete_extra=True)
    assert report.deleted == len(deleted) == 6
    assert deleted[:3] == [f"{LOG}{version:020}.json" for version in (2, 1, 0)]
    assert await contents(lake) == {}


async def test_two_listings_side_by_side():
    keys = ["a", "b", "z\uff5e", "z📈", "é"]
    for chosen in product([0, 1, 2, 3], repeat=len(keys)):
        ours, theirs = MemoryStore(), MemoryStore()
        for key, sides in zip(keys, chosen, strict=True):
            for store, bit in ((ours, 1), (theirs, 2)):
                if sides & bit:
                    await store.put(key, b"")
        found = [
            (mine and mine.key, other and other.key)
            async for mine, other in side_by_side(ours.list_objects(), theirs.list_objects())
        ]
        expected = [
            (key if sides & 1 else None, key if sides & 2 else None)
            for key, sides in zip(keys, chosen, strict=True)
            if sides
        ]
        assert found == expected


def test_which_keys_are_of_a_log():
    assert table_of("_delta_log/0.json") == ""
    assert table_of("raw/t/_delta_log/_sidecars/x") == "raw/t/"
    assert table_of("raw/t/_delta_logs/x") is None
    assert table_of("raw/x_delta_log/x") is None


def test_the_name_of_the_marker_is_one_that_every_service_takes():
    assert SOURCE_VERSION.replace("-", "").isalnum()
    assert SOURCE_VERSION.islower()
