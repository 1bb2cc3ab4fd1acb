from __future__ import annotations

import asyncio
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffetstore.errors import StorageError
from buffetstore.objects import MemoryStore, get_bytes, list_all
from buffetstore.objects.wrappers.limit import LimitStore
from buffetstore.resilience.permits import ConcurrencyLimit, Permits
from buffetstore.testing import FaultyStore, random_faults

BODY = bytes(2_500_000)


def idle(store: LimitStore) -> bool:
    return (store.permits.in_use, store.permits.waiting, store.permits.bytes_in_flight) == (0, 0, 0)


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
async def store():
    inner = MemoryStore()
    await inner.put("k", BODY)
    return LimitStore(inner, ConcurrencyLimit(calls=1))


@pytest.mark.parametrize("head", [False, True])
async def test_a_body_holds_its_permit_until_it_is_closed(store, head):
    result = await store.get("k", head=head)
    other = asyncio.create_task(store.put("l", b""))
    await turns()
    assert (store.permits.in_use, store.permits.waiting, other.done()) == (1, 1, False)
    await result.aclose()
    await other
    await result.aclose()
    assert idle(store)


async def test_a_body_that_is_consumed_holds_none(store):
    result = await store.get("k")
    async for _chunk in result:
        assert store.permits.in_use == 1
    assert idle(store)
    await (await store.get("k")).read()
    assert idle(store)
    await (await store.get("k")).readinto(memoryview(bytearray(BODY)))
    assert idle(store)


async def test_an_upload_leaves_room_between_its_parts(store):
    async with await store.start_upload("u") as upload:
        await upload.write(b"half")
        assert await get_bytes(store, "k") == BODY
        async with await store.start_upload("v") as other:
            await other.write(b"whole")
            await other.complete()
        await upload.complete()
    assert idle(store)


async def test_an_upload_can_be_aborted_while_all_permits_are_held(store):
    upload = await store.start_upload("u")
    async with await store.get("k"):
        await upload.abort()
    assert idle(store)


async def test_a_listing_leaves_room_between_its_steps(store):
    await store.put("l", b"")
    async for meta in store.list_objects():
        await get_bytes(store, meta.key)
    listing = store.list_objects()
    await anext(listing)
    assert idle(store)
    await listing.aclose()


async def test_bytes_of_writes_are_bounded():
    largest = 0

    class Slow(MemoryStore):
        async def put(self, key, data, **options):
            nonlocal largest
            largest = max(largest, store.permits.bytes_in_flight)
            await turns()
            return await super().put(key, data, **options)

    store = LimitStore(Slow(), ConcurrencyLimit(calls=100, bytes_in_flight=1000))
    await asyncio.gather(
        *(store.put(f"k{number}", bytes(300)) for number in range(50)), store.put("large", bytes(5000))
    )
    assert largest == 5000
    assert len(await list_all(store)) == 51
    assert idle(store)


async def test_stores_may_share_their_permits():
    permits = Permits(ConcurrencyLimit(calls=1))
    inner = MemoryStore()
    await inner.put("k", b"body")
    one, other = LimitStore(inner, permits=permits), LimitStore(inner, permits=permits)
    async with await one.get("k"):
        waiting = asyncio.create_task(get_bytes(other, "k"))
        await turns()
        assert not waiting.done()
    assert await waiting == b"body"


async def test_waits_are_told(store):
    told = []
    store._hook = told.append
    async with await store.get("k"):
        waiting = asyncio.create_task(get_bytes(store, "k"))
        await turns()
    await waiting
    assert [(operation.name, operation.subject) for operation in told] == [("objects.limit_wait", "k")]


actions = st.lists(
    st.tuples(
        st.sampled_from(["read", "readinto", "stream", "break", "put", "upload", "list", "ranges", "copy", "delete"]),
        st.none() | st.integers(0, 12),
    ),
    min_size=1,
    max_size=12,
)


@given(actions, st.integers(0, 2**32))
def test_no_permit_is_lost_on_any_path(actions, seed):
    """Calls of every kind run together over a store that fails at random, and are cancelled at any moment."""

    async def act(store: LimitStore, action: str) -> None:
        if action in {"read", "readinto", "stream", "break"}:
            async with await store.get("k") as result:
                if action == "read":
                    await result.read()
                elif action == "readinto":
                    await result.readinto(memoryview(bytearray(BODY)))
                else:
                    async for _chunk in result:
                        await asyncio.sleep(0)
                        if action == "break":
                            break
        elif action == "upload":
            async with await store.start_upload("u") as upload:
                await upload.write(bytes(10))
                await upload.complete()
        elif action == "list":
            await list_all(store)
        else:
            await {
                "put": lambda: store.put("p", bytes(20)),
                "ranges": lambda: store.get_ranges("k", [(0, 10)]),
                "copy": lambda: store.copy("k", "c"),
                "delete": lambda: store.delete(["p"]),
            }[action]()

    async def history() -> None:
        memory = MemoryStore()
        await memory.put("k", BODY)
        faulty = FaultyStore(memory, source=random_faults(Random(seed), rate=0.3), latency_seconds=1e-9)
        store = LimitStore(faulty, ConcurrencyLimit(calls=2, bytes_in_flight=25))
        tasks = [(asyncio.ensure_future(act(store, action)), cut) for action, cut in actions]
        for turn in range(13):
            for task, cut in tasks:
                if cut == turn:
                    task.cancel()
            assert store.permits.in_use <= 2
            await asyncio.sleep(0)
        outcomes = await asyncio.wait_for(asyncio.gather(*(task for task, _ in tasks), return_exceptions=True), 30)
        assert all(isinstance(outcome, StorageError | asyncio.CancelledError | None) for outcome in outcomes)
        assert idle(store)

    asyncio.run(history())
