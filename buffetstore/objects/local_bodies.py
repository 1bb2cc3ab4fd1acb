"""Reading the files of `LocalStore`: an open file outlives its replacement and its deletion."""

# ruff: noqa: D102 - docstrings are those of the contract

from __future__ import annotations

import errno
import os
import stat
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from buffetstore.errors import InvalidInputError, NotFoundError, PreconditionFailedError
from buffetstore.objects.base import Attributes, GetResult, ObjectMeta
from buffetstore.objects.local_files import content_type, mapped, version_of
from buffetstore.objects.ranges import resolve_range
from buffetstore.resilience.threads import in_disk_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from buffetstore.objects.base import ByteRange, Data

CHUNK_BYTES = 1024 * 1024


class Body:
    """An open file and the range of it that is read; the file may be replaced or deleted meanwhile."""

    def __init__(self, root: Path, key: str, *, create: bool) -> None:
        self._root = root
        self._create = create
        self._key = key
        self._file: int | None = None
        self._first = b""
        self._at = 0
        self.range = (0, 0)

    def open(self, path: Path, asked: ByteRange | None, if_match: str | None, head: bool) -> ObjectMeta:
        """Open the file and read the first chunk: a small object takes one trip to a thread."""
        with mapped(self._root, self._key, create=self._create):
            self._file, status = open_file(self._root, path, self._key, if_match)
            if not head:
                start, end = self.range = resolve_range(asked, status.st_size, self._key)
                self._at = start
                self._first = read_span(self._file, start, min(start + CHUNK_BYTES, end), self._key)
            if self.range[0] + len(self._first) == self.range[1]:
                self.close()
        return meta_of(self._key, status)

    async def chunks(self) -> AsyncIterator[Data]:
        while self._at < self.range[1]:
            chunk = self._first or await in_disk_thread(self._next, min(self._at + CHUNK_BYTES, self.range[1]))
            self._first = b""
            self._at += len(chunk)
            yield chunk
        self.close()

    async def rest(self) -> bytes:
        """Return what is left, read at one go: nothing is copied."""
        end = self.range[1]
        try:
            return self._first if self._at + len(self._first) == end else await in_disk_thread(self._next, end)
        finally:
            self._at = end
            self.close()

    def close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            os.close(file)

    async def aclose(self) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def _next(self, end: int) -> bytes:
        if self._file is None:
            raise InvalidInputError(f"the body of {self._key!r} is closed", key=self._key)
        with mapped(self._root, self._key):
            return read_span(self._file, self._at, end, self._key)


class LocalResult(GetResult):
    """An open file, read to its end at one go or piece by piece."""

    def __init__(self, meta: ObjectMeta, body: Body) -> None:
        super().__init__(meta, body.chunks(), range=body.range, aclose=body.aclose)
        self._body = body

    async def read(self) -> bytes:
        return await self._body.rest()


def open_file(root: Path, path: Path, key: str, if_match: str | None) -> tuple[int, os.stat_result]:
    """Open an object's file for reading and return it with its status."""
    # O_NONBLOCK: a named pipe put there by hand must not stop the thread.
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return file, _checked(os.fstat(file), root, key, if_match)
    except BaseException:
        os.close(file)
        raise


def _checked(status: os.stat_result, root: Path, key: str, if_match: str | None) -> os.stat_result:
    if not stat.S_ISREG(status.st_mode):
        raise NotFoundError(f"there is no object {key!r} in {os.fspath(root)!r}: it is a folder", key=key)
    if if_match is not None and version_of(status) != if_match:
        raise PreconditionFailedError(f"{key!r} has version {version_of(status)}, not {if_match}", key=key)
    return status


def read_span(file: int, start: int, end: int, key: str) -> bytes:
    """Return the bytes [start, end) of an open file."""
    data = os.pread(file, end - start, start)
    if len(data) == end - start:
        return data
    parts = [data]
    while data and (start := start + len(data)) < end:
        data = os.pread(file, end - start, start)
        parts.append(data)
    whole = b"".join(parts)
    if start < end:
        raise OSError(errno.EIO, f"the file of {key!r} became shorter while it was read")
    return whole


def meta_of(key: str, status: os.stat_result) -> ObjectMeta:
    """Return the metadata of the file with this status."""
    modified = datetime.fromtimestamp(status.st_mtime, UTC)
    return ObjectMeta(key, status.st_size, version_of(status), modified, Attributes(content_type(key)))
