"""Random writes through a store with replicas, both sides failing at random: after a repair the replicas are level."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from buffetstore.errors import StorageError
from buffetstore.objects import CREATE, OVERWRITE, MemoryStore, Update, get_bytes, head, list_all
from buffetstore.objects.copy_store import copy_store
from buffetstore.objects.wrappers.replicate import ReplicateStore
from buffetstore.testing import FaultyStore, random_faults

KEYS = ["a", "b/c", "é", "t/part-0", "t/_delta_log/00000000000000000000.json", "t/_delta_log/_last_checkpoint"]
writes = st.tuples(
    st.sampled_from(["put", "create", "update", "upload", "copy", "delete", "pause"]),
    st.sampled_from(KEYS),
    st.sampled_from(KEYS),
    st.binary(max_size=5),
)


async def contents(store):
    return {meta.key: await get_bytes(store, meta.key) for meta in await list_all(store)}


async def write(store, kind, key, other, body):
    if kind == "pause":
        await asyncio.sleep(0)
    elif kind == "delete":
        await store.delete([key, other])
    elif kind == "copy":
        await store.copy(other, key)
    elif kind == "upload":
        async with await store.start_upload(key) as upload:
            await upload.write(body)
            await upload.complete()
    else:
        version = (await head(store, key)).version if kind == "update" else ""
        mode = {"put": OVERWRITE, "create": CREATE, "update": Update(version)}[kind]
        await store.put(key, body, mode=mode)


@given(
    history=st.lists(writes, max_size=30),
    seed=st.integers(0, 2**32),
    rates=st.tuples(*[st.sampled_from([0, 0.2, 0.9])] * 3),
    wait=st.booleans(),
    queued=st.sampled_from([2, 1000]),
)
def test_after_a_repair_the_replicas_are_level(history, seed, rates, wait, queued):
    random = Random(seed)
    stores = [MemoryStore() for _ in rates]
    faulty = [FaultyStore(store, source=random_faults(random, rate)) for store, rate in zip(stores, rates, strict=True)]

    async def run():
        async with ReplicateStore(faulty[0], faulty[1:], wait=wait, queued_keys=queued, concurrency=3) as store:
            for step in history:
                with suppress(StorageError):
                    await write(store, *step)
            await store.drain()
            primary = await contents(stores[0])
            for number in (1, 2):
                if store.lag[number - 1] == 0:
                    assert await contents(stores[number]) == primary, "no lag means level"
            for each in faulty:
                each._source = lambda _verb: None
            for report in await store.repair():
                report.raise_for_failures()
            assert store.lag == [0, 0]
            assert [await contents(each) for each in stores] == [primary] * 3

    asyncio.run(run())


@given(
    ours=st.dictionaries(st.sampled_from(KEYS), st.binary(max_size=3)),
    theirs=st.dictionaries(st.sampled_from(KEYS[:4]), st.binary(max_size=3)),
    seed=st.integers(0, 2**32),
)
def test_a_copy_that_is_run_again_until_it_is_done_is_whole(ours, theirs, seed):
    async def run():
        random = Random(seed)
        source, target = MemoryStore(), MemoryStore()
        for store, objects in ((source, ours), (target, theirs)):
            for key, body in objects.items():
                await store.put(key, body)
        sides = [FaultyStore(store, source=random_faults(random, 0.3)) for store in (source, target)]
        for _ in range(10):
            with suppress(StorageError):
                await copy_store(*sides)
        (await copy_store(source, target, delete_extra=True)).raise_for_failures()
        assert await contents(target) == ours

    asyncio.run(run())
