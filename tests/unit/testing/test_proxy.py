from __future__ import annotations

import asyncio
import time

import pytest

from buffetstore.testing.background import in_background
from buffetstore.testing.proxy import Conditions, FaultProxy


class Echo:
    """Gives back what it gets, byte by byte."""

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.echo, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_exception):
        self.server.close()

    async def echo(self, reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


@pytest.fixture
async def proxy():
    async with Echo() as echo, FaultProxy("127.0.0.1", echo.port) as proxy:
        yield proxy


async def connect(proxy):
    return await asyncio.open_connection(proxy.host, proxy.port)


async def talk(proxy, data: bytes) -> bytes:
    reader, writer = await connect(proxy)
    try:
        writer.write(data)
        writer.write_eof()
        return await reader.read(-1)
    finally:
        writer.close()


async def gone(proxy):
    while proxy.open_connections:  # noqa: ASYNC110 - it has no event for this
        await asyncio.sleep(0.001)


async def test_bytes_pass_both_ways(proxy):
    data = bytes(range(256)) * 8000
    assert await talk(proxy, data) == data
    assert (proxy.bytes_up, proxy.bytes_down, proxy.connections) == (len(data), len(data), 1)
    await gone(proxy)


async def test_latency_delays_and_does_not_add_up(proxy):
    proxy.now = Conditions(latency_up=0.05, latency_down=0.05)
    data = bytes(2_000_000)  # dozens of pieces
    started = time.monotonic()
    assert await talk(proxy, data) == data
    assert time.monotonic() - started >= 0.1


@pytest.mark.parametrize(("field", "up", "down"), [("reset_after_up", 100, 100), ("reset_after_down", 3000, 100)])
async def test_a_reset_after_so_many_bytes(proxy, field, up, down):
    setattr(proxy.now, field, 100)
    with pytest.raises(ConnectionResetError):
        await talk(proxy, bytes(3000))
    await gone(proxy)
    assert proxy.bytes_up == up
    assert proxy.bytes_down <= down
    proxy.clear()
    assert await talk(proxy, b"good again") == b"good again"


async def test_one_connection_alone_is_reset(proxy):
    proxy.reset_once(down=0)
    with pytest.raises(ConnectionResetError):
        await talk(proxy, b"one")
    assert await talk(proxy, b"two") == b"two"


async def test_open_connections_are_dropped(proxy):
    reader, writer = await connect(proxy)
    writer.write(b"x")
    assert await reader.readexactly(1) == b"x"
    assert proxy.open_connections == 1
    proxy.drop()
    with pytest.raises(ConnectionResetError):
        await reader.read(1)
    writer.close()
    await gone(proxy)


async def test_a_black_hole_and_its_end(proxy):
    proxy.now.blackhole = True
    reader, writer = await connect(proxy)
    writer.write(b"x")
    waiting = asyncio.ensure_future(reader.readexactly(1))
    await asyncio.wait([waiting], timeout=0.05)
    assert not waiting.done()
    proxy.now.blackhole = False
    assert await waiting == b"x"
    proxy.now.blackhole = True
    writer.write(b"y")
    writer.close()
    await gone(proxy)


async def test_a_trickle(proxy):
    proxy.now.bytes_per_second = 20_000
    started = time.monotonic()
    assert await talk(proxy, bytes(2000)) == bytes(2000)
    assert time.monotonic() - started >= 0.1


async def test_refused_connections(proxy):
    proxy.now.refuse = True
    with pytest.raises(ConnectionResetError):
        await talk(proxy, b"x")
    proxy.now.refuse = False
    port = proxy.port
    await proxy.stop_listening()
    with pytest.raises(ConnectionRefusedError):
        await connect(proxy)
    await proxy.listen()
    assert proxy.port == port
    assert await talk(proxy, b"x") == b"x"


def test_it_runs_in_a_thread():
    async def use(proxy) -> None:
        assert await talk(proxy, b"x") == b"x"
        await proxy.stop_listening()
        with pytest.raises(ConnectionRefusedError):
            await connect(proxy)
        await proxy.listen()
        assert await talk(proxy, b"y") == b"y"

    with in_background(Echo()) as echo, in_background(FaultProxy("127.0.0.1", echo.port)) as proxy:
        asyncio.run(use(proxy))


async def test_its_end_ends_what_is_open():
    async with Echo() as echo:
        async with FaultProxy.to(f"tcp://127.0.0.1:{echo.port}") as proxy:
            reader, writer = await connect(proxy)
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()
    with pytest.raises(ValueError, match="host and port"):
        FaultProxy.to("http://host")
