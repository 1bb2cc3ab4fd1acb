from __future__ import annotations

import asyncio
import io
import time

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from buffetstore.testing.background import in_background
from buffetstore.testing.http_faults import HttpFault, HttpFaultProxy


class Upstream:
    """Says what it was asked; `/chunked` in chunks."""

    def __init__(self):
        self.bodies = []

    async def __aenter__(self):
        self.runner = web.ServerRunner(web.Server(self.answer))
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_exception):
        await self.runner.cleanup()

    async def answer(self, request):
        body = await request.read()
        self.bodies.append(body)
        if request.path == "/chunked":
            response = web.StreamResponse()
            response.enable_chunked_encoding()
            await response.prepare(request)
            await response.write(b"one ")
            await response.write(b"two")
            return response
        said = {"X-Host": request.headers["Host"], "X-Target": request.raw_path}
        return web.Response(body=body or b"0123456789", headers=said)


@pytest.fixture
async def upstream():
    async with Upstream() as upstream:
        yield upstream


@pytest.fixture
async def proxy(upstream):
    async with HttpFaultProxy(upstream.url) as proxy:
        yield proxy


@pytest.fixture
async def client():
    async with aiohttp.ClientSession(auto_decompress=False) as client:
        client._retry_connection = False  # it repeats a request whose connection breaks
        yield client


async def test_requests_pass_as_they_are(proxy, client):
    target = "/b/a%2Fb?q=%20&x-id=1"
    async with client.put(URL(proxy.url + target, encoded=True), data=b"body", headers={"Host": "signed"}) as answer:
        assert await answer.read() == b"body"
        assert (answer.headers["X-Host"], answer.headers["X-Target"]) == ("signed", target)
    async with client.head(proxy.url) as answer:
        assert (answer.status, answer.headers["Content-Length"]) == (200, "10")
    async with client.get(proxy.url + "/chunked", headers={"Range": "bytes=0-3"}) as answer:
        assert await answer.read() == b"one two"

    async def pieces():
        yield b"in "
        yield b"pieces"

    async with client.put(proxy.url, data=pieces()) as answer:
        assert await answer.read() == b"in pieces"
    assert proxy.connections == 1
    assert [(one.method, one.bytes_in, one.bytes_out) for one in proxy.log.requests] == [
        ("PUT", 4, 4), ("HEAD", 0, 0), ("GET", 0, 7), ("PUT", 9, 9),
    ]  # fmt: skip
    assert proxy.log.requests[2].range == "bytes=0-3"


async def test_a_status_before_and_after(proxy, client, upstream):
    proxy.faults.add(HttpFault("status"), HttpFault("status", when="after", status=429, retry_after=7))
    async with client.put(proxy.url, data=b"one") as answer:
        assert (answer.status, upstream.bodies) == (503, [])
    async with client.put(proxy.url, data=b"two") as answer:
        assert (answer.status, answer.headers["Retry-After"], upstream.bodies) == (429, "7", [b"two"])
    proxy.faults.add(HttpFault("status"))
    async with client.head(proxy.url) as answer:
        assert answer.status == 503
    async with client.put(proxy.url, data=b"three") as answer:
        assert await answer.read() == b"three"
    assert proxy.connections == 1  # it lives on


async def test_resets(proxy, client, upstream):
    proxy.faults.add(HttpFault("reset"), HttpFault("reset", when="after"))
    for applied in (0, 1):
        with pytest.raises(aiohttp.ClientOSError):
            await client.put(proxy.url, data=b"body")
        assert len(upstream.bodies) == applied
    proxy.faults.add(HttpFault("reset", when="after", after_bytes=4))
    with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientOSError)):
        async with client.get(proxy.url) as answer:
            await answer.read()


async def test_a_request_is_cut_in_its_body(proxy, client, upstream):
    proxy.faults.add(HttpFault("reset", after_bytes=300_000))
    with pytest.raises(aiohttp.ClientOSError):
        await client.put(proxy.url, data=io.BytesIO(bytes(5_000_000)))
    assert upstream.bodies == []  # it came, but never whole
    assert proxy.log.requests[0].bytes_in == 300_000


@pytest.mark.parametrize("path", ["/", "/chunked"])
async def test_a_truncated_body(proxy, client, path):
    proxy.faults.add(HttpFault("truncate"))
    async with client.get(proxy.url + path) as answer:
        assert answer.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
    async with client.get(proxy.url + path) as answer:
        await answer.read()


async def test_flipped_bits(proxy, client, upstream):
    proxy.faults.add(
        HttpFault("flip", when="after"), HttpFault("flip", after_bytes=0), HttpFault("flip", path="/chunked*")
    )
    async with client.get(proxy.url) as answer:
        assert await answer.read() == b"0123446789"
    async with client.put(proxy.url, data=b"up") as answer:
        assert await answer.read() == b"tp"
    assert upstream.bodies[-1] == b"tp"


async def test_a_stall_ends_when_told(proxy, client, upstream):
    proxy.faults.add(HttpFault("stall", when="after"))
    waiting = asyncio.ensure_future(client.put(proxy.url, data=b"body"))
    while not proxy.log.requests:  # noqa: ASYNC110 - it has no event for this
        await asyncio.sleep(0.001)
    assert (waiting.done(), upstream.bodies) == (False, [b"body"])
    proxy.release()
    with pytest.raises(aiohttp.ClientOSError):
        await waiting
    proxy.faults.add(HttpFault("stall", seconds=0.01))
    with pytest.raises(aiohttp.ClientOSError):
        await client.get(proxy.url)


async def test_a_client_that_gives_up_ends_a_stall(proxy, upstream):
    proxy.faults.add(HttpFault("stall"), HttpFault("stall", when="after", after_bytes=3))
    idle = aiohttp.ClientTimeout(sock_read=0.5)
    async with aiohttp.ClientSession(timeout=idle) as client:
        with pytest.raises(TimeoutError):
            await client.get(proxy.url)
        async with client.get(proxy.url) as answer:
            with pytest.raises(TimeoutError):
                await answer.read()
    while proxy.open_connections:  # noqa: ASYNC110 - it has no event for this
        await asyncio.sleep(0.001)


async def test_faults_strike_what_they_name(proxy, client):
    proxy.faults.add(HttpFault("status", operation="PUT", path="*partNumber=2*", skip=1, times=2))
    asked = [("PUT", "?partNumber=1"), ("GET", "?partNumber=2"), *[("PUT", "?partNumber=2")] * 4]
    for method, query in asked:
        await client.request(method, proxy.url + "/bucket/key" + query)
    assert [request.status for request in proxy.log.requests] == [200, 200, 200, 503, 503, 200]


async def test_without_an_upstream_it_says_so(client):
    async with Upstream() as upstream:
        url = upstream.url
    async with HttpFaultProxy(url) as proxy, client.get(proxy.url) as answer:
        assert answer.status == 502
    with pytest.raises(ValueError, match="root"):
        HttpFaultProxy("http://host")


def test_it_runs_in_a_thread_for_several_loops():
    async def ask(url: str) -> int:
        async with aiohttp.ClientSession() as client, client.get(url) as answer:
            return answer.status

    with in_background(Upstream()) as upstream, in_background(HttpFaultProxy(upstream.url)) as proxy:
        proxy.faults.add(HttpFault("delay", seconds=0.05), HttpFault("stall", when="after"))
        started = time.monotonic()
        assert asyncio.run(ask(proxy.url)) == 200
        assert time.monotonic() - started >= 0.05
        assert asyncio.run(ask_and_give_up(proxy.url)) is None
        assert asyncio.run(ask(proxy.url)) == 200


async def ask_and_give_up(url: str) -> None:
    async with aiohttp.ClientSession() as client:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.get(url), 0.05)


def test_what_fails_to_start_in_a_thread_is_raised():
    class Fails:
        async def __aenter__(self):
            raise OSError("no port")

        async def __aexit__(self, *_exception):
            raise AssertionError("it was never entered")

    with pytest.raises(OSError, match="no port"), in_background(Fails()):
        pytest.fail("it did not start")
