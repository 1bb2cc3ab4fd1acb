"""What encryption and the cache cost, each beside the least that it could cost, in one process.

usage: crypto_cache.py MEBIBYTES CALLS  ->  one line of JSON
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from buffetstore.objects import LocalStore, MemoryStore, get_bytes
from buffetstore.objects.wrappers.cache import CacheStore
from buffetstore.objects.wrappers.cached import CacheOptions
from buffetstore.objects.wrappers.encryption import EncryptionStore
from buffetstore.security import HEADER_BYTES, ObjectCipher, StaticKeys

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ROUNDS = 5
SMALL = bytes(4096)


def best(work: Callable[[], Any]) -> float:
    """Seconds of the fastest of a few rounds."""
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def ciphers(mebibytes: int) -> dict[str, float]:
    """GB/s of chunks, beside one call for all the bytes."""
    data = os.urandom(mebibytes * 1024 * 1024)
    keys = StaticKeys({"k": bytes(32)})
    chunked = asyncio.run(ObjectCipher.new(keys, "name", len(data)))
    sealed = chunked.seal(data, final=True)
    one = AESGCM(bytes(32))
    joined = one.encrypt(bytes(12), data, None)
    gigabytes = len(data) / 1e9
    return {
        "seal": gigabytes / best(lambda: chunked.seal(data, final=True)),
        "open": gigabytes / best(lambda: chunked.open(sealed, final=True)),
        "AESGCM.encrypt": gigabytes / best(lambda: one.encrypt(bytes(12), data, None)),
        "AESGCM.decrypt": gigabytes / best(lambda: one.decrypt(bytes(12), joined, None)),
    }


async def per_call(calls: int, call: Callable[[], Awaitable[bytes]], expected: bytes) -> float:
    """Microseconds of one call, the fastest of a few rounds."""
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(calls):
            answer = await call()
        seconds.append((time.perf_counter() - started) / calls)
        assert answer == expected
    return min(seconds) * 1e6


async def small_reads(calls: int) -> dict[str, float]:
    """Microseconds of a read of 4 KiB from memory, from the cache over it, from disk, and opened."""
    memory = MemoryStore()
    with tempfile.TemporaryDirectory() as folder:
        meta = await memory.put("k", SMALL)
        cached = CacheStore(memory)
        local = LocalStore(f"{folder}/store", create=True)
        await local.put("k", SMALL)
        on_disk = CacheStore(local, CacheOptions(memory_bytes=0, folder=f"{folder}/cache", immutable=("*",)))
        sealed = EncryptionStore(MemoryStore(), StaticKeys({"k": bytes(32)}))
        await sealed.put("k", SMALL)
        await get_bytes(cached, "k")
        reads: dict[str, Callable[[], Awaitable[bytes]]] = {
            "memory store": lambda: get_bytes(memory, "k"),
            "cache, memory tier": lambda: get_bytes(cached, "k", if_match=meta.version),
            "local store": lambda: get_bytes(local, "k"),
            "cache, disk tier": lambda: get_bytes(on_disk, "k"),
            "sealed in memory": lambda: get_bytes(sealed, "k"),
        }
        return {name: await per_call(calls, read, SMALL) for name, read in reads.items()}


async def large_reads(mebibytes: int) -> dict[str, float]:
    """GB/s of a whole object through the wrapper, and the loop's longest stall meanwhile."""
    data = os.urandom(mebibytes * 1024 * 1024)
    store = EncryptionStore(MemoryStore(), StaticKeys({"k": bytes(32)}))
    worst = 0.0

    async def watch() -> None:
        nonlocal worst
        while True:
            started = time.perf_counter()
            await asyncio.sleep(0.001)
            worst = max(worst, time.perf_counter() - started - 0.001)

    figures = {}
    watcher = asyncio.create_task(watch())
    started = time.perf_counter()
    async with await store.start_upload("k") as upload:
        for at in range(0, len(data), 8 * 1024 * 1024):
            await upload.write(memoryview(data)[at : at + 8 * 1024 * 1024])
        figures["stream up"] = len(data) / 1e9 / (time.perf_counter() - started)
        watcher.cancel()
        await upload.complete()  # memory's own copy of it all is not what is measured
    watcher = asyncio.create_task(watch())
    started, size = time.perf_counter(), 0
    async with await store.get("k") as result:
        async for chunk in result:
            size += len(chunk)
    figures["stream down"] = size / 1e9 / (time.perf_counter() - started)
    watcher.cancel()
    assert size == len(data)
    return {**figures, "stall_ms": worst * 1e3}


def main() -> None:
    mebibytes, calls = int(sys.argv[1]), int(sys.argv[2])
    figures = {
        "ciphers": ciphers(mebibytes),
        "small": asyncio.run(small_reads(calls)),
        "large": asyncio.run(large_reads(mebibytes)),
        "header_bytes": HEADER_BYTES,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
