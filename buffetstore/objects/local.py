"""Objects as files under one folder, durable and with true put-if-absent."""

# ruff: noqa: A002, D102 - names and docstrings are those of the contract

from __future__ import annotations

import errno
import os
import shutil
import stat
import time
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote

from buffetstore.errors import (
    ConfigurationError,
    InvalidInputError,
    InvalidKeyError,
    NotFoundError,
    PreconditionFailedError,
    UnsupportedOperationError,
)
from buffetstore.objects.base import (
    DEFAULT_ATTRIBUTES,
    OVERWRITE,
    Attributes,
    ByteRange,
    Capabilities,
    Data,
    GetResult,
    Listing,
    ObjectMeta,
    ObjectStore,
    PutMode,
    Upload,
)
from buffetstore.objects.keys import checked_key
from buffetstore.objects.local_files import (
    RESERVED,
    TemporaryFile,
    content_type,
    mapped,
    missing_root,
    remove,
    sweep,
    sync_folder,
    version_of,
)
from buffetstore.objects.local_walk import level, walk
from buffetstore.objects.ranges import checked_range, coalesce, cut, resolve_range
from buffetstore.resilience.threads import in_disk_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from buffetstore.objects.local_walk import Found

CHUNK_BYTES = 1024 * 1024
PAGE = 1000


class LocalStore(ObjectStore):
    """Files under `root` (POSIX). An object is a regular file; links to folders are not followed by listings.

    Parameters
    ----------
    root:
        The folder. The name `.buffetstore` below it is kept for temporary files and locks.
    create:
        Make `root` with the first write if it is missing; until then it counts as empty.

    Notes
    -----
    A folder holds no metadata: `capabilities.metadata` is False, and the content type is told by the key's extension.
    One name cannot be both an object and a prefix of others: such a write is refused with `UnsupportedOperationError`.
    """

    def __init__(self, root: str | os.PathLike[str], *, create: bool = False) -> None:
        # Bound now, so that a later change of directory moves nothing; asks the kernel, never the disk.
        self._root = Path(os.path.normpath(os.fsdecode(os.getcwdb()) / Path(root)))  # noqa: PTH109
        self._create = create
        self._swept = False

    @classmethod
    def from_url(cls, url: str, *, create: bool = False) -> Self:
        """Return the store of `file:///absolute/path`, or of a plain path."""
        if url.startswith("file:"):
            rest = url.removeprefix("file:").removeprefix("//").removeprefix("localhost")
            if not rest.startswith("/"):
                raise ConfigurationError(f"{url!r} is not absolute: write file:///absolute/path, or a plain path")
            url = unquote(rest)
        return cls(url, create=create)

    @property
    def url(self) -> str:
        return self._root.as_uri()

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(metadata=False)

    async def put(
        self, key: str, data: Data, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> ObjectMeta:
        path = self._path(key)
        _check_attributes(key, attributes)
        return await in_disk_thread(self._put, key, path, data, mode)

    async def start_upload(
        self, key: str, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> Upload:
        path = self._path(key)
        _check_attributes(key, attributes)
        upload = _LocalUpload(self._root, key, path, mode)
        try:
            await in_disk_thread(upload.open, self._new_file)
        except BaseException:
            await upload.abort()
            raise
        return upload

    async def get(
        self,
        key: str,
        *,
        range: ByteRange | None = None,
        if_match: str | None = None,
        head: bool = False,
    ) -> GetResult:
        path = self._path(key)
        body = _Body(self._root, key, create=self._create)
        try:
            meta = await in_disk_thread(body.open, path, range, if_match, head)
        except BaseException:
            body.close()
            raise
        return _LocalResult(meta, body)

    async def get_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, if_match: str | None = None
    ) -> list[bytes]:
        path = self._path(key)
        return await in_disk_thread(self._get_ranges, key, path, ranges, if_match)

    async def delete(self, keys: Sequence[str]) -> None:
        paths = [(key, self._path(key)) for key in keys]
        await in_disk_thread(self._delete, paths)

    async def list_objects(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectMeta]:
        found = walk(self._root, prefix, after, create=self._create)
        while page := await in_disk_thread(self._page, found, prefix):
            for meta in page:
                yield meta

    async def list_prefixes(self, prefix: str = "") -> Listing:
        if prefix and not prefix.endswith("/"):
            raise InvalidInputError(f"prefix {prefix!r} must be empty or end with '/'", key=prefix)
        return await in_disk_thread(self._level, prefix)

    async def copy(self, source: str, target: str, *, mode: PutMode = OVERWRITE) -> ObjectMeta:
        return await in_disk_thread(self._copy, source, self._path(source), target, self._path(target), mode)

    async def aclose(self) -> None:
        """Nothing is held between calls."""

    # What follows blocks, and runs in threads.

    def _new_file(self) -> TemporaryFile:
        if not self._swept:
            self._swept = True
            sweep(self._root, time.time())
        return TemporaryFile(self._root, create=self._create)

    def _put(self, key: str, path: Path, data: Data, mode: PutMode) -> ObjectMeta:
        with mapped(self._root, key, writing=True):
            file = self._new_file()
            try:
                file.write(data)
                return _meta(key, file.place(path, key, mode))
            finally:
                file.discard()

    def _get_ranges(self, key: str, path: Path, ranges: Sequence[tuple[int, int]], if_match: str | None) -> list[bytes]:
        with mapped(self._root, key, create=self._create):
            file, status = _open(self._root, path, key, if_match)
            try:
                wanted = [checked_range(start, end, status.st_size, key) for start, end in ranges]
                joined = coalesce(wanted)
                return cut(wanted, joined, [_read(file, start, end, key) for start, end in joined])
            finally:
                os.close(file)

    def _delete(self, paths: Sequence[tuple[str, Path]]) -> None:
        if not self._root.is_dir():
            if self._create:
                return
            raise missing_root(self._root)
        touched: set[Path] = set()
        for key, path in paths:
            with mapped(self._root, key):
                folder = remove(self._root, path, key)
                if folder is not None:
                    touched.add(folder)
        for folder in touched:
            with mapped(self._root, os.fspath(folder)):
                sync_folder(folder)

    def _page(self, found: Iterator[Found], prefix: str) -> list[ObjectMeta]:
        with mapped(self._root, prefix):
            return [_meta(key, status) for key, status in islice(found, PAGE)]

    def _level(self, prefix: str) -> Listing:
        with mapped(self._root, prefix):
            objects, prefixes = level(self._root, prefix, create=self._create)
        return Listing([_meta(key, status) for key, status in objects], prefixes)

    def _copy(self, source: str, source_path: Path, target: str, target_path: Path, mode: PutMode) -> ObjectMeta:
        with mapped(self._root, source, create=self._create):
            original, _ = _open(self._root, source_path, source, None)
        try:
            with mapped(self._root, target, writing=True):
                file = self._new_file()
                try:
                    with open(original, "rb", closefd=False) as reader, open(file.fd, "wb", closefd=False) as writer:
                        shutil.copyfileobj(reader, writer, CHUNK_BYTES)
                    return _meta(target, file.place(target_path, target, mode))
                finally:
                    file.discard()
        finally:
            os.close(original)

    def _path(self, key: str) -> Path:
        checked_key(key)
        if RESERVED in key.split("/"):
            raise InvalidKeyError(
                f"key {key!r} has the segment {RESERVED!r}, which this store keeps for itself", key=key
            )
        return self._root / key


class _Body:
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
            self._file, status = _open(self._root, path, self._key, if_match)
            if not head:
                start, end = self.range = resolve_range(asked, status.st_size, self._key)
                self._at = start
                self._first = _read(self._file, start, min(start + CHUNK_BYTES, end), self._key)
            if self.range[0] + len(self._first) == self.range[1]:
                self.close()
        return _meta(self._key, status)

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
            return _read(self._file, self._at, end, self._key)


class _LocalResult(GetResult):
    def __init__(self, meta: ObjectMeta, body: _Body) -> None:
        super().__init__(meta, body.chunks(), range=body.range, aclose=body.aclose)
        self._body = body

    async def read(self) -> bytes:
        return await self._body.rest()


class _LocalUpload(Upload):
    def __init__(self, root: Path, key: str, path: Path, mode: PutMode) -> None:
        self._root = root
        self._key = key
        self._target = path
        self._mode = mode
        self._file: TemporaryFile | None = None

    def open(self, new_file: Callable[[], TemporaryFile]) -> None:
        with mapped(self._root, self._key, writing=True):
            self._file = new_file()

    async def write(self, data: Data) -> None:
        await in_disk_thread(self._write, data)

    async def complete(self) -> ObjectMeta:
        return await in_disk_thread(self._place)

    async def abort(self) -> None:
        if self._file is not None:
            await in_disk_thread(self._file.discard)

    def _write(self, data: Data) -> None:
        assert self._file is not None, "an upload is given out open"
        with mapped(self._root, self._key, writing=True):
            self._file.write(data)

    def _place(self) -> ObjectMeta:
        assert self._file is not None, "an upload is given out open"
        with mapped(self._root, self._key, writing=True):
            return _meta(self._key, self._file.place(self._target, self._key, self._mode))


def _open(root: Path, path: Path, key: str, if_match: str | None) -> tuple[int, os.stat_result]:
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


def _read(file: int, start: int, end: int, key: str) -> bytes:
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


def _meta(key: str, status: os.stat_result) -> ObjectMeta:
    modified = datetime.fromtimestamp(status.st_mtime, UTC)
    return ObjectMeta(key, status.st_size, version_of(status), modified, Attributes(content_type(key)))


def _check_attributes(key: str, attributes: Attributes) -> None:
    if attributes.metadata or attributes.storage_class is not None:
        raise UnsupportedOperationError(f"{key!r}: a folder holds neither metadata nor storage classes", key=key)
