"""Remote files, open for reading and writing."""

# ruff: noqa: D102 - the docstrings are those of `Reader` and `Writer`

from __future__ import annotations

import asyncio
import errno
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from asyncssh import sftp
from asyncssh.constants import FXF_CREAT, FXF_EXCL, FXF_READ, FXF_WRITE

from buffetstore.errors import StorageError
from buffetstore.objects.fsspec.files import Reader, Status, Writer
from buffetstore.resilience.concurrency import gather, unhurried

if TYPE_CHECKING:
    import asyncssh

    from buffetstore.objects.base import Data
    from buffetstore.objects.fsspec.sftp_dialect import Dialect
    from buffetstore.objects.fsspec.sftp_pool import Session

_BLOCK_BYTES = 255 * 1024  # OpenSSH's largest packet, less its head
_BLOCKS_AT_ONCE = 16
_COPY_BYTES = 64 * 1024 * 1024  # asked of the server at once
_NEW = FXF_READ | FXF_WRITE | FXF_CREAT | FXF_EXCL
_AGAIN = FXF_READ | FXF_WRITE


class Handle:
    """A remote file and its share of a session."""

    def __init__(self, dialect: Dialect, path: str) -> None:
        self.dialect = dialect
        self.path = path
        self.session: Session | None = None
        self.file: asyncssh.SFTPClientFile | None = None

    async def open(self, flags: int) -> tuple[Session, asyncssh.SFTPClientFile]:
        """Open the file, or return it if it is."""
        if self.session is not None and self.file is not None and self.session.is_usable:
            return self.session, self.file
        await self.aclose()
        self.session = await self.dialect.pool.take()
        self.file = await self.dialect.opened(self.session, self.path, flags)
        return self.session, self.file

    async def aclose(self) -> None:
        """Close and give the session back."""
        session, self.session = self.session, None
        file, self.file = self.file, None
        if session is None:
            return
        try:
            if file is not None and session.is_usable:
                with suppress(OSError):
                    async with self.dialect.pool.request(session, self.path):
                        await file.close()
        finally:
            session.users -= 1


class SFTPReader(Reader):
    """A remote file open for reading: what the handle shows never changes, as files are only ever replaced."""

    def __init__(self, dialect: Dialect, path: str) -> None:
        self._handle = Handle(dialect, path)
        self._pool = dialect.pool
        self._tell = dialect.told

    @property
    def handle(self) -> Handle:
        """What a copy on the server needs."""
        return self._handle

    async def open(self) -> None:
        """Open, and learn the status."""
        session, file = await self._handle.open(FXF_READ)
        async with self._pool.request(session, self._handle.path):
            self.status = self._tell(await file.stat())

    async def read(self, start: int, end: int) -> bytes:
        spans = [(at, min(at + _BLOCK_BYTES, end)) for at in range(start, end, _BLOCK_BYTES)]
        if len(spans) == 1:
            return await self._read(start, end)
        return b"".join(await gather([partial(self._read, *span) for span in spans], limit=_BLOCKS_AT_ONCE))

    async def aclose(self) -> None:
        await self._handle.aclose()

    async def _read(self, start: int, end: int) -> bytes:
        session, file = self._handle.session, self._handle.file
        if session is None or file is None:
            raise ConnectionResetError("the file is closed")
        data = b""
        while start + len(data) < end:
            async with self._pool.request(session, self._handle.path):
                more: bytes = await file.read(end - start - len(data), start + len(data))
            if not more:
                raise OSError(errno.EIO, "the file became shorter while it was read", self._handle.path)
            data = data + more if data else more
        return data


class SFTPWriter(Writer):
    """A remote file being written; a connection that broke is replaced, and only the piece in hand is sent again."""

    def __init__(self, dialect: Dialect, path: str) -> None:
        self._handle = Handle(dialect, path)
        self._dialect = dialect
        self._pool = dialect.pool
        self._path = path
        self._is_begun = False
        self._is_tried = False

    async def open(self) -> None:
        await self._opened()

    async def write(self, data: Data, offset: int) -> None:
        session, file = await self._opened()
        view = memoryview(data)

        async def send(at: int) -> None:
            async with self._pool.request(session, self._path):
                await file.write(bytes(view[at : at + _BLOCK_BYTES]), offset + at)

        try:
            if len(view) <= _BLOCK_BYTES:
                await send(0)
            else:
                blocks = [partial(send, at) for at in range(0, len(view), _BLOCK_BYTES)]
                await gather(blocks, limit=_BLOCKS_AT_ONCE)
        except OSError as error:
            raise await self._full(session, error) from error

    async def finish(self, size: int) -> Status | None:
        session, file = await self._opened()
        async with self._pool.request(session, self._path):
            with suppress(sftp.SFTPOpUnsupported):
                await file.fsync()
            sealed = await self._dialect.sealed(session, file)
        if sealed.size != size:
            raise OSError(errno.EIO, f"the file has {sealed.size} bytes, not the {size} written", self._path)
        await self._handle.aclose()
        return sealed

    async def discard(self) -> None:
        await self._handle.aclose()
        if self._is_tried:
            with suppress(OSError, StorageError):
                async with self._pool.lease() as session, self._pool.request(session, self._path):
                    await session.client.remove(self._path)

    async def copy_from(self, source: Reader) -> None:
        theirs = source.handle if isinstance(source, SFTPReader) else None
        if theirs is None or theirs.file is None or theirs.session is None:
            return await super().copy_from(source)
        session, file = await self._opened()
        if theirs.session is not session or not session.client.supports_remote_copy:
            return await super().copy_from(source)
        for at in range(0, source.status.size, _COPY_BYTES):
            length = min(_COPY_BYTES, source.status.size - at)
            async with self._pool.request(session, self._path):
                await session.client.remote_copy(theirs.file, file, at, length, at)
        return None

    async def _opened(self) -> tuple[Session, asyncssh.SFTPClientFile]:
        flags = _AGAIN if self._is_begun else _NEW
        self._is_tried = True
        # Carried to its end: an answer that nobody takes would leave the file behind, open.
        opened = await unhurried(self._handle.open(flags))
        self._is_begun = True
        return opened

    async def _full(self, session: Session, error: OSError) -> OSError:
        """Return the error as that of a full disk if it is one: OpenSSH says no more than "Failure"."""
        if error.errno == errno.EIO:
            with suppress(OSError, asyncio.TimeoutError):
                async with self._pool.request(session, self._path):
                    if (await session.client.statvfs(self._path)).bavail == 0:
                        return OSError(errno.ENOSPC, "no space left on the server", self._path)
        return error
