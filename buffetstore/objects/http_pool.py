"""One pooled HTTP session: opened with its first request, in that request's loop and process."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any

import aiohttp

from buffetstore.errors import UnsupportedOperationError
from buffetstore.objects.pool import PoolStats, sessions_stats
from buffetstore.resilience.concurrency import gather

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from yarl import URL

    from buffetstore.objects.base import Data

_READ_BUFFER_BYTES = 1024 * 1024
_PIECE_BYTES = 256 * 1024  # of a body: what is copied to a socket at once holds up the event loop


_NONE: SimpleCookie = SimpleCookie()


class _NoCookies(aiohttp.DummyCookieJar):
    def filter_cookies(self, request_url: URL) -> SimpleCookie:  # noqa: ARG002 - the base's name
        return _NONE  # the base makes an empty one for each request


class HttpPool:
    """A session that sends each request once, with idle times instead of totals, in both directions.

    After a fork the child gets a session of its own, and so does a new loop once the first is closed.

    Parameters
    ----------
    name:
        The store's URL, for messages.
    max_connections:
        In use and idle together; further requests wait.
    connect_seconds, idle_seconds:
        How long a connection may take to open, and then be silent: a large object may take as long as its bytes move.

    Raises
    ------
    UnsupportedOperationError
        From any request: the pool is closed, or belongs to another event loop that still lives.
    """

    def __init__(self, name: str, *, max_connections: int, connect_seconds: float, idle_seconds: float) -> None:
        self.name = name
        self.max_connections = max_connections
        self.idle_seconds = idle_seconds
        self.timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=min(connect_seconds, idle_seconds), sock_read=idle_seconds
        )
        self._session: aiohttp.ClientSession | None = None
        self._warming = asyncio.Lock()
        self._home: tuple[asyncio.AbstractEventLoop, int] | None = None
        self._is_closed = False

    @property
    def session(self) -> aiohttp.ClientSession:
        """The session of this loop and process."""
        home = (asyncio.get_running_loop(), os.getpid())
        if self._session is None or self._home != home:
            self._session = self._opened(home)
        return self._session

    async def send(
        self,
        method: str,
        url: URL,
        *,
        headers: Mapping[str, str],
        data: Data | list[memoryview] | None = None,
        auto_decompress: bool = False,
    ) -> aiohttp.ClientResponse:
        """Send one request and return its answer, which the caller closes; what aiohttp raises is not mapped.

        A list of views is sent as one body, without joining them first.

        A body that nobody takes for `idle_seconds` raises `TimeoutError`, as does an answer that does not come.
        """
        views = data if isinstance(data, list) else None
        size = 0 if data is None else len(data) if views is None else sum(map(len, views))
        if size <= _PIECE_BYTES:
            if views is not None:
                data = b"".join(views)
            return await self.session.request(
                method, url, headers=headers, data=data, allow_redirects=False, auto_decompress=auto_decompress
            )
        async with asyncio.timeout(self.idle_seconds) as idle:
            return await self.session.request(
                method,
                url,
                headers={**headers, "Content-Length": str(size)},
                data=self._pieces(views or [memoryview(data).cast("B")], idle),  # type: ignore[arg-type]
                allow_redirects=False,
                auto_decompress=auto_decompress,
            )

    async def warm_up(self, url: URL, connections: int, headers: Mapping[str, str] | None = None) -> None:
        """Open `connections` at once by asking for `url`, whatever it answers: let that be short."""
        # Two at once would wait for each other's connections.
        async with self._warming:
            await self._warm_up(url, min(connections, self.max_connections - self.stats().in_use), headers)

    async def _warm_up(self, url: URL, count: int, headers: Mapping[str, str] | None) -> None:
        together = asyncio.Barrier(max(count, 1))

        async def open_one() -> None:
            async with self.session.get(url, headers=headers, allow_redirects=False) as answer:
                await together.wait()  # none is given back, to be taken again, before all are open
                await answer.read()

        await gather([open_one] * count, limit=max(count, 1))

    def stats(self) -> PoolStats:
        """Return how many connections are busy and idle, and how many requests wait for one."""
        return sessions_stats([self._session] if self._session is not None else [], self.max_connections)

    async def aclose(self) -> None:
        """Close the connections. May be called twice."""
        self._is_closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _opened(self, home: tuple[asyncio.AbstractEventLoop, int]) -> aiohttp.ClientSession:
        if self._is_closed:
            raise UnsupportedOperationError(f"the store {self.name} is closed: open a new one")
        if self._session is not None and self._home is not None:
            if self._home[1] == home[1] and not self._home[0].is_closed():
                raise UnsupportedOperationError(
                    f"the store {self.name} belongs to another event loop: open one store per loop"
                )
            abandon(self._session)
        self._home = home
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.max_connections, ttl_dns_cache=300),
            timeout=self.timeout,
            read_bufsize=_READ_BUFFER_BYTES,
            cookie_jar=_NoCookies(),
        )
        # It repeats a PUT whose pooled connection broke: a lost CREATE would then be told of our own object.
        session._retry_connection = False  # noqa: SLF001 - has no public name; tests lose an answer
        return session

    async def _pieces(self, views: list[memoryview], idle: asyncio.Timeout) -> AsyncIterator[Any]:
        loop = asyncio.get_running_loop()

        def prolong() -> None:
            with suppress(RuntimeError):  # the answer came before the whole body was sent: nobody waits any more
                idle.reschedule(loop.time() + self.idle_seconds)

        for view in views:
            for at in range(0, len(view), _PIECE_BYTES):
                prolong()
                yield view[at : at + _PIECE_BYTES]
        prolong()


def abandon(session: aiohttp.ClientSession) -> None:
    """Drop a session whose loop is gone, or is the parent's: closing it would need that loop."""
    connector = session.connector
    session.detach()
    if connector is not None:
        connector._closed = True  # noqa: SLF001 - else it warns that it was not closed
        connector._conns.clear()  # noqa: SLF001
