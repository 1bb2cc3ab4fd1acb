"""Objects in this process's memory: for tests, notebooks and caches."""

# ruff: noqa: A002, D102 - names and docstrings are those of the contract

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Self

from buffetstore.errors import (
    AlreadyExistsError,
    InvalidInputError,
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
from buffetstore.objects.ranges import checked_range, resolve_range

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

CHUNK_BYTES = 1024 * 1024


def utc_now() -> datetime:
    """Return the current time, aware, in UTC."""
    return datetime.now(UTC)


class MemoryStore(ObjectStore):
    """A store whose objects live and die with it.

    Parameters
    ----------
    now:
        The clock that stamps `last_modified`.
    """

    def __init__(self, *, now: Callable[[], datetime] = utc_now) -> None:
        self._now = now
        self._objects: dict[str, tuple[ObjectMeta, bytes]] = {}
        self._keys: list[str] = []  # sorted: code point order is the order of UTF-8 bytes
        self._versions = count(1)

    @classmethod
    def from_url(cls, _url: str) -> Self:
        """Return a new, empty store for `memory://`."""
        return cls()

    @property
    def url(self) -> str:
        return "memory://"

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities()

    async def put(
        self, key: str, data: Data, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> ObjectMeta:
        checked_key(key)
        held = self._objects.get(key)
        _decide(mode, key, held[0].version if held else None)
        if held is None:
            insort(self._keys, key)
        meta = ObjectMeta(key, len(memoryview(data).cast("B")), str(next(self._versions)), self._now(), attributes)
        self._objects[key] = (meta, bytes(data))
        return meta

    async def start_upload(
        self, key: str, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> Upload:
        return _MemoryUpload(self, checked_key(key), mode, attributes)

    async def get(
        self,
        key: str,
        *,
        range: ByteRange | None = None,
        if_match: str | None = None,
        head: bool = False,
    ) -> GetResult:
        meta, data = self._find(key, if_match)
        if head:
            return GetResult(meta, _chunks(data, 0, 0), range=(0, 0))
        start, end = resolve_range(range, meta.size, key)
        return GetResult(meta, _chunks(data, start, end), range=(start, end))

    async def get_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, if_match: str | None = None
    ) -> list[bytes]:
        meta, data = self._find(key, if_match)
        wanted = [checked_range(start, end, meta.size, key) for start, end in ranges]
        return [data[start:end] for start, end in wanted]

    async def delete(self, keys: Sequence[str]) -> None:
        for key in [checked_key(key) for key in keys]:
            if self._objects.pop(key, None) is not None:
                del self._keys[bisect_left(self._keys, key)]

    async def list_objects(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectMeta]:
        # The place is found again for each object, so that writes between two steps do no harm.
        at = max(bisect_left(self._keys, prefix), bisect_right(self._keys, after))
        while at < len(self._keys) and (key := self._keys[at]).startswith(prefix):
            yield self._objects[key][0]
            at = bisect_right(self._keys, key)

    async def list_prefixes(self, prefix: str = "") -> Listing:
        if prefix and not prefix.endswith("/"):
            raise InvalidInputError(f"prefix {prefix!r} must be empty or end with '/'", key=prefix)
        objects: list[ObjectMeta] = []
        prefixes: list[str] = []
        at = bisect_left(self._keys, prefix)
        while at < len(self._keys) and (key := self._keys[at]).startswith(prefix):
            name, slash, _ = key[len(prefix) :].partition("/")
            if slash:
                prefixes.append(f"{prefix}{name}/")
                at = bisect_left(self._keys, f"{prefix}{name}0", at)  # "0" is the character after "/"
            else:
                objects.append(self._objects[key][0])
                at += 1
        return Listing(objects, prefixes)

    async def copy(self, source: str, target: str, *, mode: PutMode = OVERWRITE) -> ObjectMeta:
        meta, data = self._find(source, None)
        return await self.put(target, data, mode=mode, attributes=meta.attributes or DEFAULT_ATTRIBUTES)

    async def aclose(self) -> None:
        """Nothing is held outside: the objects stay until the store is gone."""

    def _find(self, key: str, if_match: str | None) -> tuple[ObjectMeta, bytes]:
        held = self._objects.get(checked_key(key))
        if held is None:
            raise NotFoundError(f"there is no object {key!r} in {self.url}", key=key)
        if if_match is not None and held[0].version != if_match:
            raise PreconditionFailedError(f"{key!r} has version {held[0].version}, not {if_match}", key=key)
        return held


class _MemoryUpload(Upload):
    def __init__(self, store: MemoryStore, key: str, mode: PutMode, attributes: Attributes) -> None:
        self._store = store
        self._key = key
        self._mode = mode
        self._attributes = attributes
        self._data: bytearray | None = bytearray()

    async def write(self, data: Data) -> None:
        self._open().extend(data)

    async def complete(self) -> ObjectMeta:
        meta = await self._store.put(self._key, self._open(), mode=self._mode, attributes=self._attributes)
        self._data = None
        return meta

    async def abort(self) -> None:
        self._data = None

    def _open(self) -> bytearray:
        if self._data is None:
            raise UnsupportedOperationError(f"the upload of {self._key!r} is over: start a new one", key=self._key)
        return self._data


def _decide(mode: PutMode, key: str, version: str | None) -> None:
    if mode.kind == "create" and version is not None:
        raise AlreadyExistsError(f"{key!r} already exists (version {version})", key=key)
    if mode.kind == "update" and version != mode.version:
        found = "is not there" if version is None else f"has version {version}"
        raise PreconditionFailedError(f"{key!r} {found}, expected version {mode.version}", key=key)


async def _chunks(data: bytes, start: int, end: int) -> AsyncIterator[Data]:
    view = memoryview(data)
    for at in range(start, end, CHUNK_BYTES):
        yield view[at : min(at + CHUNK_BYTES, end)]
