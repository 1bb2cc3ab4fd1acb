"""Objects as files under one folder, durable and with true put-if-absent."""

# ruff: noqa: A002, D102 - names and docstrings are those of the contract

from __future__ import annotations

import os
import shutil
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote

from buffetstore.errors import (
    ConfigurationError,
    InvalidInputError,
    InvalidKeyError,
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
from buffetstore.objects.local_bodies import CHUNK_BYTES, Body, LocalResult, meta_of, open_file, read_span
from buffetstore.objects.local_files import (
    RESERVED,
    Modes,
    TemporaryFile,
    bits,
    mapped,
    missing_root,
    remove,
    sweep,
    sync_folder,
)
from buffetstore.objects.local_walk import level, walk
from buffetstore.objects.ranges import checked_range, coalesce, cut
from buffetstore.resilience.threads import in_disk_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from buffetstore.objects.local_walk import Found

PAGE = 1000


class LocalStore(ObjectStore):
    """Files under `root` (POSIX). An object is a regular file; links to folders are not followed by listings.

    Parameters
    ----------
    root:
        The folder. The name `.buffetstore` below it is kept for temporary files and locks.
    create:
        Make `root` with the first write if it is missing; until then it counts as empty.
    folder_mode, file_mode:
        The permission bits of folders and files that are made, such as 0o750 and 0o640, or "750" and "640"; by default
        as the process's umask has them. What is there already is left as it is.

    Raises
    ------
    ConfigurationError
        A mode is none, or would lock this process's own user out.

    Notes
    -----
    A folder holds no metadata: `capabilities.metadata` is False, and the content type is told by the key's extension.
    One name cannot be both an object and a prefix of others: such a write is refused with `UnsupportedOperationError`.

    No key leaves the root by itself, but links put there by hand are followed by reads and writes, wherever they lead:
    who may make them owns the folder. A link to a file is listed as the object that it leads to, a link to a folder is
    not; an overwrite replaces the link and a delete removes it, never what it leads to.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        create: bool = False,
        folder_mode: int | str | None = None,
        file_mode: int | str | None = None,
    ) -> None:
        # Bound now, so that a later change of directory moves nothing; asks the kernel, never the disk.
        self._root = Path(os.path.normpath(os.fsdecode(os.getcwdb()) / Path(root)))  # noqa: PTH109
        self._create = create
        self._modes = Modes(bits("folder_mode", folder_mode, 0o700), bits("file_mode", file_mode, 0o600))
        self._swept = False

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        create: bool = False,
        folder_mode: int | str | None = None,
        file_mode: int | str | None = None,
    ) -> Self:
        """Return the store of `file:///absolute/path`, or of a plain path."""
        if url.startswith("file:"):
            rest = url.removeprefix("file:").removeprefix("//").removeprefix("localhost")
            if not rest.startswith("/"):
                raise ConfigurationError(f"{url!r} is not absolute: write file:///absolute/path, or a plain path")
            url = unquote(rest)
        return cls(url, create=create, folder_mode=folder_mode, file_mode=file_mode)

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
        body = Body(self._root, key, create=self._create)
        try:
            meta = await in_disk_thread(body.open, path, range, if_match, head)
        except BaseException:
            body.close()
            raise
        return LocalResult(meta, body)

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
        return TemporaryFile(self._root, self._modes, create=self._create)

    def _put(self, key: str, path: Path, data: Data, mode: PutMode) -> ObjectMeta:
        with mapped(self._root, key, writing=True):
            file = self._new_file()
            try:
                file.write(data)
                return meta_of(key, file.place(path, key, mode))
            finally:
                file.discard()

    def _get_ranges(self, key: str, path: Path, ranges: Sequence[tuple[int, int]], if_match: str | None) -> list[bytes]:
        with mapped(self._root, key, create=self._create):
            file, status = open_file(self._root, path, key, if_match)
            try:
                wanted = [checked_range(start, end, status.st_size, key) for start, end in ranges]
                joined = coalesce(wanted)
                return cut(wanted, joined, [read_span(file, start, end, key) for start, end in joined])
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
                folder = remove(self._root, path, key, self._modes)
                if folder is not None:
                    touched.add(folder)
        for folder in touched:
            with mapped(self._root, os.fspath(folder)):
                sync_folder(folder)

    def _page(self, found: Iterator[Found], prefix: str) -> list[ObjectMeta]:
        with mapped(self._root, prefix):
            return [meta_of(key, status) for key, status in islice(found, PAGE)]

    def _level(self, prefix: str) -> Listing:
        with mapped(self._root, prefix):
            objects, prefixes = level(self._root, prefix, create=self._create)
        return Listing([meta_of(key, status) for key, status in objects], prefixes)

    def _copy(self, source: str, source_path: Path, target: str, target_path: Path, mode: PutMode) -> ObjectMeta:
        with mapped(self._root, source, create=self._create):
            original, _ = open_file(self._root, source_path, source, None)
        try:
            with mapped(self._root, target, writing=True):
                file = self._new_file()
                try:
                    with open(original, "rb", closefd=False) as reader, open(file.fd, "wb", closefd=False) as writer:
                        shutil.copyfileobj(reader, writer, CHUNK_BYTES)
                    return meta_of(target, file.place(target_path, target, mode))
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
            return meta_of(self._key, self._file.place(self._target, self._key, self._mode))


def _check_attributes(key: str, attributes: Attributes) -> None:
    if attributes.metadata or attributes.storage_class is not None:
        raise UnsupportedOperationError(f"{key!r}: a folder holds neither metadata nor storage classes", key=key)
