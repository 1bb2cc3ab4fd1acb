"""Bytes that pass through every layer: whole, in part, into a buffer, and without leaving garbage."""

from __future__ import annotations

import gc

import pytest

from buffetstore.errors import InvalidInputError
from buffetstore.objects import MemoryStore, MetricsStore, PrefixStore, RetryStore
from buffetstore.objects.wrappers import CircuitStore, HedgeStore, LimitStore, RateStore
from buffetstore.resilience import RateLimit

BODY = bytes(range(256)) * 12_000  # three chunks


@pytest.fixture
def told():
    return []


@pytest.fixture
async def store(told):
    limit = LimitStore(PrefixStore(MemoryStore(), "p"))
    store = MetricsStore(HedgeStore(RetryStore(CircuitStore(RateStore(limit, RateLimit())))), told.append)
    await store.put("k", BODY)
    told.clear()
    yield store
    assert limit.permits.in_use == 0


async def test_some_of_it_streamed_and_the_rest_read(store, told):
    async with await store.get("k") as result:
        assert result.meta.key == "k"
        first = bytes(await anext(aiter(result)))
        assert first + await result.read() == BODY
    assert [dict(operation.counts) for operation in told] == [{"bytes_in": len(BODY)}]


async def test_some_of_it_streamed_and_the_rest_read_into_a_buffer(store, told):
    buffer = bytearray(len(BODY))
    async with await store.get("k") as result:
        first = bytes(await anext(aiter(result)))
        size = await result.readinto(memoryview(buffer))
    assert first + buffer[:size] == BODY
    assert [dict(operation.counts) for operation in told] == [{"bytes_in": len(BODY)}]


async def test_a_buffer_that_is_too_small(store, told):
    with pytest.raises(InvalidInputError, match="cannot take 3072000") as failure:
        await (await store.get("k")).readinto(memoryview(bytearray(10)))
    assert failure.value.key == "k"
    assert [operation.error for operation in told] == ["invalid_input"]


async def test_the_same_stream_is_gone_on_with(store):
    async with await store.get("k") as result:
        assert aiter(result) is aiter(result)
        chunks = [bytes(await anext(aiter(result)))]
        chunks += [bytes(chunk) async for chunk in result]
    assert b"".join(chunks) == BODY


async def test_closing_twice_tells_once(store, told):
    result = await store.get("k")
    await result.aclose()
    await result.aclose()
    assert [(operation.error, dict(operation.counts)) for operation in told] == [(None, {"bytes_in": 0})]


async def test_a_small_read_leaves_nothing_to_the_garbage_collector(store):
    await store.put("small", b"body")
    await (await store.get("small")).read()
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            await (await store.get("small")).read()
        assert gc.collect() < 20  # a reference to itself anywhere would be at least one for each read
    finally:
        gc.enable()
