"""A cache in a folder with a budget in bytes, which survives restarts and may be shared by processes.

::

    <folder>/v1/<2 digits>/<digest of the key>-<digest of the part>.entry
    entry: magic | format version | created | sizes of name and value | name | value | SHA-256 of all before

The folder's `v1` is the format version: a later one has a folder of its own, which this release does not look into.
Only files named as above are counted or removed. Entries are written aside and renamed, not synced: what a crash or a
bad disk leaves behind has a wrong digest, counts as absent, and is removed.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import struct
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from buffetstore.caching.lru import CacheStats

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

T = TypeVar("T")

FORMAT_VERSION = 1
_MAGIC = b"BFCACHE\n"
_HEAD = struct.Struct(">8sHdHQ")
_DIGEST_BYTES = 32
_ENTRY = re.compile(r"[0-9a-f]{32}-[0-9a-f]{16}\.entry")
_TEMPORARY = re.compile(r"\.[0-9]+-[0-9a-f]{16}\.tmp")
_TEMPORARY_SECONDS = 3600


class InThread(Protocol):
    """Runs what waits for the disk off the event loop: `buffetstore.resilience.threads.in_disk_thread`."""

    def __call__(self, function: Callable[..., T], /, *args: Any) -> Awaitable[T]:
        """Return what the function returns."""


class _Found(NamedTuple):
    used_ns: int
    size: int
    path: Path


class DiskCache:
    """At most `max_bytes` bytes of values by key and part, in files; what was used longest ago goes first.

    It never fails: a disk that is full, slow to answer with an error, or not writable keeps nothing, and counts it
    (`stats().failures`).

    Parameters
    ----------
    folder:
        Made with mode 0700 if it is missing; files have 0600. Other files in it stay as they are.
    max_bytes:
        The budget, with the entries' own overhead. Each process that shares the folder looks at what the others added
        after every eighth of the budget that it writes, so that together they may exceed it by so much each.
    in_thread:
        Runs the disk's work.
    ttl_seconds:
        How long a value is good; None is for ever.
    clock:
        Seconds of the wall, which a restart does not reset.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        max_bytes: int,
        *,
        in_thread: InThread,
        ttl_seconds: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if max_bytes < 0 or (ttl_seconds is not None and ttl_seconds <= 0):
            raise ValueError(f"max_bytes={max_bytes} must be >= 0 and ttl_seconds={ttl_seconds} > 0 or None")
        self._files = _Files(Path(folder) / f"v{FORMAT_VERSION}", max_bytes, ttl_seconds, clock)
        self._in_thread = in_thread

    async def get(self, key: str, part: str = "") -> bytes | None:
        """Return the value, which is now the youngest, or None."""
        return (await self.get_many(key, [part])).get(part)

    async def get_many(self, key: str, parts: Sequence[str]) -> dict[str, bytes]:
        """Return the values of those of `parts` that are there."""
        return await self._in_thread(self._files.get_many, key, parts)

    async def put(self, key: str, value: bytes, part: str = "") -> bool:
        """Keep `value`, and return whether it was kept; the oldest go to make room."""
        return await self.put_many(key, {part: value})

    async def put_many(
        self, key: str, values: Mapping[str, bytes], *, while_true: Callable[[], bool] = lambda: True
    ) -> bool:
        """Keep values by part, and return whether all were kept.

        Parameters
        ----------
        while_true:
            Asked, in a thread, at the moment when an entry becomes visible: no `delete` comes between.
        """
        return await self._in_thread(self._files.put_many, key, values, while_true)

    async def delete(self, *keys: str) -> None:
        """Forget every part of `keys`."""
        await self._in_thread(self._files.delete, keys)

    async def clear(self) -> None:
        """Forget everything."""
        await self._in_thread(self._files.clear)

    async def aclose(self) -> None:
        """Answer and keep nothing from now on; what is kept stays for the next one. May be called twice."""
        self._files.closed = True

    def stats(self) -> CacheStats:
        """Return the counts of this process; `bytes` is of all, as last looked at. `entries` is not counted."""
        return replace(self._files.counts, bytes=max(0, self._files.used or 0))


class _Files:
    """The files themselves, in whatever thread."""

    def __init__(self, root: Path, max_bytes: int, ttl: float | None, clock: Callable[[], float]) -> None:
        self._root = root
        self._ttl = ttl
        self._clock = clock
        self._lock = threading.Lock()  # of the numbers, and of making room; never held while bytes are read or written
        self._shown = threading.Lock()  # of entries that become visible, and of their removal by `delete`
        self._since_look = 0
        self.used: int | None = None  # unknown until the folder has been looked at
        self.counts = CacheStats(max_bytes=max_bytes)
        self.closed = False

    def get_many(self, key: str, parts: Sequence[str]) -> dict[str, bytes]:
        found = {}
        for part in parts:
            value = None if self.closed else self._get(key, part)
            if value is None:
                self.counts.misses += 1
            else:
                self.counts.hits += 1
                found[part] = value
        return found

    def _get(self, key: str, part: str) -> bytes | None:
        path = self._path(key, part)
        try:
            entry = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError:
            self.counts.failures += 1
            return None
        read = _read(entry, _name(key, part))
        if read is None:
            self.counts.corrupt += 1
            self._remove(path, len(entry))
            return None
        created, value = read
        if self._ttl is not None and created + self._ttl <= self._clock():
            self.counts.expirations += 1
            self._remove(path, len(entry))
            return None
        with suppress(OSError):
            os.utime(path)  # the order of use, for every process
        return value

    def put_many(self, key: str, values: Mapping[str, bytes], wanted: Callable[[], bool]) -> bool:
        kept = [not self.closed and self._put(key, part, value, wanted) for part, value in values.items()]
        return all(kept)

    def _put(self, key: str, part: str, value: bytes, wanted: Callable[[], bool]) -> bool:
        name = _name(key, part)
        head = _HEAD.pack(_MAGIC, FORMAT_VERSION, self._clock(), len(name), len(value)) + name
        size = len(head) + len(value) + _DIGEST_BYTES
        if size > self.counts.max_bytes or not self._room(size):
            return False
        digest = hashlib.sha256(head)
        digest.update(value)
        path = self._path(key, part)
        temporary = path.with_name(f".{os.getpid()}-{secrets.token_hex(8)}.tmp")
        try:
            _write(temporary, (head, value, digest.digest()))
            with self._shown:
                if not wanted():
                    temporary.unlink()
                    self._add(-size)
                    return False
                replaced = path.stat().st_size if path.exists() else 0
                temporary.replace(path)
        except OSError:
            with suppress(OSError):
                temporary.unlink()
            self.counts.failures += 1
            self._add(-size)
            return False
        self._add(-replaced)
        return True

    def _room(self, size: int) -> bool:
        """Make and take room for `size` bytes."""
        limit = self.counts.max_bytes
        with self._lock:
            self._since_look += size
            try:
                if self.used is None or self.used + size > limit or self._since_look > limit // 8:
                    self._look(size)
            except OSError:
                self.counts.failures += 1
                return False
            self.used = (self.used or 0) + size
            return True

    def _look(self, size: int) -> None:
        """Count what is there, whoever wrote it, and remove the oldest where it is too much."""
        found = list(self._entries())
        used = sum(entry.size for entry in found)
        if used + size > self.counts.max_bytes:
            found.sort()
            for entry in found:
                if used + size <= self.counts.max_bytes * 7 // 8:
                    break
                entry.path.unlink(missing_ok=True)
                used -= entry.size
                self.counts.evictions += 1
        self.used, self._since_look = used, 0

    def _entries(self) -> Iterator[_Found]:
        oldest = time.time() - _TEMPORARY_SECONDS
        for shard in _listed(self._root):
            if not shard.is_dir(follow_symlinks=False):
                continue
            for file in _listed(shard):
                with suppress(OSError):  # another process was faster
                    if _ENTRY.fullmatch(file.name):
                        status = file.stat(follow_symlinks=False)
                        yield _Found(status.st_mtime_ns, status.st_size, Path(file.path))
                    elif _TEMPORARY.fullmatch(file.name) and file.stat(follow_symlinks=False).st_mtime < oldest:
                        Path(file.path).unlink()

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            digest = _digest(key, 32)
            with (
                self._shown,
                suppress(OSError),
            ):  # an entry that cannot be removed has an old version in it, or ends by its age
                for file in _listed(self._root / digest[:2]):
                    if file.name.startswith(digest) and _ENTRY.fullmatch(file.name):
                        self._remove(Path(file.path), file.stat(follow_symlinks=False).st_size)

    def clear(self) -> None:
        with self._lock, suppress(OSError):
            for entry in self._entries():
                entry.path.unlink(missing_ok=True)
            self.used = None

    def _remove(self, path: Path, size: int) -> None:
        with suppress(OSError):
            path.unlink()
            self._add(-size)

    def _add(self, size: int) -> None:
        with self._lock:
            if self.used is not None:
                self.used += size

    def _path(self, key: str, part: str) -> Path:
        digest = _digest(key, 32)
        return self._root / digest[:2] / f"{digest}-{_digest(part, 16)}.entry"


def _listed(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except FileNotFoundError:
        return []


def _write(path: Path, pieces: Sequence[bytes]) -> None:
    """Make the file, and its folders where they are missing."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        file = os.open(path, flags, 0o600)
    except FileNotFoundError:
        shard = path.parent
        shard.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shard.parent.mkdir(mode=0o700, exist_ok=True)
        shard.mkdir(mode=0o700, exist_ok=True)
        file = os.open(path, flags, 0o600)
    with open(file, "wb", buffering=0) as stream:  # noqa: PTH123 - opened above, with its mode
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[stream.write(view) :]


def _read(entry: bytes, name: bytes) -> tuple[float, bytes] | None:
    """Return when the value was kept, and the value; None unless the entry is whole and its own."""
    if len(entry) < _HEAD.size + len(name) + _DIGEST_BYTES:
        return None
    magic, version, created, name_size, value_size = _HEAD.unpack_from(entry)
    start = _HEAD.size + name_size
    if (magic, version) != (_MAGIC, FORMAT_VERSION) or len(entry) != start + value_size + _DIGEST_BYTES:
        return None
    view = memoryview(entry)
    if view[_HEAD.size : start] != name or hashlib.sha256(view[:-_DIGEST_BYTES]).digest() != view[-_DIGEST_BYTES:]:
        return None
    return created, bytes(view[start : start + value_size])


def _name(key: str, part: str) -> bytes:
    return f"{key}\0{part}".encode("utf-8", "surrogatepass")


def _digest(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:digits]
