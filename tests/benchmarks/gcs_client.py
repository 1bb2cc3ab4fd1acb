"""One side of the GCS client benchmark: a stub server in a process of its own, or one client against it.

usage: gcs_client.py serve  ->  its URL on stdout, until stdin closes
       gcs_client.py run CLIENT URL SECONDS  ->  one line of JSON

The stub answers any GET at once, with the headers that Google sends and as many bytes as the object's name says
(`1024` or `67108864`), so that what is measured is the client.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import os
import re
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import google_crc32c

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SMALL, LARGE, STREAMED = 1024, 64 * 1024 * 1024, 4 * 1024 * 1024
CONCURRENCY = (1, 64, 256)
LARGE_AT_ONCE, DOWNLOADS = 4, 200
CONNECTIONS = 50  # of each client that pools them itself: the default of ours


class Stub(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, for GETs without a body."""

    def __init__(self) -> None:
        self._seen = b""
        self._writable = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._seen += data
        while b"\r\n\r\n" in self._seen:
            head, _, self._seen = self._seen.partition(b"\r\n\r\n")
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        size = int(re.match(rb"GET \S*?(\d+)(?:\?\S*)? ", head)[1])  # type: ignore[index]
        asked = re.search(rb"(?i)\r\nrange: bytes=(\d+)-(\d+)", head)
        first, end = (int(asked[1]), int(asked[2]) + 1) if asked else (0, size)
        self._transport.write(described(size, first, end))
        if end - first <= 65536:
            self._transport.write(bytes(end - first))
            return
        task = asyncio.get_running_loop().create_task(self._stream(end - first))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _stream(self, size: int) -> None:
        block = memoryview(bytes(256 * 1024))
        while size > 0 and not self._transport.is_closing():
            await self._writable.wait()
            self._transport.write(block[:size])
            size -= len(block)


@functools.cache
def described(size: int, first: int, end: int) -> bytes:
    checksum = base64.b64encode(google_crc32c.value(bytes(size)).to_bytes(4, "big")).decode()
    part = f"Content-Range: bytes {first}-{end - 1}/{size}\r\n" if (first, end) != (0, size) else ""
    return (
        f"HTTP/1.1 {206 if part else 200} OK\r\nContent-Type: application/octet-stream\r\n"
        f'Content-Length: {end - first}\r\n{part}ETag: "5d41402abc4b2a76b9719d911017c592"\r\n'
        "x-goog-generation: 1732118400000001\r\nx-goog-metageneration: 1\r\n"
        f"x-goog-stored-content-encoding: identity\r\nx-goog-stored-content-length: {size}\r\n"
        f"x-goog-hash: crc32c={checksum}\r\nx-goog-hash: md5=XUFAKrxLKna5cZ2REBfFkg==\r\n"
        "x-goog-storage-class: STANDARD\r\nLast-Modified: Wed, 20 Nov 2024 16:00:00 GMT\r\nAccept-Ranges: bytes\r\n"
        "x-goog-meta-buffetstore-token: 0123456789abcdef0123456789abcdef\r\n"
        "Server: UploadServer\r\nDate: Wed, 20 Nov 2024 16:00:00 GMT\r\nCache-Control: private\r\n\r\n"
    ).encode()


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Stub, "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


class Side:
    """What a client can do: read a small object whole, a large one whole, and stream one to its end."""

    def __init__(self, small: Callable[[], Awaitable[int]], large: Callable[[], Awaitable[int]],
                 stream: Callable[[], Awaitable[int]], close: Callable[[], Awaitable[None]]) -> None:  # fmt: skip
        self.small, self.large, self.stream, self.close = small, large, stream, close


def buffetstore_side(url: str, bucket: str) -> Side:
    from buffetstore.objects.open import open_store

    store = open_store(f"gs://{bucket}", api_root=url, token="secret", max_connections=CONNECTIONS)

    async def small() -> int:
        return len(await (await store.get(str(SMALL))).read())

    buffers = [memoryview(bytearray(LARGE)) for _ in range(LARGE_AT_ONCE)]

    async def large() -> int:
        buffer = buffers.pop()
        try:
            return await (await store.get(str(LARGE))).readinto(buffer)
        finally:
            buffers.append(buffer)

    async def stream() -> int:
        async with await store.get(str(STREAMED)) as result:
            return sum([len(chunk) async for chunk in result])

    return Side(small, large, stream, store.aclose)


def aiohttp_side(url: str) -> Side:
    import aiohttp

    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=CONNECTIONS), headers={"Authorization": "Bearer secret"}
    )

    async def small() -> int:
        async with session.get(f"{url}/lake/{SMALL}") as answer:
            return len(await answer.read())

    async def large() -> int:
        async with session.get(f"{url}/lake/{LARGE}") as answer:
            return len(await answer.read())

    async def stream() -> int:
        async with session.get(f"{url}/lake/{STREAMED}") as answer:
            return sum([len(chunk) async for chunk in answer.content.iter_any()])

    return Side(small, large, stream, session.close)


def gcloud_side(url: str) -> Side:
    import aiohttp
    from gcloud.aio.storage import Storage

    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS))
    storage = Storage(session=session, api_root=url)  # type: ignore[arg-type]

    async def read(size: int) -> int:
        return len(await storage.download("lake", str(size), timeout=None))  # type: ignore[arg-type]

    return Side(lambda: read(SMALL), lambda: read(LARGE), lambda: read(STREAMED), session.close)


def obstore_side(url: str) -> Side:
    import obstore
    from obstore.store import GCSStore

    account = {
        "gcs_base_url": url, "disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""
    }  # fmt: skip
    store = GCSStore("lake", config={"service_account_key": json.dumps(account)}, client_options={"allow_http": True})

    async def read(size: int) -> int:
        return len(await (await obstore.get_async(store, str(size))).bytes_async())

    async def stream() -> int:
        return sum([len(chunk) async for chunk in (await obstore.get_async(store, str(STREAMED))).stream()])

    async def close() -> None:
        return None

    return Side(lambda: read(SMALL), lambda: read(LARGE), stream, close)


SIDES: dict[str, Callable[[str], Side]] = {
    "buffetstore": lambda url: buffetstore_side(url, "lake"),
    "buffetstore+prefix": lambda url: buffetstore_side(url, "lake/some/prefix"),
    "aiohttp": aiohttp_side,
    "gcloud-aio-storage": gcloud_side,
    "obstore": obstore_side,
}


async def small_reads(side: Side, concurrency: int, seconds: float) -> dict[str, float]:
    """GETs per second, and the CPU time of the loop's thread for each."""
    done, finish = 0, time.perf_counter() + seconds

    async def work() -> None:
        nonlocal done
        while time.perf_counter() < finish:
            await side.small()
            done += 1

    started, cpu = time.perf_counter(), time.thread_time()
    await asyncio.gather(*(work() for _ in range(concurrency)))
    wall = time.perf_counter() - started
    return {"per_second": done / wall, "loop_us": (time.thread_time() - cpu) / done * 1e6}


async def large_reads(side: Side) -> dict[str, float]:
    started, cpu = time.perf_counter(), time.process_time()
    sizes = await asyncio.gather(*(side.large() for _ in range(LARGE_AT_ONCE)))
    wall = time.perf_counter() - started
    assert set(sizes) == {LARGE}
    return {"mb_per_second": sum(sizes) / wall / 1e6, "cpu_s_per_gb": (time.process_time() - cpu) / sum(sizes) * 1e9}


async def stall(side: Side) -> dict[str, float]:
    """How long the loop did not come back to a waiting task while many objects were downloaded, in milliseconds.

    Of the wall clock, which counts what else the machine does; and of this thread's CPU time, which is ours alone.
    """
    wall = cpu = 0.0

    async def watch() -> None:
        nonlocal wall, cpu
        while True:
            before, spent = time.perf_counter(), time.thread_time()
            await asyncio.sleep(0)
            wall, cpu = max(wall, time.perf_counter() - before), max(cpu, time.thread_time() - spent)

    watcher = asyncio.create_task(watch())
    await asyncio.sleep(0)
    await asyncio.gather(*(side.stream() for _ in range(DOWNLOADS)))
    watcher.cancel()
    return {"stall_ms": wall * 1e3, "stall_cpu_ms": cpu * 1e3}


async def run(client: str, url: str, seconds: float) -> dict[str, Any]:
    side = SIDES[client](url)
    try:
        await small_reads(side, max(CONCURRENCY), 0.2)  # connections and imports are not what is measured
        small = {str(number): await small_reads(side, number, seconds) for number in CONCURRENCY}
        await side.large()
        large = await large_reads(side)
        await stall(side)  # connections are open from here on
        return {"client": client, "small": small, "large": large, **await stall(side)}
    finally:
        await side.close()


def main() -> None:
    with suppress(ImportError):
        import uvloop

        if "--uvloop" in sys.argv or sys.argv[1] == "serve":
            asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    if sys.argv[1] == "serve":
        asyncio.run(serve())
    else:
        print(json.dumps(asyncio.run(run(sys.argv[2], sys.argv[3], float(sys.argv[4])))), flush=True)
        os._exit(0)  # obstore's own threads may abort an interpreter that ends in the common way


if __name__ == "__main__":
    main()
