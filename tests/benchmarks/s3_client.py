"""One side of the S3 client benchmark: a stub server in a process of its own, or one client against it.

usage: s3_client.py serve  ->  its URL on stdout, until stdin closes
       s3_client.py run CLIENT LOOP URL SECONDS MIB  ->  one line of JSON

The stub believes any signature and answers at once, with the headers that S3 sends and as many zeros as the object's
name says, so that what is measured is the client. CLIENT is ours, stack (ours as `open_store` gives it), aiobotocore
or obstore; LOOP is asyncio or uvloop.
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
import zlib
from typing import Any

SMALL, MIB, RANGE = 4096, 1024 * 1024, 8 * 1024 * 1024
CONCURRENCY = (1, 64, 256)
LARGE_AT_ONCE, LISTED = 8, 1000
ZEROS = bytes(MIB)
STAMP = "Wed, 20 Nov 2024 16:00:00 GMT"


class Stub(asyncio.BufferedProtocol):
    """HTTP/1.1 with keep-alive: GET, HEAD, PUT, DELETE of objects, and one page of a listing."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(MIB))
        self._head = b""
        self._missing = 0  # bytes of a request's body that are to come
        self._writable = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._writable.set()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, count: int) -> None:
        if self._missing >= count:
            self._missing -= count
            if not self._missing:
                self._answer()
            return
        self._head += bytes(self._buffer[self._missing : count])
        while b"\r\n\r\n" in self._head:
            self._asked, _, rest = self._head.partition(b"\r\n\r\n")
            if b"100-continue" in self._asked:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", self._asked)
            length = int(found[1]) if found else 0
            self._head, self._missing = rest[length:], max(0, length - len(rest))
            if self._missing:
                return
            self._answer()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _answer(self) -> None:
        method, target = self._asked.split(b" ", 2)[:2]
        if b"list-type=2" in target:
            self._transport.write(listing())
        elif method == b"POST":  # obstore deletes a single object by a batch
            body = b'<DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Deleted><Key>k</Key></Deleted></DeleteResult>'
            self._transport.write(headed(200, ["Content-Type: application/xml"], len(body)) + body)
        elif method == b"PUT":
            self._transport.write(headed(200, ['ETag: "5d41402abc4b2a76b9719d911017c592"'], 0))
        elif method == b"DELETE":
            self._transport.write(headed(204, [], 0))
        else:
            size = int(re.search(rb"(\d+)(?:\?|$)", target)[1])  # type: ignore[index]
            asked = re.search(rb"(?i)\r\nrange: bytes=(\d+)-(\d+)", self._asked)
            first, end = (int(asked[1]), int(asked[2]) + 1) if asked else (0, size)
            self._transport.write(described(size, first, end))
            if method == b"GET":
                self._send(end - first)

    def _send(self, size: int) -> None:
        if size <= 65536:
            self._transport.write(ZEROS[:size])
            return
        task = asyncio.get_running_loop().create_task(self._stream(size))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _stream(self, size: int) -> None:
        block = memoryview(ZEROS)
        while size > 0 and not self._transport.is_closing():
            await self._writable.wait()
            self._transport.write(block[:size])
            size -= len(block)


def headed(status: int, lines: list[str], length: int) -> bytes:
    common = [
        "x-amz-id-2: 8zR4mJ0mJf6kq1Q=",
        "x-amz-request-id: 4442587FB7D0A2F9",
        f"Date: {STAMP}",
        "Server: AmazonS3",
    ]
    every = [f"HTTP/1.1 {status} OK", *common, *lines, *([] if status == 204 else [f"Content-Length: {length}"])]
    return ("\r\n".join(every) + "\r\n\r\n").encode()


@functools.cache
def described(size: int, first: int, end: int) -> bytes:
    crc = functools.reduce(lambda state, _: zlib.crc32(ZEROS, state), range(size // MIB), 0)
    checksum = base64.b64encode(zlib.crc32(ZEROS[: size % MIB], crc).to_bytes(4, "big")).decode()
    is_part = (first, end) != (0, size)
    told = (
        [f"Content-Range: bytes {first}-{end - 1}/{size}"]
        if is_part
        else [f"x-amz-checksum-crc32: {checksum}", "x-amz-checksum-type: FULL_OBJECT"]
    )
    kept = [
        *('ETag: "5d41402abc4b2a76b9719d911017c592"', f"Last-Modified: {STAMP}", "Accept-Ranges: bytes"),
        *("Content-Type: application/octet-stream", "x-amz-server-side-encryption: AES256"),
        "x-amz-meta-buffetstore-token: 0123456789abcdef0123456789abcdef",
    ]
    return headed(206 if is_part else 200, [*told, *kept], end - first)


@functools.cache
def listing() -> bytes:
    entries = "".join(
        f"<Contents><Key>raw/market_data/year=2024/month=01/day=15/AAPL_market_20240115_v1-{number:08}.parquet</Key>"
        "<LastModified>2024-11-20T16:00:00.000Z</LastModified><ETag>&quot;5d41402abc4b2a76b9719d911017c592&quot;</ETag>"
        "<ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType><Size>123456</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
        for number in range(LISTED)
    )
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>bucket</Name><Prefix></Prefix><KeyCount>{LISTED}</KeyCount><MaxKeys>1000</MaxKeys>"
        f"<EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
    ).encode()
    return headed(200, ["Content-Type: application/xml"], len(body)) + body


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Stub, "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


class Ours:
    def __init__(self, url: str, *, bare: bool) -> None:
        from buffetstore.objects.open import open_store
        from buffetstore.objects.s3 import S3Store

        options = {"endpoint_url": url, "access_key": "a", "secret_key": "b", "region": "us-east-1"}
        opened = S3Store.from_url if bare else open_store
        self._store = opened("s3://bucket", **options, max_connections=max(CONCURRENCY))

    async def get(self, key: str) -> int:
        return len(await (await self._store.get(key)).read())

    async def read_into(self, key: str, buffer: memoryview) -> int:
        return await (await self._store.get(key)).readinto(buffer)

    async def range_into(self, key: str, start: int, buffer: memoryview) -> int:
        from buffetstore.objects.base import ByteRange

        return await (await self._store.get(key, range=ByteRange(start, start + len(buffer)))).readinto(buffer)

    async def put(self, key: str, data: bytes) -> None:
        await self._store.put(key, data)

    async def head(self, key: str) -> None:
        await self._store.get(key, head=True)

    async def delete(self, key: str) -> None:
        await self._store.delete([key])

    async def list_all(self) -> int:
        return len([meta async for meta in self._store.list_objects()])

    async def aclose(self) -> None:
        await self._store.aclose()


class Aiobotocore:
    def __init__(self, url: str) -> None:
        from aiobotocore.config import AioConfig
        from aiobotocore.session import get_session

        config = AioConfig(max_pool_connections=max(CONCURRENCY), s3={"addressing_style": "path"})
        self._context = get_session().create_client(
            "s3", "us-east-1", endpoint_url=url, config=config, aws_access_key_id="a", aws_secret_access_key="b"
        )
        self._client: Any = None

    async def _open(self) -> Any:
        if self._client is None:
            self._client = await self._context.__aenter__()
        return self._client

    async def get(self, key: str) -> int:
        answer = await (await self._open()).get_object(Bucket="bucket", Key=key)
        async with answer["Body"] as body:
            return len(await body.read())

    async def read_into(self, key: str, buffer: memoryview) -> int:
        answer = await (await self._open()).get_object(Bucket="bucket", Key=key)
        return await self._fill(answer, buffer)

    async def range_into(self, key: str, start: int, buffer: memoryview) -> int:
        asked = f"bytes={start}-{start + len(buffer) - 1}"
        return await self._fill(await (await self._open()).get_object(Bucket="bucket", Key=key, Range=asked), buffer)

    async def _fill(self, answer: Any, buffer: memoryview) -> int:
        data = await answer["Body"].read()  # whole, as its users do
        buffer[: len(data)] = data
        return len(data)

    async def put(self, key: str, data: bytes) -> None:
        await (await self._open()).put_object(Bucket="bucket", Key=key, Body=data)

    async def head(self, key: str) -> None:
        await (await self._open()).head_object(Bucket="bucket", Key=key)

    async def delete(self, key: str) -> None:
        await (await self._open()).delete_object(Bucket="bucket", Key=key)

    async def list_all(self) -> int:
        return len((await (await self._open()).list_objects_v2(Bucket="bucket"))["Contents"])

    async def aclose(self) -> None:
        await self._context.__aexit__(None, None, None)


class Obstore:
    def __init__(self, url: str) -> None:
        from obstore.store import S3Store

        self._store = S3Store(
            "bucket", endpoint=url, region="us-east-1", access_key_id="a", secret_access_key="b",
            client_options={"allow_http": True},
        )  # fmt: skip

    async def get(self, key: str) -> int:
        return len(await (await self._store.get_async(key)).bytes_async())

    async def read_into(self, key: str, buffer: memoryview) -> int:
        done = 0
        async for chunk in (await self._store.get_async(key)).stream(min_chunk_size=MIB):
            buffer[done : done + len(chunk)] = memoryview(chunk)
            done += len(chunk)
        return done

    async def range_into(self, key: str, start: int, buffer: memoryview) -> int:
        data = await self._store.get_range_async(key, start=start, length=len(buffer))
        buffer[: len(data)] = memoryview(data)
        return len(data)

    async def put(self, key: str, data: bytes) -> None:
        await self._store.put_async(key, data, use_multipart=False)

    async def head(self, key: str) -> None:
        await self._store.head_async(key)

    async def delete(self, key: str) -> None:
        await self._store.delete_async(key)

    async def list_all(self) -> int:
        return len([meta async for batch in self._store.list(chunk_size=LISTED) for meta in batch])

    async def aclose(self) -> None:
        pass


CLIENTS: dict[str, Any] = {
    "ours": functools.partial(Ours, bare=True),
    "stack": functools.partial(Ours, bare=False),
    "aiobotocore": Aiobotocore,
    "obstore": Obstore,
}


async def repeated(call: Any, concurrency: int, seconds: float) -> dict[str, float]:
    """Call for so long, so many at once; return calls per second and microseconds of CPU per call."""
    await asyncio.gather(*(call() for _ in range(concurrency)))  # connections are opened before
    count, end = 0, time.perf_counter() + seconds

    async def work() -> None:
        nonlocal count
        while time.perf_counter() < end:
            await call()
            count += 1

    started, loop, cpu = time.perf_counter(), time.thread_time(), time.process_time()
    await asyncio.gather(*(work() for _ in range(concurrency)))
    spent, loop, cpu = time.perf_counter() - started, time.thread_time() - loop, time.process_time() - cpu
    return {"ops": count / spent, "loop_us": loop / count * 1e6, "cpu_us": cpu / count * 1e6}


async def timed(size: int, calls: list[Any]) -> dict[str, float]:
    """Run the calls at once, three times; return the median MB/s, and seconds of CPU per GB."""
    runs = []
    for _ in range(3):
        started, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(call() for call in calls))
        runs.append((time.perf_counter() - started, time.process_time() - cpu))
    spent, cpu = sorted(runs)[1]
    return {"mb_s": size / spent / 1e6, "cpu_s_gb": cpu / (size / 1e9)}


async def measure(client: Any, seconds: float, mib: int) -> dict[str, Any]:
    data, key = bytes(SMALL), f"dir/file-{SMALL}"
    figures: dict[str, Any] = {}
    assert await client.get(key) == SMALL
    for concurrency in CONCURRENCY:
        figures[f"get x{concurrency}"] = await repeated(functools.partial(client.get, key), concurrency, seconds)
    figures["put x64"] = await repeated(functools.partial(client.put, key, data), 64, seconds)
    figures["head x64"] = await repeated(functools.partial(client.head, key), 64, seconds)
    figures["delete x64"] = await repeated(functools.partial(client.delete, key), 64, seconds)
    assert await client.list_all() == LISTED
    figures["list 1000 x4"] = await repeated(client.list_all, 4, seconds)
    size = mib * MIB
    buffers = [memoryview(bytearray(size)) for _ in range(LARGE_AT_ONCE)]
    large = f"large-{size}"
    whole = [functools.partial(client.read_into, large, buffer) for buffer in buffers]
    figures["read 8 large"] = await timed(size * LARGE_AT_ONCE, whole)
    joined = memoryview(bytearray(size * LARGE_AT_ONCE))
    step = min(RANGE, size)
    parts = [
        functools.partial(client.range_into, f"one-{len(joined)}", at, joined[at : at + step])
        for at in range(0, len(joined), step)
    ]
    figures["read 1 by ranges"] = await timed(len(joined), parts)
    body = bytes(size)
    figures["put 4 large"] = await timed(
        size * 4, [functools.partial(client.put, f"put-{at}", body) for at in range(4)]
    )
    return figures


async def run(name: str, url: str, seconds: float, mib: int) -> None:
    client = CLIENTS[name](url)
    figures = await measure(client, seconds, mib)
    await client.aclose()
    print(json.dumps(figures))


def main() -> None:
    if sys.argv[1] == "serve":
        try:
            from uvloop import run as run_loop
        except ImportError:
            run_loop = asyncio.run
        run_loop(serve())
        return
    name, loop, url, seconds, mib = sys.argv[2:]
    if loop == "uvloop":
        import uvloop

        uvloop.run(run(name, url, float(seconds), int(mib)))
    else:
        asyncio.run(run(name, url, float(seconds), int(mib)))
    sys.stdout.flush()
    os._exit(0)  # obstore's own threads may abort an interpreter that ends in the common way


if __name__ == "__main__":
    main()
