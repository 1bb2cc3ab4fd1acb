"""SFTP, by asyncssh: a finished file gets its name by a hard link (put-if-absent) or by OpenSSH's rename (replace)."""

# ruff: noqa: D102 - the docstrings are those of `Files`

from __future__ import annotations

import asyncio
import errno
import secrets
import stat
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import asyncssh
from asyncssh import sftp
from asyncssh.constants import FXF_CREAT, FXF_EXCL, FXF_READ, FXF_WRITE

from buffetstore.errors import StorageError
from buffetstore.objects.fsspec.files import Files, Guarantees, Reader, Status, Writer
from buffetstore.resilience.concurrency import gather, unhurried

if TYPE_CHECKING:
    from collections.abc import Sequence

    from buffetstore.objects.base import Data
    from buffetstore.objects.fsspec.sftp_pool import Session, SFTPPool
    from buffetstore.objects.pool import PoolStats

_BLOCK_BYTES = 255 * 1024  # OpenSSH's largest packet, less its head
_BLOCKS_AT_ONCE = 16
_COPY_BYTES = 64 * 1024 * 1024  # asked of the server at once
# Protocol 3 tells times in seconds, so that two writes of one second and size would look the same. A random access
# time tells them apart. It lies in the future (2033 to 2038), where Linux (relatime, noatime) never moves it.
_TOKEN_BITS = 27
_FIRST_TOKEN = 2**31 - 2**_TOKEN_BITS
_ATTEMPTS = 20
_NEW = FXF_READ | FXF_WRITE | FXF_CREAT | FXF_EXCL
_AGAIN = FXF_READ | FXF_WRITE


class SFTPFiles(Files):
    """The files of an SFTP server."""

    def __init__(self, pool: SFTPPool) -> None:
        self.pool = pool
        self._promised = Guarantees()
        self._is_asked = False
        self._keeps_tokens: bool | None = None

    @property
    def guarantees(self) -> Guarantees:
        return self._promised

    async def promised(self) -> Guarantees:
        async with self.pool.lease() as session:
            return self._learn(session)

    async def status(self, path: str) -> Status:
        async with self.pool.lease() as session:
            return await self._status(session, path)

    async def entries(self, folder: str) -> Sequence[tuple[str, Status]]:
        found = []
        async with self.pool.lease() as session:
            async with self.pool.request(session, folder):
                # As bytes: one name that is not UTF-8 must not hide the others.
                names = await session.client.readdir(folder.encode())
            for entry in names:
                raw = entry.filename if isinstance(entry.filename, bytes) else entry.filename.encode()
                with suppress(UnicodeDecodeError):
                    name = raw.decode()
                    if name not in {".", ".."}:
                        found.append((name, await self._listed(session, f"{folder}/{name}", entry.attrs)))
        return found

    async def reader(self, path: str) -> Reader:
        reader = SFTPReader(self, path)
        try:
            await reader.open()
        except BaseException:
            await reader.aclose()
            raise
        return reader

    def writer(self, path: str) -> Writer:
        return SFTPWriter(self, path)

    async def create(self, source: str, target: str) -> None:
        async with self.pool.lease() as session:
            try:
                async with self.pool.request(session, target):
                    await session.client.link(source, target)
            except OSError as error:
                raise await self._taken(session, target, error) from error
            with suppress(OSError):  # the hidden name; it is swept later
                async with self.pool.request(session, source):
                    await session.client.remove(source)

    async def replace(self, source: str, target: str) -> None:
        async with self.pool.lease() as session:
            if self._learn(session).replace != "atomic":
                return await self._replace_with_gap(session, source, target)
            try:
                async with self.pool.request(session, target):
                    await session.client.posix_rename(source, target)
            except OSError as error:
                raise await self._taken(session, target, error) from error
            return None

    async def make_folder(self, path: str) -> None:
        async with self.pool.lease() as session:
            try:
                async with self.pool.request(session, path):
                    await session.client.mkdir(path)
            except OSError as error:
                raise await self._taken(session, path, error) from error

    async def remove(self, path: str) -> None:
        async with self.pool.lease() as session, self.pool.request(session, path):
            await session.client.remove(path)

    async def remove_folder(self, path: str) -> None:
        async with self.pool.lease() as session, self.pool.request(session, path):
            await session.client.rmdir(path)

    def pool_stats(self) -> PoolStats:
        return self.pool.stats()

    async def warm_up(self, connections: int) -> None:
        await self.pool.warm_up(connections)
        await self.promised()

    async def aclose(self) -> None:
        await self.pool.aclose()

    def told(self, attributes: asyncssh.SFTPAttrs) -> Status:
        """Return what a server's attributes mean."""
        mode = attributes.permissions or 0
        kind = "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "other"
        size, modified, token = attributes.size or 0, attributes.mtime or 0, int(attributes.atime or 0)
        version = f"{int(modified):x}-{size:x}"
        if token >= _FIRST_TOKEN:
            version += f"-{token:x}"
        return Status(kind, size, datetime.fromtimestamp(modified, UTC), version)  # type: ignore[arg-type]

    async def opened(self, session: Session, path: str, flags: int) -> asyncssh.SFTPClientFile:
        """Open a file; what the protocol calls a failure is told by a look at the path."""
        try:
            async with self.pool.request(session, path):
                # Bytes, and one request for each call: ours run together by a hand that ends them when cancelled.
                return await session.client.open(path, flags, encoding=None, block_size=0)
        except OSError as error:
            if error.errno != errno.EIO or flags & FXF_WRITE:
                raise
            if (await self._status(session, path)).kind == "folder":
                raise IsADirectoryError(errno.EISDIR, "is a folder", path) from error
            raise

    async def sealed(self, session: Session, file: asyncssh.SFTPClientFile) -> Status:
        """Return the status of a finished file, whose version is made like no other's where the server can keep it."""
        found = await file.stat()
        if self._keeps_tokens is False:
            return self.told(found)
        token = _FIRST_TOKEN + secrets.randbelow(2**_TOKEN_BITS)
        try:
            await file.setstat(asyncssh.SFTPAttrs(atime=token, mtime=found.mtime))
        except (sftp.SFTPOpUnsupported, sftp.SFTPPermissionDenied):
            self._keeps_tokens = False
        if self._keeps_tokens is None and found.size:
            await file.read(1, 0)  # on some mounts reading moves the access time: then it tells nothing
            self._keeps_tokens = (await file.stat()).atime == token
        if self._keeps_tokens is False:
            self._is_asked = False
            self._learn(session)
        found.atime = token if self._keeps_tokens is not False else None
        return self.told(found)

    async def _replace_with_gap(self, session: Session, source: str, target: str) -> None:
        for _ in range(_ATTEMPTS):
            try:
                async with self.pool.request(session, target):
                    return await session.client.rename(source, target)
            except OSError as error:
                if error.errno not in {errno.EIO, errno.EEXIST, errno.EISDIR, errno.ENOTEMPTY}:
                    raise
            with suppress(FileNotFoundError):  # another writer was faster
                if (await self._status(session, target)).kind == "folder":
                    raise IsADirectoryError(errno.EISDIR, "is a folder", target)
                async with self.pool.request(session, target):
                    await session.client.remove(target)
        raise OSError(errno.EBUSY, "others keep writing it", target)

    def _learn(self, session: Session) -> Guarantees:
        """Note what the server can do: it said so when the session began."""
        if not self._is_asked:
            # asyncssh gives these answers no public name.
            handler = session.client._handler  # noqa: SLF001
            can_link = handler._supports_hardlink or handler.version >= 6  # noqa: SLF001
            can_replace = handler._supports_posix_rename or handler.version >= 5  # noqa: SLF001
            missing = [
                *([] if can_link else ["the server has no hard links (hardlink@openssh.com)"]),
                *([] if can_replace else ["it cannot replace a file in one step (posix-rename@openssh.com)"]),
                *([] if self._keeps_tokens is not False else ["it moves access times, so versions tell whole seconds"]),
            ]
            self._promised = Guarantees(
                create=can_link,
                replace="atomic" if can_replace else "gap",
                unique_versions=self._keeps_tokens is not False,
                reason="; ".join(missing),
            )
            self._is_asked = True
        return self._promised

    async def _status(self, session: Session, path: str) -> Status:
        async with self.pool.request(session, path):
            return self.told(await session.client.stat(path))

    async def _listed(self, session: Session, path: str, attributes: asyncssh.SFTPAttrs) -> Status:
        found = self.told(attributes)
        if stat.S_ISLNK(attributes.permissions or 0):
            with suppress(OSError):  # a link to nothing
                linked = await self._status(session, path)
                return linked if linked.kind == "file" else found
        return found

    async def _taken(self, session: Session, path: str, error: OSError) -> OSError:
        """Return `FileExistsError` for a failure whose cause is that `path` is there: the protocol does not say so."""
        if error.errno in {errno.EIO, errno.EEXIST, errno.EISDIR, errno.ENOTEMPTY}:
            with suppress(OSError):
                await self._status(session, path)
                return FileExistsError(errno.EEXIST, "the name is taken", path)
        return error


class _Handle:
    """A remote file and its share of a session."""

    def __init__(self, files: SFTPFiles, path: str) -> None:
        self.files = files
        self.path = path
        self.session: Session | None = None
        self.file: asyncssh.SFTPClientFile | None = None

    async def open(self, flags: int) -> tuple[Session, asyncssh.SFTPClientFile]:
        """Open the file, or return it if it is."""
        if self.session is not None and self.file is not None and self.session.is_usable:
            return self.session, self.file
        await self.aclose()
        self.session = await self.files.pool.take()
        self.file = await self.files.opened(self.session, self.path, flags)
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
                    async with self.files.pool.request(session, self.path):
                        await file.close()
        finally:
            session.users -= 1


class SFTPReader(Reader):
    """A remote file open for reading: what the handle shows never changes, as files are only ever replaced."""

    def __init__(self, files: SFTPFiles, path: str) -> None:
        self._handle = _Handle(files, path)
        self._pool = files.pool
        self._tell = files.told

    @property
    def handle(self) -> _Handle:
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

    def __init__(self, files: SFTPFiles, path: str) -> None:
        self._handle = _Handle(files, path)
        self._files = files
        self._pool = files.pool
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
            sealed = await self._files.sealed(session, file)
        if sealed.size != size:
            raise OSError(errno.EIO, f"the file has {sealed.size} bytes, not the {size} written", self._path)
        await self._handle.aclose()
        return sealed

    async def discard(self) -> None:
        await self._handle.aclose()
        if self._is_tried:
            with suppress(OSError, StorageError):
                await self._files.remove(self._path)

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
