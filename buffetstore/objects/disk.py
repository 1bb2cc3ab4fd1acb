"""Files of the caller's own, which transfers read and write: blocking functions, run in threads."""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from buffetstore.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    StorageError,
    StorageFullError,
)
from buffetstore.objects.checksums import RunningChecksum

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buffetstore.objects.base import Checksum, Data
    from buffetstore.objects.checksums import Algorithm

HASHED_BYTES = 256 * 1024  # pieces that stay in the CPU's cache


@contextmanager
def mapped(path: str | os.PathLike[str], doing: str) -> Iterator[None]:
    """Raise what the operating system says of a file as one of our errors."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        name = os.fspath(path)
        message = f"cannot {doing} {name!r}: {error.strerror or error}"
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise StorageFullError(f"{message}; make room, nothing was put in its place", key=name) from error
        if error.errno in {errno.ENOENT, errno.ENOTDIR}:
            raise NotFoundError(f"{message}; there is no such file or folder", key=name) from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise PermissionDeniedError(message, key=name) from error
        if error.errno in {errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL}:
            raise InvalidInputError(message, key=name) from error
        raise StorageError(message, key=name) from error


class SourceFile:
    """A file to be sent, which must not change meanwhile."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        with mapped(path, "read"):
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._status = os.fstat(self._file)
        self._done = 0

    @property
    def size(self) -> int:
        """The size in bytes when it was opened."""
        return self._status.st_size

    def read(self, count: int) -> bytes:
        """Return the next bytes, at most so many; none at the end."""
        with mapped(self._path, "read"):
            data = os.pread(self._file, count, self._done)
        self._done += len(data)
        return data

    def check_unchanged(self) -> None:
        """Raise `ConflictError` if what was read may be of two states of the file."""
        with mapped(self._path, "read"):
            now = os.fstat(self._file)
        if (now.st_size, now.st_mtime_ns, self._done) != (self._status.st_size, self._status.st_mtime_ns, self.size):
            name = os.fspath(self._path)
            raise ConflictError(
                f"{name!r} was changed while it was being uploaded ({self.size} bytes at first, {self._done} were "
                f"read, {now.st_size} now): nothing was stored. Upload it again when nobody writes to it",
                key=name,
            )

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class PartFile:
    """A file that comes in parts, in any order, beside its place; it is put there when all is written."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._target = Path(path)
        self._part = self._target.with_name(f".{self._target.name}.{secrets.token_hex(4)}.part")
        with mapped(path, "write"):
            self._file = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        self._is_open = True

    def resize(self, size: int) -> None:
        """Make the file so long; bytes not written yet are zero."""
        with mapped(self._target, "write"):
            os.ftruncate(self._file, size)

    def write(self, data: memoryview, offset: int) -> None:
        """Write all of `data` from `offset` on."""
        with mapped(self._target, "write"):
            while data:
                written = os.pwrite(self._file, data, offset)
                data, offset = data[written:], offset + written

    def checksum(self, algorithm: Algorithm) -> Checksum:
        """Return the checksum of what was written, read back."""
        running, at = RunningChecksum(algorithm), 0
        with mapped(self._target, "read"):
            while piece := os.pread(self._file, HASHED_BYTES, at):
                running.update(piece)
                at += len(piece)
        return running.value

    def finish(self) -> None:
        """Put the file in its place, durably."""
        with mapped(self._target, "write"):
            os.fsync(self._file)
            self._part.replace(self._target)
            self._close()

    def discard(self) -> None:
        """Forget the file unless it is in its place. May be called twice."""
        if self._is_open:
            with suppress(OSError):  # the reason of the failure is worth more than that of its cleaning
                self._close()
            with suppress(OSError):
                self._part.unlink(missing_ok=True)

    def _close(self) -> None:
        self._is_open = False
        os.close(self._file)


def checksum_of(algorithm: Algorithm, data: Data) -> Checksum:
    """Return the checksum of a large buffer, in pieces: the interpreter's lock is let go between them."""
    running, view = RunningChecksum(algorithm), memoryview(data)
    for at in range(0, len(view), HASHED_BYTES):
        running.update(view[at : at + HASHED_BYTES])
    return running.value
