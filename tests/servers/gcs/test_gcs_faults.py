"""Whatever goes wrong on the way, the store with its retries gives the right answer, or the right error."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from buffetstore.errors import AlreadyExistsError, ChecksumMismatchError, NotFoundError, RateLimitedError
from buffetstore.objects.base import CREATE, Update
from buffetstore.objects.gcs import GCSStore
from buffetstore.objects.helpers import exists, get_bytes, list_all
from buffetstore.objects.wrappers.retry import RetryStore
from buffetstore.resilience.retry import RetryPolicy
from buffetstore.testing.gcs import Fault

CHUNK = 256 * 1024
BODY = os.urandom(3 * CHUNK + 1000)
FAULTS = {
    "503 before": Fault("status", when="before"),
    "503 after": Fault("status", when="after"),
    "429": Fault("status", status=429, retry_after=0.01),
    "reset before": Fault("reset", when="before"),
    "reset after": Fault("reset", when="after"),
    "truncated": Fault("truncate", when="after"),
    "stall before": Fault("stall", when="before"),
    "stall after": Fault("stall", when="after"),
}
faulty = pytest.mark.parametrize("name", FAULTS)


@pytest.fixture
async def bare(server, bucket):
    async with GCSStore(bucket, api_root=server.url, timeout_seconds=0.5, chunk_bytes=CHUNK, page_size=10) as store:
        yield store


@pytest.fixture
def store(bare):
    return RetryStore(bare, RetryPolicy(attempts=5, base_seconds=0.001))


@pytest.fixture
def strike(server):
    def add(name: str, operation: str, *, skip: int = 0) -> None:
        server.faults.add(replace(FAULTS[name], operation=operation, skip=skip))

    yield add
    assert server.faults.describe() == []  # every fault has struck


@faulty
async def test_create(store, strike, name):
    strike(name, "objects.insert")
    meta = await store.put("k", b"mine", mode=CREATE)
    assert await get_bytes(store, "k", if_match=meta.version) == b"mine"
    with pytest.raises(AlreadyExistsError):
        await store.put("k", b"other", mode=CREATE)


@faulty
async def test_a_lost_create(store, strike, name):
    await store.put("k", b"theirs")
    strike(name, "objects.insert")
    with pytest.raises(AlreadyExistsError):
        await store.put("k", b"mine", mode=CREATE)
    assert await get_bytes(store, "k") == b"theirs"


@faulty
async def test_update(store, strike, name):
    first = await store.put("k", b"one")
    strike(name, "objects.insert")
    meta = await store.put("k", b"two", mode=Update(first.version))
    assert await get_bytes(store, "k", if_match=meta.version) == b"two"


@faulty
async def test_overwrite(store, strike, name):
    strike(name, "objects.insert")
    await store.put("k", BODY)
    assert await get_bytes(store, "k") == BODY


@faulty
@pytest.mark.parametrize("place", ["start", "first", "middle", "last"])
async def test_resumable(store, server, strike, name, place):
    operation = "uploads.start" if place == "start" else "uploads.chunk"
    strike(name, operation, skip={"middle": 1, "last": 3}.get(place, 0))
    async with await store.start_upload("k", mode=CREATE) as upload:
        for at in range(0, len(BODY), 100_000):
            await upload.write(BODY[at : at + 100_000])
        meta = await upload.complete()
    assert meta.size == len(BODY)
    assert await get_bytes(store, "k", if_match=meta.version) == BODY
    if name in {"503 after", "truncated"}:  # a chunk that arrived although its answer was lost is not sent again
        assert sum(each.bytes_in for each in server.log.requests if each.operation == "uploads.chunk") == len(BODY)


@faulty
@pytest.mark.parametrize("body", [b"small", BODY], ids=["small", "large"])
async def test_get(store, strike, name, body):
    await store.put("k", body)
    strike(name, "xml.get")
    assert await get_bytes(store, "k") == body


@faulty
async def test_get_ranges(store, strike, name):
    await store.put("k", BODY)
    strike(name, "xml.get", skip=1)
    assert await store.get_ranges("k", [(0, 10), (500_000, 500_010)]) == [BODY[:10], BODY[500_000:500_010]]


@faulty
async def test_list(store, strike, name):
    keys = [f"k{number:02d}" for number in range(25)]
    for key in keys:
        await store.put(key, b"")
    strike(name, "objects.list", skip=1)
    assert [meta.key for meta in await list_all(store)] == keys


@faulty
async def test_delete(store, strike, name):
    await store.put("a", b"")
    await store.put("b", b"")
    strike(name, "objects.delete")
    await store.delete(["a", "b"])
    assert await list_all(store) == []


@faulty
async def test_head(store, strike, name):
    await store.put("k", b"")
    strike(name, "objects.get")
    assert await exists(store, "k")


async def test_a_bit_flipped_on_the_way_in(store, server):
    server.faults.add(Fault("flip", operation="objects.insert"))
    await store.put("k", BODY, mode=CREATE)
    assert await get_bytes(store, "k") == BODY


async def test_a_bit_flipped_in_a_chunk(store, server):
    server.faults.add(Fault("flip", operation="uploads.chunk", skip=1))
    async with await store.start_upload("k") as upload:
        await upload.write(BODY)
        with pytest.raises(ChecksumMismatchError):
            await upload.complete()
    assert not await exists(store, "k")


@pytest.mark.parametrize("body", [b"small", BODY], ids=["small", "large"])
async def test_a_bit_flipped_on_the_way_out(store, bare, server, body):
    await store.put("k", body)
    flip = Fault("flip", operation="xml.get", when="after")
    server.faults.add(flip)
    with pytest.raises(ChecksumMismatchError):
        await get_bytes(bare, "k")
    server.faults.add(replace(flip, times=1))
    assert await get_bytes(store, "k") == body


async def test_a_lying_checksum_takes_the_object_back(bare, server, monkeypatch):
    """The service's answer tells another checksum than that of the bytes sent: the new object must not stay."""
    monkeypatch.setattr("buffetstore.testing.gcs.uploads.Checksums.verify", lambda *_: None)
    server.faults.add(Fault("flip", operation="uploads.chunk"))
    async with await bare.start_upload("k") as upload:
        await upload.write(BODY)
        with pytest.raises(ChecksumMismatchError):
            await upload.complete()
    assert not await exists(bare, "k")


async def test_it_gives_up_in_the_end(store, server):
    server.faults.add(Fault("status", status=429, retry_after=0.001, times=None))
    with pytest.raises(RateLimitedError, match="after 5 attempts") as failure:
        await store.put("k", b"")
    assert failure.value.retry_after == 0.001


async def test_a_failed_upload_takes_no_more(bare, server):
    upload = await bare.start_upload("k")
    server.state.delete_bucket(bare.url.removeprefix("gs://"))
    with pytest.raises(NotFoundError):
        await upload.write(BODY)
    with pytest.raises(NotFoundError):
        await upload.write(b"more")
    await upload.abort()
