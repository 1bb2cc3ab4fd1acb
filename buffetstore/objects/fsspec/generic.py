"""Any fsspec file system: on the event loop where it was made for that, else in threads."""

# ruff: noqa: D102 - the docstrings are those of `Files`

from __future__ import annotations

import errno
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fsspec.asyn import AsyncFileSystem  # type: ignore[import-untyped]

from buffetstore.errors import StorageError, UnsupportedOperationError
from buffetstore.objects.fsspec.files import CHUNK_BYTES, Files, Guarantees, Reader, Status, Writer
from buffetstore.objects.fsspec.primitives import Primitives, primitives_of
from buffetstore.objects.fsspec.spool import Spool
from buffetstore.objects.pool import PoolStats
from buffetstore.resilience.threads import in_disk_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fsspec import AbstractFileSystem  # type: ignore[import-untyped]

    from buffetstore.objects.base import Data

# What file systems call the things that change with a file, and its time; the first that is there is the time.
_MARKS = ("generation", "ETag", "etag", "version_id", "fileId", "file_id", "ino")
_TIMES = ("LastModified", "last_modified", "mtime", "modified", "updated", "modificationTime", "created")
_NUMBERS: dict[type[OSError], int] = {
    FileNotFoundError: errno.ENOENT,
    FileExistsError: errno.EEXIST,
    IsADirectoryError: errno.EISDIR,
    NotADirectoryError: errno.ENOTDIR,
    PermissionError: errno.EACCES,
}


class FsspecFiles(Files):
    """The files of one fsspec file system.

    Parameters
    ----------
    fs:
        With ``asynchronous=True`` its coroutines run on the event loop, else its methods in threads.
    primitives:
        How it names a finished file; those of the table `PRIMITIVES` unless given.
    """

    def __init__(self, fs: AbstractFileSystem, primitives: Primitives | None = None) -> None:
        self.fs = fs
        self._primitives = primitives or primitives_of(fs)
        self._is_native = isinstance(fs, AsyncFileSystem) and fs.asynchronous

    @property
    def guarantees(self) -> Guarantees:
        return self._primitives.guarantees

    async def call(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the file system."""
        try:
            if self._is_native:
                return await getattr(self.fs, f"_{name}")(*arguments, **options)
            return await in_disk_thread(getattr(self.fs, name), *arguments, **options)
        except OSError as error:
            if error.errno is None:  # many raise FileNotFoundError(path)
                error.errno = next((number for kind, number in _NUMBERS.items() if isinstance(error, kind)), None)
            raise
        except NotImplementedError as error:
            raise OSError(errno.ENOTSUP, f"{type(self.fs).__name__} has no {name}") from error
        except Exception as error:
            raise OSError(errno.EIO, f"{type(self.fs).__name__}.{name}: {type(error).__name__}: {error}") from error

    async def step(self, function: Callable[..., Any], source: str, target: str) -> None:
        """Run a primitive."""
        if self._is_native:
            await function(self.fs, source, target)
        else:
            await in_disk_thread(function, self.fs, source, target)

    async def status(self, path: str) -> Status:
        self.fs.invalidate_cache(path.rpartition("/")[0])
        return told(await self.call("info", path))

    async def entries(self, folder: str) -> Sequence[tuple[str, Status]]:
        self.fs.invalidate_cache(folder)
        found = []
        for info in await self.call("ls", folder, detail=True):
            path = info["name"].rstrip("/")
            if path.rpartition("/")[0].strip("/") == folder.strip("/"):
                found.append((path.rpartition("/")[2], told(info)))
            elif path.strip("/") == folder.strip("/") and told(info).kind == "file":
                raise NotADirectoryError(errno.ENOTDIR, "is a file", folder)
        return found

    async def reader(self, path: str) -> Reader:
        return PathReader(self, path, await self.status(path))

    async def read(self, path: str, start: int, end: int) -> bytes:
        """Return bytes of what is at `path` now."""
        return bytes(await self.call("cat_file", path, start=start, end=end))

    def writer(self, path: str) -> Writer:
        return SpooledWriter(self, path)

    async def send(self, spool: Spool, path: str) -> Status | None:
        """Write a whole file at once; return its status if it will stay so under another name."""
        if spool.name is None:
            await self.call("pipe_file", path, bytes(spool.held))
        else:
            await self.call("put_file", spool.name, path)
        if self._primitives.seal is not None:
            await self.step(self._primitives.seal, path, path)
        return await self.status(path) if self._primitives.keeps_status else None

    async def create(self, source: str, target: str) -> None:
        assert self._primitives.create is not None, "asked only of a file system that promises it"
        await self.step(self._primitives.create, source, target)

    async def replace(self, source: str, target: str) -> None:
        with suppress(FileNotFoundError):
            if (await self.status(target)).kind == "folder":  # many would move the file into it
                raise IsADirectoryError(errno.EISDIR, "is a folder", target)
        if self._primitives.replace is not None:
            await self.step(self._primitives.replace, source, target)
        elif self._is_native and not hasattr(self.fs, "_mv"):
            # Not every asynchronous one moves: copy and remove is what `mv` comes to where there is no rename.
            await self.call("cp_file", source, target)
            await self.call("rm_file", source)
        else:
            await self.call("mv", source, target)

    async def make_folder(self, path: str) -> None:
        await self.call("makedirs", path, exist_ok=True)
        with suppress(FileNotFoundError):  # a file system without folders
            if (await self.status(path)).kind != "folder":
                raise FileExistsError(errno.EEXIST, "is a file", path)

    async def remove(self, path: str) -> None:
        # Many remove a folder with all that is in it, and some do not mind that there is nothing.
        if (await self.status(path)).kind == "folder":
            raise IsADirectoryError(errno.EISDIR, "is a folder", path)
        await self.call("rm_file", path)

    async def remove_folder(self, path: str) -> None:
        if await self.entries(path):
            raise OSError(errno.ENOTEMPTY, "is not empty", path)
        await self.call("rmdir", path)

    def pool_stats(self) -> PoolStats:
        return PoolStats(0, 0, 0)  # fsspec does not tell

    async def warm_up(self, connections: int) -> None:
        """Nothing: fsspec has no word for it."""

    async def aclose(self) -> None:
        """Nothing: the file system is its maker's to close."""


class PathReader(Reader):
    """A file read by its path: each piece is followed by a look whether the file is still the same."""

    def __init__(self, files: FsspecFiles, path: str, status: Status) -> None:
        self._files = files
        self._path = path
        self._first: tuple[int, bytes] | None = None
        self.status = status
        if status.kind == "folder":
            raise IsADirectoryError(errno.EISDIR, "is a folder", path)

    async def prime(self, start: int, end: int) -> bool:
        try:
            self._first = start, await self.read(start, min(end, start + CHUNK_BYTES))
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            return False
        return True

    async def read(self, start: int, end: int) -> bytes:
        if self._first is not None and self._first[0] == start and len(self._first[1]) == end - start:
            (_, data), self._first = self._first, None
            return data
        data = await self._files.read(self._path, start, end)
        if (await self._files.status(self._path)).version != self.status.version:
            raise OSError(errno.ESTALE, "the file was replaced while it was read", self._path)
        if len(data) != end - start:
            raise OSError(errno.EIO, f"the answer has {len(data)} bytes of {end - start}", self._path)
        return data

    async def aclose(self) -> None:
        """Nothing is held."""


class SpooledWriter(Writer):
    """A file kept here, on disk where it is large, until it can be sent whole: fsspec has no other way to repeat."""

    def __init__(self, files: FsspecFiles, path: str) -> None:
        self._files = files
        self._path = path
        self._spool = Spool()
        self._is_sent = False

    async def open(self) -> None:
        """Nothing is sent yet."""

    async def write(self, data: Data, offset: int) -> None:
        await self._spool.write(data, offset)

    async def finish(self, size: int) -> Status | None:
        self._is_sent = True
        try:
            sealed = await self._files.send(self._spool, self._path)
        except (PermissionError, UnsupportedOperationError):  # refused: nothing is there to be discarded
            self._is_sent = False
            raise
        found = sealed or await self._files.status(self._path)
        if found.size != size:
            raise OSError(errno.EIO, f"the file has {found.size} bytes, not the {size} written", self._path)
        return sealed

    async def discard(self) -> None:
        await self._spool.aclose()
        if self._is_sent:
            with suppress(OSError, StorageError):
                await self._files.remove(self._path)


def told(info: Mapping[str, Any]) -> Status:
    """Return what a file system's `info` means."""
    kind = info.get("type")
    size = int(info.get("size") or 0)
    # A file whose time nobody knows counts as new, so that nothing removes it as old.
    modified = next((_time(info[name]) for name in _TIMES if info.get(name) is not None), None)
    marks = [str(info[name]) for name in _MARKS if info.get(name)]
    if modified is not None:
        marks.append(f"{int(modified.timestamp() * 1e6):x}")
    version = "-".join([*marks, f"{size:x}"]).replace('"', "")
    shown = "folder" if kind == "directory" else "file" if kind == "file" else "other"
    return Status(shown, size, modified or datetime.now(UTC), version)  # type: ignore[arg-type]


def _time(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    if isinstance(value, str):
        return _time(datetime.fromisoformat(value))
    return datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)
