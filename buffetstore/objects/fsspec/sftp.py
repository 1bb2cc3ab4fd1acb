"""SFTP, by asyncssh: a finished file gets its name by a hard link (put-if-absent) or by OpenSSH's rename (replace)."""

# ruff: noqa: D102 - the docstrings are those of `Files`

from __future__ import annotations

import errno
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from buffetstore.objects.fsspec.files import Files
from buffetstore.objects.fsspec.sftp_dialect import Dialect
from buffetstore.objects.fsspec.sftp_io import SFTPReader, SFTPWriter

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncssh

    from buffetstore.objects.fsspec.files import Guarantees, Reader, Status, Writer
    from buffetstore.objects.fsspec.sftp_pool import Session, SFTPPool
    from buffetstore.objects.pool import PoolStats

_ATTEMPTS = 20


class SFTPFiles(Files):
    """The files of an SFTP server."""

    def __init__(self, pool: SFTPPool) -> None:
        self.pool = pool
        self._dialect = Dialect(pool)

    @property
    def guarantees(self) -> Guarantees:
        return self._dialect.guarantees

    async def promised(self) -> Guarantees:
        async with self.pool.lease() as session:
            return self._dialect.learn(session)

    async def status(self, path: str) -> Status:
        async with self.pool.lease() as session:
            return await self._dialect.status(session, path)

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
        reader = SFTPReader(self._dialect, path)
        try:
            await reader.open()
        except BaseException:
            await reader.aclose()
            raise
        return reader

    def writer(self, path: str) -> Writer:
        return SFTPWriter(self._dialect, path)

    async def create(self, source: str, target: str) -> None:
        async with self.pool.lease() as session:
            try:
                async with self.pool.request(session, target):
                    await session.client.link(source, target)
            except OSError as error:
                raise await self._dialect.taken(session, target, error) from error
            with suppress(OSError):  # the hidden name; it is swept later
                async with self.pool.request(session, source):
                    await session.client.remove(source)

    async def replace(self, source: str, target: str) -> None:
        async with self.pool.lease() as session:
            if self._dialect.learn(session).replace != "atomic":
                return await self._replace_with_gap(session, source, target)
            try:
                async with self.pool.request(session, target):
                    await session.client.posix_rename(source, target)
            except OSError as error:
                raise await self._dialect.taken(session, target, error) from error
            return None

    async def make_folder(self, path: str) -> None:
        async with self.pool.lease() as session:
            try:
                async with self.pool.request(session, path):
                    await session.client.mkdir(path)
            except OSError as error:
                raise await self._dialect.taken(session, path, error) from error

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

    async def _replace_with_gap(self, session: Session, source: str, target: str) -> None:
        for _ in range(_ATTEMPTS):
            try:
                async with self.pool.request(session, target):
                    return await session.client.rename(source, target)
            except OSError as error:
                if error.errno not in {errno.EIO, errno.EEXIST, errno.EISDIR, errno.ENOTEMPTY}:
                    raise
            with suppress(FileNotFoundError):  # another writer was faster
                if (await self._dialect.status(session, target)).kind == "folder":
                    raise IsADirectoryError(errno.EISDIR, "is a folder", target)
                async with self.pool.request(session, target):
                    await session.client.remove(target)
        raise OSError(errno.EBUSY, "others keep writing it", target)

    async def _listed(self, session: Session, path: str, attributes: asyncssh.SFTPAttrs) -> Status:
        found = self._dialect.told(attributes)
        if stat.S_ISLNK(attributes.permissions or 0):
            with suppress(OSError):  # a link to nothing
                linked = await self._dialect.status(session, path)
                return linked if linked.kind == "file" else found
        return found
