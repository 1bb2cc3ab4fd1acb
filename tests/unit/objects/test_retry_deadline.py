"""Calls that are cut, by their deadline or by the caller: what is said of a write must be true."""

# ruff: noqa: A002 - names are those of the contract

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from buffetstore.errors import (
    AlreadyExistsError,
    ChecksumMismatchError,
    DeadlineExceededError,
    NotFoundError,
    UnavailableError,
)
from buffetstore.objects import CREATE, MemoryStore, ObjectMeta, ObjectVersion, RetryStore, get_bytes, list_all
from buffetstore.objects.base import GetResult
from buffetstore.objects.wrappers.base import StoreWrapper
from buffetstore.resilience.retry import RetryPolicy
from buffetstore.testing import Fault, FaultyStore

BODY = bytes(range(256)) * 12_000


async def no_sleep(_seconds: float) -> None:
    """Wait not at all."""


class HangingStore(StoreWrapper):
    """Its next writes hang for ever, before or after the inner store has done them."""

    def __init__(self, inner, *hangs: str) -> None:
        super().__init__(inner)
        self.hangs = list(hangs)
        self.hanging = asyncio.Event()
        self.go_on = asyncio.Event()
        self.puts = 0

    async def _hang(self, when: str) -> None:
        if self.hangs and self.hangs[0] == when:
            self.hangs.pop(0)
            self.hanging.set()
            await self.go_on.wait()

    async def put(self, key, data, **options):
        self.puts += 1
        await self._hang("before")
        meta = await self.inner.put(key, data, **options)
        await self._hang("after")
        return meta

    async def get(self, key, **options):
        await self._hang("get")
        return await self.inner.get(key, **options)


def policy(**options) -> RetryPolicy:
    return RetryPolicy(**{"sleep": no_sleep, "base_seconds": 0, "call_seconds": 1e-3, **options})


class TestDeadline:
    async def test_a_read_is_cut(self):
        memory = MemoryStore()
        await memory.put("k", b"body")
        store = RetryStore(HangingStore(memory, "get"), policy())
        with pytest.raises(DeadlineExceededError) as failure:
            await store.get("k")
        assert not failure.value.ambiguous
        assert await get_bytes(store, "k") == b"body"

    @pytest.mark.parametrize("when", ["before", "after"])
    async def test_an_overwrite_that_is_cut_is_unclear(self, when):
        with pytest.raises(DeadlineExceededError) as failure:
            await RetryStore(HangingStore(MemoryStore(), when), policy()).put("k", b"ours")
        assert failure.value.ambiguous

    @pytest.mark.parametrize("when", ["before", "after"])
    async def test_a_create_that_is_cut_is_settled(self, when):
        memory = MemoryStore()
        hanging = HangingStore(memory, when)
        meta = await RetryStore(hanging, policy()).put("k", b"ours", mode=CREATE)
        assert hanging.puts == 2
        assert await get_bytes(memory, "k", if_match=meta.version) == b"ours"

    async def test_somebody_elses_is_a_loss_after_the_cut_too(self):
        memory = MemoryStore()
        await memory.put("k", b"theirs")
        with pytest.raises(AlreadyExistsError):
            await RetryStore(HangingStore(memory, "before"), policy()).put("k", b"ours", mode=CREATE)

    @pytest.mark.parametrize("settle_seconds", [0, 1e-3])
    async def test_what_cannot_be_settled_is_unclear(self, settle_seconds):
        hanging = HangingStore(MemoryStore(), "before", "before")
        store = RetryStore(hanging, policy(settle_seconds=settle_seconds))
        with pytest.raises(DeadlineExceededError, match="call_seconds") as failure:
            await store.put("k", b"ours", mode=CREATE)
        assert failure.value.ambiguous
        assert hanging.puts == (2 if settle_seconds else 1)

    async def test_a_consumer_may_take_his_time(self):
        memory = MemoryStore()
        await memory.put("k", BODY)
        faulty = FaultyStore(memory, {"get": [Fault("body", after_bytes=1_500_000)]})
        async with await RetryStore(faulty, policy()).get("k") as result:
            chunks = []
            async for chunk in result:
                await asyncio.sleep(2e-3)  # longer than a call may last
                chunks.append(bytes(chunk))
        assert b"".join(chunks) == BODY

    async def test_a_page_of_a_listing_is_cut(self):
        class Silent(MemoryStore):
            async def list_objects(self, prefix="", *, after=""):
                yield await anext(super().list_objects(prefix, after=after))
                await asyncio.Event().wait()

        inner = Silent()
        await inner.put("a", b"")
        listing = RetryStore(inner, policy(attempts=1)).list_objects()
        assert (await anext(listing)).key == "a"
        with pytest.raises(DeadlineExceededError):
            await anext(listing)


class TestCancellation:
    async def cancelled(self, hanging: HangingStore, **options) -> None:
        store = RetryStore(hanging, policy(call_seconds=None, **options))
        task = asyncio.create_task(store.put("k", b"ours", mode=CREATE))
        await hanging.hanging.wait()
        task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert task.done() is (options.get("settle_seconds") == 0)
        task.cancel()  # impatience does not help
        hanging.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    @pytest.mark.parametrize("when", ["before", "after"])
    async def test_a_conditional_write_is_carried_to_its_end(self, when):
        memory = MemoryStore()
        hanging = HangingStore(memory, when)
        await self.cancelled(hanging)
        assert (await get_bytes(memory, "k"), hanging.puts) == (b"ours", 1)

    async def test_an_answer_lost_meanwhile_is_settled(self):
        memory = MemoryStore()
        hanging = HangingStore(FaultyStore(memory, {"put": [Fault("before")]}), "before")
        await self.cancelled(hanging)
        assert (await get_bytes(memory, "k"), hanging.puts) == (b"ours", 2)

    async def test_a_loss_meanwhile_is_no_error_of_its_own(self):
        memory = MemoryStore()
        await memory.put("k", b"theirs")
        await self.cancelled(HangingStore(memory, "before"))
        assert await get_bytes(memory, "k") == b"theirs"

    async def test_not_for_longer_than_the_budget(self):
        hanging = HangingStore(MemoryStore(), "before")
        task = asyncio.create_task(
            RetryStore(hanging, policy(call_seconds=None, settle_seconds=1e-3)).put("k", b"", mode=CREATE)
        )
        await hanging.hanging.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def test_without_a_budget_it_ends_at_once(self):
        await self.cancelled(HangingStore(MemoryStore(), "before"), settle_seconds=0)

    async def test_an_overwrite_ends_at_once(self):
        memory = MemoryStore()
        hanging = HangingStore(memory, "before")
        task = asyncio.create_task(RetryStore(hanging).put("k", b"ours"))
        await hanging.hanging.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await list_all(memory) == []


class TestReadInto:
    async def test_it_starts_again_after_a_wrong_checksum(self):
        memory = MemoryStore()
        await memory.put("k", BODY)
        damaged = Fault("body", error=ChecksumMismatchError, after_bytes=2_000_000)
        store = RetryStore(FaultyStore(memory, {"get": [damaged, Fault("truncated", after_bytes=9)]}), policy())
        buffer = bytearray(len(BODY) + 1)
        assert await (await store.get("k")).readinto(memoryview(buffer)) == len(BODY)
        assert buffer == BODY + b"\0"

    async def test_the_rest_of_a_stream(self):
        memory = MemoryStore()
        await memory.put("k", BODY)
        store = RetryStore(FaultyStore(memory, {"get": [Fault("body", after_bytes=1_500_000)]}), policy())
        buffer = bytearray(len(BODY))
        result = await store.get("k")
        first = bytes(await anext(aiter(result)))
        size = await result.readinto(memoryview(buffer))
        assert first + buffer[:size] == BODY


class VersionedStore(MemoryStore):
    """Keeps three versions of three keys; its listings and calls break as told."""

    def __init__(self, breaks: list[int]) -> None:
        super().__init__()
        self.breaks = breaks
        self.versions: list[ObjectVersion] = []
        for key in "abc":
            for age in range(3):
                self.add(key, age)
        self.calls: list[str] = []

    def add(self, key: str, age: int, at: int | None = None) -> None:
        when = datetime(2024, 1, 9, tzinfo=UTC) - timedelta(days=age)
        version = ObjectVersion(ObjectMeta(key, 3_072_000, f"v{age}", when), f"{key}{age}", is_current=age == 0)
        self.versions.insert(len(self.versions) if at is None else at, version)

    async def list_versions(self, prefix=""):
        left = self.breaks.pop(0) if self.breaks else None
        for version in list(self.versions):
            if left == 0:
                raise UnavailableError("the page did not come")
            left = None if left is None else left - 1
            yield version

    async def get_version(self, key, version_id, *, range=None):
        self.calls.append(version_id)
        if len(self.calls) == 1:
            raise UnavailableError("503")
        if version_id == "gone":
            raise NotFoundError("no such version", key=key)
        start = range.start if range else 0
        broken = self.breaks.pop(0) if self.breaks else None

        async def chunks():
            yield BODY[start : start + 1_000_000]
            if broken is not None:
                raise UnavailableError("reset")
            yield BODY[start + 1_000_000 :]

        return GetResult(self.versions[0].meta, chunks(), range=(start, len(BODY)))

    async def restore_version(self, key, version_id):
        self.calls.append(version_id)
        if len(self.calls) < 3:
            raise UnavailableError("503", ambiguous=True)
        return self.versions[0].meta


class TestVersions:
    @pytest.mark.parametrize("breaks", [[], [0], [1, 2], [4, 0], [9, 5]])
    async def test_a_listing_goes_on_where_it_broke(self, breaks):
        inner = VersionedStore(list(breaks))
        found = [version.id async for version in RetryStore(inner, policy()).list_versions()]
        assert found == [version.id for version in inner.versions]

    async def test_a_version_made_meanwhile_is_not_out_of_order(self):
        inner = VersionedStore([4])
        listing = RetryStore(inner, policy()).list_versions()
        found = [(await anext(listing)).id for _ in range(4)]
        inner.add("b", -1, at=3)
        del inner.versions[4]  # the last one seen is gone
        found += [version.id async for version in listing]
        assert found == ["a0", "a1", "a2", "b0", "b1", "b2", "c0", "c1", "c2"]

    async def test_a_body_is_resumed_by_its_version(self):
        inner = VersionedStore([1])
        store = RetryStore(inner, policy(attempts=4))
        async with await store.get_version("a", "a1") as result:
            assert b"".join([bytes(chunk) async for chunk in result]) == BODY
        assert inner.calls == ["a1", "a1", "a1"]
        with pytest.raises(NotFoundError):
            await store.get_version("a", "gone")

    async def test_restoring_is_repeated(self):
        inner = VersionedStore([])
        assert (await RetryStore(inner, policy()).restore_version("a", "a1")).key == "a"
        assert inner.calls == ["a1"] * 3
