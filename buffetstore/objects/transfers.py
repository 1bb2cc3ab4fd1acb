"""Large objects: read by ranges side by side, and written in parts, in bounded memory."""

from __future__ import annotations

import asyncio
import ctypes
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Protocol

from buffetstore.errors import (
    ChecksumMismatchError,
    DeadlineExceededError,
    InvalidInputError,
    InvalidRangeError,
    PreconditionFailedError,
    UnavailableError,
)
from buffetstore.objects.base import DEFAULT_ATTRIBUTES, OVERWRITE, Attributes, ByteRange, ObjectMeta, ObjectStore
from buffetstore.objects.checksums import check
from buffetstore.objects.disk import PartFile, SourceFile, checksum_of
from buffetstore.resilience.concurrency import gather
from buffetstore.resilience.threads import in_disk_thread, in_thread

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable

    from buffetstore.objects.base import Checksum, Data, GetResult, PutMode
    from buffetstore.objects.checksums import Algorithm

    Progress = Callable[[int, int], None]

FILE_CHUNK_BYTES = 4 * 1024 * 1024
PART_BYTES = 8 * 1024 * 1024  # long enough that the first byte's delay is a small share of it
CONCURRENCY = 8
_ATTEMPTS = 5


async def get_buffer(
    store: ObjectStore,
    key: str,
    *,
    size: int | None = None,
    if_match: str | None = None,
    concurrency: int = CONCURRENCY,
    part_bytes: int = PART_BYTES,
) -> bytearray:
    """Return a large object whole, its ranges read side by side into one buffer.

    Parameters
    ----------
    size:
        The object's size in bytes, where it is known: all ranges are then asked for at once, and an object of one
        part by one plain request. Without it the first range tells the size.
    if_match:
        The version to read. Without it the newest is read, and read again where it is replaced meanwhile.
    concurrency, part_bytes:
        Ranges in flight, and the bytes of each.

    Raises
    ------
    NotFoundError, PreconditionFailedError
    ChecksumMismatchError
        The bytes twice did not have the checksum that the service gives of the whole object.
    """
    reader = _Reader(store, key, if_match, concurrency, part_bytes)
    sink = _Buffer()
    await reader.read(sink, size)
    return sink.data


async def download_file(
    store: ObjectStore,
    key: str,
    path: str | os.PathLike[str],
    *,
    progress: Progress | None = None,
    concurrency: int = CONCURRENCY,
    part_bytes: int = PART_BYTES,
    deadline_seconds: float | None = None,
) -> ObjectMeta:
    """Write the object to a file, which is replaced only when every byte has come and is verified.

    A large object comes by ranges side by side, each kept as it arrives: a fault costs no more than its own range.

    Parameters
    ----------
    progress:
        Told ``(done, total)`` in bytes.
    concurrency, part_bytes:
        Ranges in flight, and the bytes of each; their product bounds the memory.
    deadline_seconds:
        The time for all of it.

    Raises
    ------
    NotFoundError
        There is no such object, or no folder for the file.
    ChecksumMismatchError
        The bytes twice did not have the checksum that the service gives of the whole object.
    StorageFullError, PermissionDeniedError
        The file cannot be written.
    DeadlineExceededError
        The time ran out; the file is as it was.
    """
    reader = _Reader(store, key, None, concurrency, part_bytes, progress)
    async with within(deadline_seconds, f"the download of {key!r}", key):
        file = await in_disk_thread(PartFile, path)
        try:
            meta = await reader.read(_File(file), None)
            await in_disk_thread(file.finish)
        finally:
            await in_disk_thread(file.discard)
        return meta


async def upload_file(
    store: ObjectStore,
    path: str | os.PathLike[str],
    key: str,
    *,
    mode: PutMode = OVERWRITE,
    attributes: Attributes = DEFAULT_ATTRIBUTES,
    progress: Progress | None = None,
    deadline_seconds: float | None = None,
) -> ObjectMeta:
    """Write a file of any size to `key`; nothing is seen there until all of it is.

    Parameters
    ----------
    progress:
        Told ``(done, total)`` in bytes.
    deadline_seconds:
        The time for all of it.

    Raises
    ------
    NotFoundError
        There is no file at `path`.
    ConflictError
        Somebody wrote to the file meanwhile: nothing was stored.
    DeadlineExceededError
        The time ran out.
    """
    async with within(deadline_seconds, f"the upload of {key!r}", key):
        file = await in_disk_thread(SourceFile, path)
        try:
            return await _send(store, file, key, mode, attributes, progress)
        finally:
            await in_disk_thread(file.close)


async def put_stream(
    store: ObjectStore,
    key: str,
    chunks: AsyncIterable[Data],
    *,
    mode: PutMode = OVERWRITE,
    attributes: Attributes = DEFAULT_ATTRIBUTES,
) -> ObjectMeta:
    """Write what `chunks` gives, of any length, to `key`; where `chunks` fails, nothing is stored."""
    async with await store.start_upload(key, mode=mode, attributes=attributes) as upload:
        async for chunk in chunks:
            await upload.write(chunk)
        return await upload.complete()


async def _send(
    store: ObjectStore, file: SourceFile, key: str, mode: PutMode, attributes: Attributes, progress: Progress | None
) -> ObjectMeta:
    if file.size <= FILE_CHUNK_BYTES:  # one request is cheaper than an upload in parts
        data = await in_disk_thread(file.read, file.size + 1)
        await in_disk_thread(file.check_unchanged)
        meta = await store.put(key, data, mode=mode, attributes=attributes)
        if progress is not None:
            progress(len(data), file.size)
        return meta
    done = 0
    async with await store.start_upload(key, mode=mode, attributes=attributes) as upload:
        # One byte more than there were: a file that grows for ever is noticed, not followed.
        while chunk := await in_disk_thread(file.read, min(FILE_CHUNK_BYTES, file.size + 1 - done)):
            await upload.write(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, file.size)
        await in_disk_thread(file.check_unchanged)
        return await upload.complete()


@asynccontextmanager
async def within(seconds: float | None, what: str, key: str) -> AsyncIterator[None]:
    """Raise `DeadlineExceededError` where the block takes longer; None is any time."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise DeadlineExceededError(f"{what} took longer than {seconds:g} s", key=key) from error


class _Sink(Protocol):
    """Where the ranges go."""

    async def open(self, size: int) -> None:
        """Make room for an object of this size, with nothing of another."""

    async def take(self, result: GetResult) -> int:
        """Take the bytes of one range; return how many came."""

    async def checksum(self, algorithm: Algorithm) -> Checksum:
        """Return the checksum of all that was taken."""


class _Buffer:
    def __init__(self) -> None:
        self.data = bytearray()

    async def open(self, size: int) -> None:
        self.data = _uncleared(size)

    async def take(self, result: GetResult) -> int:
        start, end = result.range
        return await result.readinto(memoryview(self.data)[start:end])

    async def checksum(self, algorithm: Algorithm) -> Checksum:
        return await in_thread(checksum_of, algorithm, self.data)


class _File:
    """A range is gathered in a buffer and written at one go: one trip to a thread, not one for each chunk."""

    def __init__(self, file: PartFile) -> None:
        self._file = file
        self._idle: list[bytearray] = []

    async def open(self, size: int) -> None:
        await in_disk_thread(self._file.resize, size)

    async def take(self, result: GetResult) -> int:
        start, end = result.range
        buffer = self._idle.pop() if self._idle else bytearray()
        if len(buffer) < end - start:
            buffer = _uncleared(end - start)
        with memoryview(buffer) as view:
            count = await result.readinto(view[: end - start])
            await in_disk_thread(self._file.write, view[:count], start)
        self._idle.append(buffer)
        return count

    async def checksum(self, algorithm: Algorithm) -> Checksum:
        return await in_thread(self._file.checksum, algorithm)


class _Reader:
    """Reads one version of an object by ranges, and begins again where that cannot be finished."""

    def __init__(
        self,
        store: ObjectStore,
        key: str,
        if_match: str | None,
        concurrency: int,
        part_bytes: int,
        progress: Progress | None = None,
    ) -> None:
        for name, value in (("concurrency", concurrency), ("part_bytes", part_bytes)):
            if value < 1:
                raise InvalidInputError(f"{name} is {value}: at least 1 is needed", key=key)
        self._store = store
        self._key = key
        self._if_match = if_match
        self._concurrency = concurrency
        self._part_bytes = part_bytes
        self._progress = progress
        self._told = -1

    async def read(self, sink: _Sink, size: int | None) -> ObjectMeta:
        """Bring the whole object to the sink; `size` is what it is thought to have."""
        mismatches = 0
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await self._read(sink, size)
            except ChecksumMismatchError:
                mismatches += 1
                if mismatches == 2:
                    raise
            except InvalidRangeError:  # it is shorter than was thought
                if size is None:
                    raise
            except PreconditionFailedError:  # replaced meanwhile: the new one is read instead
                if self._if_match is not None or attempt == _ATTEMPTS:
                    raise
            size = None
        raise UnavailableError(f"{self._key!r} was not the same for as long as a download takes", key=self._key)

    async def _read(self, sink: _Sink, size: int | None) -> ObjectMeta:
        if size is not None and size > self._part_bytes:
            await sink.open(size)
            return await self._fetch(sink, size, [], self._if_match, 0, is_plain=False)
        asked = ByteRange(0, self._part_bytes) if size is None else None
        try:
            first = await self._store.get(self._key, range=asked, if_match=self._if_match)
        except InvalidRangeError:  # an empty object has no range
            asked, first = None, await self._store.get(self._key, if_match=self._if_match)
        async with first:
            total, version = first.meta.size, first.meta.version
            await sink.open(total)
            return await self._fetch(sink, total, [first], version, first.range[1], is_plain=asked is None)

    async def _fetch(
        self, sink: _Sink, size: int, begun: list[GetResult], version: str | None, offset: int, *, is_plain: bool
    ) -> ObjectMeta:
        """Take what has `begun` and the ranges from `offset` on, all of one version, and compare the checksum.

        An answer that `is_plain`, to a request without a range, was checked by the store.
        """
        metas = [result.meta for result in begun]
        done = 0

        async def take(result: GetResult) -> None:
            nonlocal done
            start, end = result.range
            count = await sink.take(result)
            if count < end - start:
                message = f"the body of {self._key!r} ended after {count} of {end - start} bytes"
                raise UnavailableError(message, key=self._key)
            done += count
            self._tell(done, size)

        async def fetch(start: int) -> None:
            asked = ByteRange(start, min(start + self._part_bytes, size))
            async with await self._store.get(self._key, range=asked, if_match=version) as result:
                metas.append(self._same(metas, result.meta, size))
                await take(result)

        async def describe() -> None:
            if any(meta.checksum for meta in metas):
                return
            async with await self._store.get(self._key, if_match=version, head=True) as result:
                metas.append(self._same(metas, result.meta, size))

        calls: list[Callable[[], Awaitable[None]]] = [partial(take, result) for result in begun]
        calls += [partial(fetch, start) for start in range(offset, size, self._part_bytes)]
        if not is_plain:
            calls.append(describe)  # some services give the checksum of all the bytes only where no range is asked
        await gather(calls, limit=self._concurrency)
        expected = next((meta.checksum for meta in metas if meta.checksum is not None), None)
        if expected is not None and not is_plain:
            check(await sink.checksum(expected.algorithm), expected, self._key)
        return metas[0]

    def _same(self, metas: list[ObjectMeta], meta: ObjectMeta, size: int) -> ObjectMeta:
        version = metas[0].version if metas else meta.version
        if (meta.version, meta.size) != (version, size):
            raise PreconditionFailedError(f"{self._key!r} was replaced while it was read", key=self._key)
        return meta

    def _tell(self, done: int, size: int) -> None:
        if self._progress is not None and done > self._told:  # what is read again is not told again
            self._told = done
            self._progress(done, size)


def _uncleared(size: int) -> bytearray:
    """Return a buffer of `size` bytes to be overwritten: clearing a large one first would hold up the event loop."""
    # CPython's own constructor, which leaves the memory as the system gives it.
    make = ctypes.pythonapi.PyByteArray_FromStringAndSize
    make.restype, make.argtypes = ctypes.py_object, (ctypes.c_char_p, ctypes.c_ssize_t)
    buffer: bytearray = make(None, size)
    return buffer
