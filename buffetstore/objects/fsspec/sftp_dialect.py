"""What an SFTP server can do, and what its answers mean."""

from __future__ import annotations

import errno
import secrets
import stat
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import asyncssh
from asyncssh import sftp
from asyncssh.constants import FXF_WRITE

from buffetstore.objects.fsspec.files import Guarantees, Status

if TYPE_CHECKING:
    from buffetstore.objects.fsspec.sftp_pool import Session, SFTPPool

# Protocol 3 tells times in seconds, so that two writes of one second and size would look the same. A random access
# time tells them apart. It lies in the future (2033 to 2038), where Linux (relatime, noatime) never moves it.
_TOKEN_BITS = 27
_FIRST_TOKEN = 2**31 - 2**_TOKEN_BITS


class Dialect:
    """One server, as its connections come to know it."""

    def __init__(self, pool: SFTPPool) -> None:
        self.pool = pool
        self.guarantees = Guarantees()
        self._is_asked = False
        self._keeps_tokens: bool | None = None

    def learn(self, session: Session) -> Guarantees:
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
            self.guarantees = Guarantees(
                create=can_link,
                replace="atomic" if can_replace else "gap",
                unique_versions=self._keeps_tokens is not False,
                reason="; ".join(missing),
            )
            self._is_asked = True
        return self.guarantees

    def told(self, attributes: asyncssh.SFTPAttrs) -> Status:
        """Return what a server's attributes mean."""
        mode = attributes.permissions or 0
        kind = "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "other"
        size, modified, token = attributes.size or 0, attributes.mtime or 0, int(attributes.atime or 0)
        version = f"{int(modified):x}-{size:x}"
        if token >= _FIRST_TOKEN:
            version += f"-{token:x}"
        return Status(kind, size, datetime.fromtimestamp(modified, UTC), version)  # type: ignore[arg-type]

    async def status(self, session: Session, path: str) -> Status:
        """Return what is at `path`."""
        async with self.pool.request(session, path):
            return self.told(await session.client.stat(path))

    async def opened(self, session: Session, path: str, flags: int) -> asyncssh.SFTPClientFile:
        """Open a file; what the protocol calls a failure is told by a look at the path."""
        try:
            async with self.pool.request(session, path):
                # Bytes, and one request for each call: ours run together by a hand that ends them when cancelled.
                return await session.client.open(path, flags, encoding=None, block_size=0)
        except OSError as error:
            if error.errno != errno.EIO or flags & FXF_WRITE:
                raise
            if (await self.status(session, path)).kind == "folder":
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
            self.learn(session)
        found.atime = token if self._keeps_tokens is not False else None
        return self.told(found)

    async def taken(self, session: Session, path: str, error: OSError) -> OSError:
        """Return `FileExistsError` for a failure whose cause is that `path` is there: the protocol does not say so."""
        if error.errno in {errno.EIO, errno.EEXIST, errno.EISDIR, errno.ENOTEMPTY}:
            with suppress(OSError):
                await self.status(session, path)
                return FileExistsError(errno.EEXIST, "the name is taken", path)
        return error
