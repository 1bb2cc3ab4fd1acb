"""Large objects by ranges side by side: what comes is one version, verified, in bounded memory, whatever fails."""

from __future__ import annotations

import asyncio
import errno
import os
from dataclasses import replace
from random import Random

import pytest

from buffetstore.errors import (
    AlreadyExistsError,
    ChecksumMismatchError,
    ConflictError,
    DeadlineExceededError,
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionFailedError,
    StorageError,
    StorageFullError,
    UnavailableError,
)
from buffetstore.objects import CREATE, MemoryStore, RetryStore, StoreWrapper, get_bytes, list_all
from buffetstore.objects.checksums import checksum
from buffetstore.objects.disk import mapped
from buffetstore.objects.transfers import download_file, get_buffer, put_stream, upload_file
from buffetstore.objects.wrappers.base import WrappedResult
from buffetstore.resilience.retry import RetryPolicy
from buffetstore.testing import CountingStore, Fault, FaultyStore

PART = 10_000
BODY = Random(1).randbytes(95_001)
SIZES = [0, 1, PART - 1, PART, PART + 1, len(BODY)]


async def no_sleep(_seconds: float) -> None:
    """Wait not at all."""


class Checksummed(StoreWrapper):
    """Gives the CRC32C of all the bytes, with every answer or with those to requests without a range alone."""

    def __init__(self, inner, *, with_ranges=True, flipped=()):
        super().__init__(inner)
        self.with_ranges = with_ranges
        self.flipped = list(flipped)  # whether the n-th range arrives with a wrong bit

    async def get(self, key, *, range=None, if_match=None, head=False):  # noqa: A002 - the contract's own
        result = await super().get(key, range=range, if_match=if_match, head=head)
        meta = result.meta
        if self.with_ranges or range is None:
            meta = replace(meta, checksum=checksum("crc32c", await get_bytes(self.inner, key)))
        flip = not head and self.flipped.pop(0) if self.flipped else False
        return WrappedResult(result, meta, self._body(result, flip=flip))

    @staticmethod
    async def _body(result, *, flip):
        async for chunk in result:
            yield bytes([chunk[0] ^ 1]) + bytes(chunk[1:]) if flip else chunk
            flip = False


@pytest.fixture
async def store():
    memory = MemoryStore()
    await memory.put("k", BODY)
    return memory


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("hint", [None, "right", 0, PART * 3, 10**6])
async def test_a_buffer_whatever_its_size_was_thought_to_be(store, size, hint):
    await store.put("k", BODY[:size])
    hint = size if hint == "right" else hint
    buffer = await get_buffer(store, "k", size=hint, part_bytes=PART, concurrency=3)
    assert isinstance(buffer, bytearray)
    assert buffer == BODY[:size]


async def test_its_requests(store):
    counting = CountingStore(store, latency_seconds=0.001)
    checksummed = Checksummed(counting)
    await get_buffer(checksummed, "k", part_bytes=PART, concurrency=20)
    ranges = [count for verb, count in counting.requests.items() if verb == "get"]
    assert ranges == [20], "ten ranges, and the ten reads of the double that gives the checksum"
    counting.reset()
    assert await get_buffer(counting, "k", part_bytes=PART, size=len(BODY), concurrency=20) == BODY
    assert (counting.requests["get"], counting.requests["head"], counting.round_trips) == (10, 1, 1)
    counting.reset()
    await get_buffer(counting, "k", size=len(BODY))
    assert (counting.total, counting.requests["get"]) == (1, 1), "an object of one part takes one request"


async def test_no_more_ranges_than_asked_are_in_flight(store):
    class Watching(StoreWrapper):
        now = most = 0

        async def get(self, key, **options):
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0)
            try:
                return await super().get(key, **options)
            finally:
                self.now -= 1

    watching = Watching(store)
    await get_buffer(watching, "k", part_bytes=PART, concurrency=3)
    assert watching.most == 3


async def test_a_version_is_kept_to(store):
    old = (await store.put("k", b"old")).version
    assert await get_buffer(store, "k", if_match=old) == b"old"
    await store.put("k", BODY)
    with pytest.raises(PreconditionFailedError):
        await get_buffer(store, "k", if_match=old, part_bytes=PART)
    with pytest.raises(NotFoundError):
        await get_buffer(store, "gone")


@pytest.mark.parametrize("hint", [None, len(BODY)])
async def test_an_object_replaced_meanwhile_is_read_anew(store, hint, tmp_path):
    new = Random(2).randbytes(70_000)

    class Replaced(StoreWrapper):
        calls, at = 0, 4

        async def get(self, key, **options):
            self.calls += 1
            if self.calls == self.at:
                await self.inner.put("k", new)
            return await super().get(key, **options)

    assert await get_buffer(Replaced(store), "k", size=hint, part_bytes=PART, concurrency=2) == new
    await store.put("k", BODY)
    late = Replaced(store)
    late.at = 10
    await download_file(late, "k", tmp_path / "f", part_bytes=PART, concurrency=2)
    assert (tmp_path / "f").read_bytes() == new, "nothing of the longer one is left in the file"


async def test_an_object_that_is_never_at_rest(store):
    class Restless(StoreWrapper):
        async def get(self, key, **options):
            await self.inner.put("k", BODY)
            return await super().get(key, **options)

    with pytest.raises(StorageError) as failure:
        await get_buffer(Restless(store), "k", part_bytes=PART)
    assert failure.value.key == "k"


@pytest.mark.parametrize("with_ranges", [True, False])
async def test_a_flipped_bit_is_found_and_the_object_read_again(store, with_ranges, tmp_path):
    flipped = Checksummed(store, with_ranges=with_ranges, flipped=[False] * 5 + [True])
    assert await get_buffer(flipped, "k", part_bytes=PART) == BODY
    flipped = Checksummed(store, with_ranges=with_ranges, flipped=[True])
    await download_file(flipped, "k", tmp_path / "f", part_bytes=PART)
    assert (tmp_path / "f").read_bytes() == BODY
    flipped = Checksummed(store, with_ranges=with_ranges, flipped=[True] * 100)
    with pytest.raises(ChecksumMismatchError, match="crc32c"):
        await get_buffer(flipped, "k", part_bytes=PART)
    with pytest.raises(ChecksumMismatchError):
        await download_file(flipped, "k", tmp_path / "g", part_bytes=PART)
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


async def test_a_fault_costs_its_own_range_alone(store, tmp_path):
    counting = CountingStore(store)
    breaks = [Fault("body", after_bytes=4_000), None, Fault("body", after_bytes=9_000), Fault("truncated")]
    faulty = FaultyStore(counting, {"get": breaks})
    await download_file(
        RetryStore(faulty, RetryPolicy(sleep=no_sleep)), "k", tmp_path / "f", part_bytes=PART, concurrency=1
    )
    assert (tmp_path / "f").read_bytes() == BODY
    assert counting.bytes_in <= len(BODY) + 3 * PART
    with pytest.raises(UnavailableError, match=r"ended after 0 of 10000"):
        await get_buffer(FaultyStore(store, {"get": [None, Fault("truncated")]}), "k", part_bytes=PART)


async def test_bad_arguments(store, tmp_path):
    for options in ({"part_bytes": 0}, {"concurrency": 0}):
        with pytest.raises(InvalidInputError, match="at least 1"):
            await get_buffer(store, "k", **options)
    with pytest.raises(NotFoundError, match="nowhere"):
        await download_file(store, "k", tmp_path / "nowhere" / "f")
    with pytest.raises(StorageError):
        await download_file(store, "k", tmp_path)
    with pytest.raises(InvalidInputError, match="cannot read"):
        await upload_file(store, tmp_path, "folder")
    assert list(tmp_path.iterdir()) == []


async def test_a_cancelled_download_leaves_no_file_and_no_task(store, tmp_path):
    (tmp_path / "f").write_bytes(b"old")
    slow = FaultyStore(store, latency_seconds=0.01)
    task = asyncio.create_task(download_file(slow, "k", tmp_path / "f", part_bytes=PART, concurrency=2))
    await asyncio.sleep(0.025)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("f", b"old")]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_deadlines(store, tmp_path):
    stuck = FaultyStore(store, latency_seconds=60)
    with pytest.raises(DeadlineExceededError, match="'k' took longer than"):
        await download_file(stuck, "k", tmp_path / "f", deadline_seconds=0.01)
    (tmp_path / "source").write_bytes(b"x")
    with pytest.raises(DeadlineExceededError):
        await upload_file(stuck, tmp_path / "source", "k", deadline_seconds=0.01)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("size", [1_000, 9_000_000])
@pytest.mark.parametrize("change", ["grows", "shrinks", "rewritten"])
async def test_a_file_that_changes_while_it_is_uploaded_is_not_stored(store, tmp_path, monkeypatch, size, change):
    path = tmp_path / "f"
    path.write_bytes(bytes(size))
    read = os.pread

    def meddling(file, count, offset):
        data = read(file, count, offset)
        if change == "grows":
            with path.open("ab") as other:
                other.write(bytes(5_000_000))
        elif change == "shrinks":
            os.truncate(path, 10)
        else:
            path.write_bytes(b"1" * size)
            os.utime(path, ns=(1, 1))
        return data

    monkeypatch.setattr("buffetstore.objects.disk.os.pread", meddling)
    with pytest.raises(ConflictError, match="changed while it was being uploaded"):
        await upload_file(store, path, "new")
    assert [meta.key for meta in await list_all(store)] == ["k"]


async def test_a_stream_is_stored_whole_or_not_at_all(store):
    async def chunks(fail):
        for number in range(5):
            yield bytes([number]) * 1_000
        if fail:
            raise RuntimeError("the source ended")

    meta = await put_stream(store, "s", chunks(fail=False), mode=CREATE)
    assert meta.size == 5_000
    with pytest.raises(AlreadyExistsError):
        await put_stream(store, "s", chunks(fail=False), mode=CREATE)
    with pytest.raises(RuntimeError):
        await put_stream(store, "t", chunks(fail=True))
    assert [meta.key for meta in await list_all(store)] == ["k", "s"]


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StorageFullError),
        (errno.EDQUOT, StorageFullError),
        (errno.ENOENT, NotFoundError),
        (errno.EACCES, PermissionDeniedError),
        (errno.EROFS, PermissionDeniedError),
        (errno.EIO, StorageError),
    ],
)
def test_what_the_system_says_of_a_file(number, kind):
    with pytest.raises(kind, match="cannot write 'f'") as failure, mapped("f", "write"):
        raise OSError(number, os.strerror(number))
    assert failure.value.key == "f"
