"""One side of the transfer benchmark: the GCS test server in a process of its own, or one client against it.

usage: transfers.py serve  ->  its URL on stdout, until stdin closes
       transfers.py run CLIENT OPERATION URL FOLDER BYTES  ->  one line of JSON

CLIENT is buffetstore, aiohttp, obstore or local (buffetstore on a folder); OPERATION is up (a file to an object),
down (an object to a file) or buffer (an object to memory). `up` makes what the others read.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

BUCKET, KEY = "bench", "large"
PART_BYTES, AT_ONCE = 8 * 1024 * 1024, 8
PIECE_BYTES = 1024 * 1024


def write_source(path: Path, size: int) -> None:
    """Write bytes that differ at every place of a part, so that parts in a wrong order would show."""
    piece = os.urandom(PIECE_BYTES)
    with path.open("wb") as file:
        for number in range(0, size, PIECE_BYTES):
            file.write(number.to_bytes(8, "big") + piece[8 : min(PIECE_BYTES, size - number)])


async def buffetstore_side(operation: str, url: str, folder: Path, size: int) -> None:
    from buffetstore.objects import open_store
    from buffetstore.objects.transfers import download_file, get_buffer, upload_file

    opened = partial(open_store, f"gs://{BUCKET}", api_root=url)
    if url.startswith("file:"):
        opened = partial(open_store, url, create=True)
    async with opened() as store:
        if operation == "up":
            await upload_file(store, folder / "source", KEY)
        elif operation == "down":
            await download_file(store, KEY, folder / "down")
        else:
            assert len(await get_buffer(store, KEY)) == size


async def aiohttp_side(operation: str, url: str, folder: Path, size: int) -> None:
    """What a careful author writes: parallel ranges for reading, one streamed request for writing; no checksums."""
    import aiohttp

    async with aiohttp.ClientSession(url) as session:
        if operation == "up":
            with (folder / "source").open("rb") as file:
                answer = await session.post(f"/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name=other", data=file)
                assert answer.status == 200
            return

        async def fetch(start: int, buffer: memoryview) -> None:
            asked = {"Range": f"bytes={start}-{start + len(buffer) - 1}"}
            at = 0
            async with session.get(f"/{BUCKET}/{KEY}", headers=asked) as answer:
                async for chunk in answer.content.iter_any():
                    buffer[at : at + len(chunk)] = chunk
                    at += len(chunk)
            assert at == len(buffer)

        permits = asyncio.Semaphore(AT_ONCE)
        whole = memoryview(bytearray(size)) if operation == "buffer" else None
        file = os.open(folder / "down" if whole is None else os.devnull, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

        async def part(start: int) -> None:
            end = min(start + PART_BYTES, size)
            async with permits:
                if whole is not None:
                    await fetch(start, whole[start:end])
                else:
                    view = memoryview(bytearray(end - start))
                    await fetch(start, view)
                    await asyncio.to_thread(os.pwrite, file, view, start)

        await asyncio.gather(*(part(start) for start in range(0, size, PART_BYTES)))
        os.close(file)


async def obstore_side(operation: str, url: str, folder: Path, size: int) -> None:
    import obstore
    from obstore.store import GCSStore

    account = {"gcs_base_url": url, "disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
    store = GCSStore(BUCKET, service_account_key=json.dumps(account), client_options={"allow_http": True})
    if operation == "up":
        await obstore.put_async(
            store, "other", folder / "source", use_multipart=True, chunk_size=PART_BYTES, max_concurrency=AT_ONCE
        )
    elif operation == "down":
        with (folder / "down").open("wb") as file:
            async for chunk in (await obstore.get_async(store, KEY)).stream(min_chunk_size=PIECE_BYTES):
                file.write(chunk)
    else:
        starts = list(range(0, size, PART_BYTES))
        ends = [min(start + PART_BYTES, size) for start in starts]
        parts = await obstore.get_ranges_async(store, KEY, starts=starts, ends=ends)
        assert sum(map(len, parts)) == size


SIDES: dict[str, Callable[[str, str, Path, int], Awaitable[None]]] = {
    "buffetstore": buffetstore_side,
    "local": buffetstore_side,
    "aiohttp": aiohttp_side,
    "obstore": obstore_side,
}


def memory(field: str) -> float:
    """MiB of this process: `VmRSS` now, `VmHWM` at most (getrusage would count the parent that forked it)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


async def run(client: str, operation: str, url: str, folder: Path, size: int) -> dict[str, Any]:
    for module in {"aiohttp": ["aiohttp"], "obstore": ["obstore.store"]}.get(client, ["buffetstore.objects.gcs"]):
        import_module(module)  # neither its time nor its memory is that of a transfer
    before, used = memory("VmRSS"), resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    await SIDES[client](operation, url, folder, size)
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    return {
        "client": client,
        "operation": operation,
        "mb_per_second": size / 1e6 / seconds,
        "cpu_s_per_gb": cpu / (size / 1e9),
        "peak_mib": memory("VmHWM") - before,
    }


async def serve() -> None:
    from buffetstore.testing.gcs import GCSServer

    async with GCSServer(buckets=[BUCKET]) as server:
        print(server.url, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def main() -> None:
    if sys.argv[1] == "serve":
        asyncio.run(serve())
        return
    _, _, client, operation, url, folder, size = sys.argv
    print(json.dumps(asyncio.run(run(client, operation, url, Path(folder), int(size)))), flush=True)
    os._exit(0)  # obstore's own threads may abort an interpreter that ends in the common way


if __name__ == "__main__":
    main()
