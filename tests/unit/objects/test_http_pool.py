from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.client_exceptions import ClientError
from yarl import URL

from buffetstore.errors import UnsupportedOperationError
from buffetstore.objects.http_pool import HttpPool

NAME = "gs://bucket"


def pool_of(**options) -> HttpPool:
    return HttpPool(NAME, **{"max_connections": 4, "connect_seconds": 5, "idle_seconds": 5} | options)


@asynccontextmanager
async def serving(handler):
    """Serve `handler` for every request on a port of the system's choice; give the URL."""
    server = web.Server(handler)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield URL(f"http://127.0.0.1:{runner.addresses[0][1]}/")
    finally:
        await runner.cleanup()


async def echo(request: web.BaseRequest) -> web.Response:
    return web.Response(body=await request.read(), headers={"X-Length": request.headers.get("Content-Length", "")})


@pytest.mark.parametrize("size", [0, 10, 1_000_000])
async def test_a_body_arrives_whole(size):
    body = os.urandom(size)
    pool = pool_of()
    async with serving(echo) as url:
        parts = [memoryview(body)[: size // 3], memoryview(body)[size // 3 :]]
        for data in (body, bytearray(body), memoryview(body), parts):
            async with await pool.send("PUT", url, headers={}, data=data) as answer:
                assert await answer.read() == body
                assert answer.headers["X-Length"] == str(size)
        await pool.aclose()


async def listing(_request: web.BaseRequest) -> web.Response:
    return web.Response(body=bytes(1000))


async def test_warm_up_opens_as_many_connections_as_were_asked_for_and_no_more_than_fit():
    pool = pool_of()
    async with serving(listing) as url:
        await pool.warm_up(url, 3)
        assert (pool.stats().idle, pool.stats().in_use) == (3, 0)
        await pool.warm_up(url, 99)
        assert pool.stats().idle == 4
        await pool.aclose()
        await pool.aclose()


async def test_requests_that_wait_for_a_connection_are_counted():
    release = asyncio.Event()

    async def slow(_request: web.BaseRequest) -> web.Response:
        await release.wait()
        return web.Response()

    async def ask(url: URL) -> None:
        (await pool.send("GET", url, headers={})).close()

    pool = pool_of(max_connections=2)
    async with serving(slow) as url:
        tasks = [asyncio.create_task(ask(url)) for _ in range(5)]
        while pool.stats().waiting < 3:  # noqa: ASYNC110 - the pool has no event to wait for
            await asyncio.sleep(0)
        assert (pool.stats().in_use, pool.stats().waiting, pool.stats().limit) == (2, 3, 2)
        release.set()
        await asyncio.gather(*tasks)
        assert (pool.stats().in_use, pool.stats().waiting) == (0, 0)
        await pool.aclose()


async def test_a_body_that_nobody_takes_times_out_and_a_slow_one_does_not():
    async def takes_nothing(request: web.BaseRequest) -> web.Response:
        request.protocol.pause_reading()
        await asyncio.sleep(3600)
        return web.Response()

    async def takes_its_time(request: web.BaseRequest) -> web.Response:
        while await request.content.read(400_000):  # noqa: ASYNC110 - it is slow on purpose
            await asyncio.sleep(0.005)
        return web.Response()

    pool = pool_of(idle_seconds=0.3)
    data = bytes(16 * 1024 * 1024)
    async with serving(takes_nothing) as url:
        with pytest.raises(TimeoutError):
            await pool.send("PUT", url, headers={}, data=data)
    async with serving(takes_its_time) as url:
        async with await pool.send("PUT", url, headers={}, data=data) as answer:
            assert answer.status == 200
        await pool.aclose()


async def test_a_request_is_sent_once_although_its_pooled_connection_breaks():
    seen = 0

    async def breaks(request: web.BaseRequest) -> web.Response:
        nonlocal seen
        seen += 1
        if seen > 1:
            await request.read()
            request.transport.abort()
        return web.Response()

    pool = pool_of()
    async with serving(breaks) as url:
        await (await pool.send("PUT", url, headers={}, data=b"1")).read()
        with pytest.raises(ClientError):
            await pool.send("PUT", url, headers={}, data=b"2")
        assert seen == 2
        await pool.aclose()


async def test_closed_it_says_so():
    pool = pool_of()
    await pool.aclose()
    with pytest.raises(UnsupportedOperationError, match=f"{NAME} is closed: open a new one"):
        await pool.send("GET", URL("http://127.0.0.1:9/"), headers={})


def test_another_loop_is_told_so_while_the_first_lives():
    pool = pool_of()

    async def ask() -> None:
        async with serving(echo) as url:
            (await pool.send("GET", url, headers={})).close()

    with asyncio.Runner() as first, asyncio.Runner() as second:
        first.run(ask())
        with pytest.raises(UnsupportedOperationError, match="belongs to another event loop"):
            second.run(ask())
        first.run(pool.aclose())


@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
def test_a_new_loop_gets_a_fresh_pool_once_the_first_is_closed():
    pool = pool_of()

    async def ask() -> int:
        async with serving(echo) as url, await pool.send("PUT", url, headers={}, data=b"x") as answer:
            await answer.read()
            return pool.stats().in_use + pool.stats().idle

    async def ask_and_close() -> int:
        try:
            return await ask()
        finally:
            await pool.aclose()

    assert asyncio.run(ask()) == 1
    assert asyncio.run(ask_and_close()) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:This process")  # it says that forking beside threads is a risk, as it is
def test_a_forked_child_gets_a_fresh_pool():
    pool = pool_of()

    async def ask() -> bytes:
        async with serving(echo) as url, await pool.send("PUT", url, headers={}, data=b"x") as answer:
            return await answer.read()

    async def parent() -> int:
        assert await ask() == b"x"
        child = os.fork()
        if child == 0:
            # In the child the parent's loop only looks alive.
            code = 1
            try:
                asyncio._set_running_loop(None)
                code = 0 if asyncio.run(ask()) == b"x" else 2
            finally:
                os._exit(code)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])  # noqa: ASYNC222 - short
        assert await ask() == b"x"
        await pool.aclose()
        return status

    assert asyncio.run(parent()) == 0
