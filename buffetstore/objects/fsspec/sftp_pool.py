"""SSH connections with one SFTP session each: opened with their first use, shared, and replaced when they break."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncssh

from buffetstore.errors import UnsupportedOperationError
from buffetstore.objects.fsspec.sftp_errors import FAILURES, refused, translated
from buffetstore.objects.pool import PoolStats
from buffetstore.resilience.concurrency import gather

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

# A session answers its requests one after the other, but many may be on their way: a further connection costs more.
_USERS = 4


@dataclass(slots=True, eq=False)
class Session:
    """One connection and its SFTP session."""

    connection: asyncssh.SSHClientConnection
    client: asyncssh.SFTPClient
    users: int = 0
    is_broken: bool = False

    @property
    def is_usable(self) -> bool:
        """Whether requests can be sent."""
        return not self.is_broken and not self.connection.is_closed()

    def drop(self) -> None:
        """Give the connection up, with all that is on its way."""
        self.is_broken = True
        self.connection.abort()


class SFTPPool:
    """At most `max_connections` connections to one server, in one event loop.

    Parameters
    ----------
    url:
        For messages.
    arguments:
        Those of `asyncssh.connect`, secrets among them.
    max_connections:
        A further one is opened when each has several users.
    timeout_seconds:
        How long a connection may take to open, and an answer to come.
    """

    def __init__(self, url: str, arguments: Mapping[str, Any], *, max_connections: int, timeout_seconds: float) -> None:
        self.url = url
        self.timeout_seconds = timeout_seconds
        self._arguments = arguments
        self._limit = max_connections
        self._sessions: list[Session] = []
        self._opening = asyncio.Lock()
        self._home: tuple[asyncio.AbstractEventLoop, int] | None = None
        self._is_closed = False

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Session]:
        """Give a session for as long as the block lasts."""
        session = await self.take()
        try:
            yield session
        finally:
            session.users -= 1

    @asynccontextmanager
    async def request(self, session: Session, path: str = "") -> AsyncIterator[None]:
        """Raise what a request raises as the operating system would; give the connection up when no answer comes."""
        if not session.is_usable:
            raise ConnectionResetError("the connection broke")
        try:
            async with asyncio.timeout(self.timeout_seconds):
                yield
        except TimeoutError as error:
            session.drop()
            raise TimeoutError(f"no answer within {self.timeout_seconds} s") from error
        except FAILURES as error:
            failure = translated(error, path)
            if isinstance(failure, ConnectionError):
                session.drop()
            raise failure from error

    async def take(self) -> Session:
        """Return a session with one user more, whom the caller takes off."""
        self._settle()
        session = self._least_busy()
        if session is None or (self._may_grow(session) and not self._opening.locked()):
            async with self._opening:
                session = self._least_busy()
                if session is None or self._may_grow(session):
                    session = await self._open()
                    self._sessions.append(session)
        session.users += 1
        return session

    def stats(self) -> PoolStats:
        """Return how many connections are busy and idle."""
        usable = [session for session in self._sessions if session.is_usable]
        busy = sum(session.users > 0 for session in usable)
        return PoolStats(busy, len(usable) - busy, self._limit)

    async def warm_up(self, connections: int) -> None:
        """Open so many connections."""
        self._settle()

        async def open_one() -> None:
            async with self._opening:
                if len(self._sessions) < min(connections, self._limit):
                    self._sessions.append(await self._open())

        await gather([open_one] * min(connections, self._limit))

    async def aclose(self) -> None:
        """Close the connections. May be called twice."""
        self._is_closed = True
        sessions, self._sessions = self._sessions, []
        if self._home is None or self._home != (asyncio.get_running_loop(), os.getpid()):
            return  # closing them would need their loop
        for session in sessions:
            session.connection.close()
        for session in sessions:
            try:
                async with asyncio.timeout(self.timeout_seconds):
                    await session.connection.wait_closed()
            except TimeoutError:
                session.drop()

    def _settle(self) -> None:
        """Make sure that this is the pool's loop and process; forget broken connections."""
        if self._is_closed:
            raise UnsupportedOperationError(f"the store {self.url} is closed: open a new one")
        home = (asyncio.get_running_loop(), os.getpid())
        if self._home is not None and self._home != home:
            if self._home[1] == home[1] and not self._home[0].is_closed():
                raise UnsupportedOperationError(
                    f"the store {self.url} belongs to another event loop: open one store per loop"
                )
            self._sessions = []
            self._opening = asyncio.Lock()
        self._home = home
        self._sessions = [session for session in self._sessions if session.is_usable]

    def _least_busy(self) -> Session | None:
        usable = (session for session in self._sessions if session.is_usable)
        return min(usable, key=lambda session: session.users, default=None)

    def _may_grow(self, session: Session) -> bool:
        return session.users >= _USERS and len(self._sessions) < self._limit

    async def _open(self) -> Session:
        connection: asyncssh.SSHClientConnection | None = None
        try:
            async with asyncio.timeout(self.timeout_seconds):
                connection = await asyncssh.connect(**self._arguments)
                return Session(connection, await connection.start_sftp_client())
        except BaseException as error:
            if connection is not None:
                connection.abort()
            if isinstance(error, (*FAILURES, ValueError)):
                raise refused(error, self.url, self.timeout_seconds) from error
            raise
