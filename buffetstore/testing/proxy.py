"""A TCP proxy that slows, cuts, swallows or refuses connections: faults for any store that speaks over a network.

>>> from buffetstore.objects.gcs import GCSStore
>>> from buffetstore.objects.helpers import get_bytes
>>> from buffetstore.objects.wrappers import RetryStore
>>> from buffetstore.testing.gcs import GCSServer
>>> async def example() -> int:
...     async with GCSServer(buckets=["lake"]) as server, FaultProxy.to(server.url) as proxy:
...         async with RetryStore(GCSStore("lake", api_root=proxy.url)) as store:
...             await store.put("key", bytes(300_000))
...             proxy.reset_once(down=100_000)  # the connection breaks in the middle of the body
...             return len(await get_bytes(store, "key"))
>>> asyncio.run(example())
300000

A synchronous test, or one whose proxy outlives its loop, runs it by `in_background(FaultProxy(host, port))`.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from buffetstore.testing.http_wire import reset

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType

_CHUNK_BYTES = 64 * 1024
_TICK_SECONDS = 0.02
_IN_FLIGHT = 64  # chunks on their way in one direction


@dataclass(slots=True)
class Conditions:
    """How the network is now; set a field at any time, from any thread.

    Parameters
    ----------
    latency_up, latency_down:
        Seconds that every byte takes longer to the service, and back. Bytes follow one another as fast as before.
    bytes_per_second:
        A slow trickle, in each direction; None is as fast as it goes.
    reset_after_up, reset_after_down:
        Every connection is reset (RST) when so many bytes of it have passed.
    blackhole:
        Connections are accepted, and no byte moves on any of them, nor on those that are open, until it is over.
    refuse:
        New connections are reset at once. (`FaultProxy.stop_listening` refuses them as a service that is not there.)
    """

    latency_up: float = 0.0
    latency_down: float = 0.0
    bytes_per_second: float | None = None
    reset_after_up: int | None = None
    reset_after_down: int | None = None
    blackhole: bool = False
    refuse: bool = False


class FaultProxy:
    """Passes connections on to a service through a network as bad as `now` says. It listens on a free loopback port.

    Attributes
    ----------
    now:
        The `Conditions`, to be changed while it runs.
    connections, open_connections:
        In all, and at this moment.
    bytes_up, bytes_down:
        Passed to the service, and back.
    """

    def __init__(self, upstream_host: str, upstream_port: int, conditions: Conditions | None = None) -> None:
        self._upstream = (upstream_host, upstream_port)
        self.now = conditions if conditions is not None else Conditions()
        self.connections = 0
        self.open_connections = 0
        self.bytes_up = 0
        self.bytes_down = 0
        self.port = 0
        self._cuts: dict[bool, int | None] = {}
        self._server: asyncio.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    def to(cls, url: str, conditions: Conditions | None = None) -> Self:
        """Return a proxy to the service whose root is `url`, such as `http://127.0.0.1:9000`."""
        parts = urlsplit(url)
        if parts.hostname is None or parts.port is None:
            raise ValueError(f"{url!r} names no host and port: http://127.0.0.1:9000")
        return cls(parts.hostname, parts.port, conditions)

    @property
    def host(self) -> str:
        """Where clients connect."""
        return "127.0.0.1"

    @property
    def url(self) -> str:
        """The root of an HTTP service behind the proxy."""
        return f"http://{self.host}:{self.port}"

    def reset_once(self, *, up: int | None = None, down: int | None = None) -> None:
        """Reset one connection, open or new: that on which so many more bytes have passed to the service, or back."""
        self._cuts = {True: up, False: down}

    def passing(self, count: int, *, is_up: bool) -> int | None:
        """Return how many of `count` bytes pass before their connection is reset; None where all pass."""
        left = self._cuts.get(is_up)
        if left is None:
            return None
        if count < left:
            self._cuts[is_up] = left - count
            return None
        self._cuts = {}
        return left

    def clear(self) -> None:
        """Make the network good again; what is open stays as it is."""
        self._cuts = {}
        self.now = Conditions()

    def drop(self) -> None:
        """Reset every open connection; from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._drop)

    async def stop_listening(self) -> None:
        """Close the port, as if the service were not there; from any loop. What is open stays."""
        await self._on_own_loop(self._stop_listening())

    async def listen(self) -> None:
        """Take connections again, on the same port; from any loop."""
        await self._on_own_loop(self._listen())

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop_listening()
        self._loop = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _on_own_loop(self, work: Coroutine[Any, Any, None]) -> None:
        if self._loop is None or self._loop is asyncio.get_running_loop():
            await work
        else:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, self.host, self.port, backlog=1024)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _drop(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.connections += 1
        if self.now.refuse:
            reset(writer)
            return
        self._tasks.add(task)
        self.open_connections += 1
        try:
            # Cancelled by us alone: asyncio's own callback would report it as an error that nobody took.
            with suppress(OSError, asyncio.CancelledError):
                await self._join(reader, writer)
        finally:
            # Nothing of a cancelled or broken connection is delivered any more; one that ended well is closed already.
            reset(writer)
            self.open_connections -= 1
            self._tasks.discard(task)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry both directions until one is reset or both have ended."""
        upstream_reader, upstream_writer = await asyncio.open_connection(*self._upstream)
        up = _Direction(self, reader, upstream_writer, is_up=True)
        down = _Direction(self, upstream_reader, writer, is_up=False)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(up.run())
                group.create_task(down.run())
        except* OSError:
            pass  # reset by a peer, or by us: both ends learn of it below
        else:
            writer.close()
            await writer.wait_closed()
        finally:
            reset(upstream_writer)


class _Direction:
    """Bytes on their way from one peer to the other."""

    def __init__(
        self, proxy: FaultProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_up: bool
    ) -> None:
        self._proxy = proxy
        self._reader = reader
        self._writer = writer
        self._is_up = is_up
        self._passed = 0
        self._waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_IN_FLIGHT)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take())
            group.create_task(self._deliver())

    async def _take(self) -> None:
        while True:
            chunk = await self._reader.read(_CHUNK_BYTES)
            now = self._proxy.now
            await self._waiting.put((time.monotonic() + (now.latency_up if self._is_up else now.latency_down), chunk))
            if not chunk:
                if now.blackhole:
                    raise ConnectionResetError("the peer has hung up, and nobody will ever learn of it")
                return

    async def _deliver(self) -> None:
        while True:
            due, chunk = await self._waiting.get()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            while self._proxy.now.blackhole:  # noqa: ASYNC110 - set from any thread
                await asyncio.sleep(_TICK_SECONDS)
            if not chunk:
                self._writer.write_eof()
                return
            await self._pass(chunk)

    async def _pass(self, chunk: bytes) -> None:
        now = self._proxy.now
        limit = now.reset_after_up if self._is_up else now.reset_after_down
        rest = self._proxy.passing(len(chunk), is_up=self._is_up)
        if limit is not None and self._passed + len(chunk) >= limit:
            rest = min(max(0, limit - self._passed), len(chunk) if rest is None else rest)
        view = memoryview(chunk)[:rest]
        while view:
            rate = self._proxy.now.bytes_per_second
            piece = view if rate is None else view[: max(1, int(rate * _TICK_SECONDS))]
            self._writer.write(piece)
            await self._writer.drain()
            self._count(len(piece))
            view = view[len(piece) :]
            if rate is not None:
                await asyncio.sleep(len(piece) / rate)
        if rest is not None:
            raise ConnectionResetError("as many bytes as were asked for have passed")

    def _count(self, count: int) -> None:
        self._passed += count
        if self._is_up:
            self._proxy.bytes_up += count
        else:
            self._proxy.bytes_down += count
