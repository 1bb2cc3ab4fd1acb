"""The contract of an object store: bytes by key, conditional writes as values, nothing of a file system.

Rules that hold for every store and wrapper (`buffetstore.testing.ObjectStoreContract` proves them):

* A missing key raises `NotFoundError` from `get`, `get_ranges` and `copy`; a missing bucket `BucketNotFoundError`.
  `delete` makes sure that keys are absent, so an absent key is success.
* A lost `CREATE` raises `AlreadyExistsError`, a stale `Update` raises `PreconditionFailedError` (also when the key is
  gone). Of any number of concurrent `CREATE`s of one key exactly one returns.
* A write is seen whole or not at all, also after cancellation or a crash. After `put` returns every reader sees it.
* An unclear answer to a write (timeout, 5xx, lost connection) raises an error whose `ambiguous` is True.
* Bytes are checked against the checksum that the service gives, on the way in and on the way out.
* `aclose` may be called twice. Cancelling a call frees what it held.
"""

# ruff: noqa: ARG002 - what a store does not have takes its arguments all the same

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Literal, Self

from buffetstore.errors import InvalidInputError, UnsupportedOperationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType

Data = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class PutMode:
    """When a write may happen: `OVERWRITE`, `CREATE` or `Update(version)`."""

    kind: Literal["overwrite", "create", "update"]
    version: str | None = None


OVERWRITE = PutMode("overwrite")
CREATE = PutMode("create")


def Update(version: str) -> PutMode:  # noqa: N802 - reads as a value beside OVERWRITE and CREATE
    """Return the mode that replaces exactly this `ObjectMeta.version`, or raises `PreconditionFailedError`."""
    return PutMode("update", version)


@dataclass(frozen=True, slots=True)
class Attributes:
    """What is stored beside the bytes. `metadata` names are lower case letters, digits and hyphens."""

    content_type: str = "application/octet-stream"
    metadata: Mapping[str, str] = field(default_factory=dict)
    storage_class: str | None = None


DEFAULT_ATTRIBUTES = Attributes()


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a store can promise; a test skips, and a table refuses, by these names.

    Parameters
    ----------
    conditional_create, conditional_update:
        `CREATE` and `Update` are kept, by `put` and by uploads.
    metadata:
        `Attributes` are stored and returned.
    unique_versions:
        Two writes never have one version. Where a version is a digest (ETag), the same bytes give the same again.
    signed_urls:
        `signed_url` is there.
    object_versions:
        `list_versions`, `get_version` and `restore_version` are there, where the bucket keeps versions.
    """

    conditional_create: bool = True
    conditional_update: bool = True
    metadata: bool = True
    unique_versions: bool = True
    signed_urls: bool = False
    object_versions: bool = False


@dataclass(frozen=True, slots=True)
class Checksum:
    """A digest of an object's stored bytes, as the service keeps it; `value` is base64."""

    algorithm: Literal["crc32c", "crc32", "md5", "sha1", "sha256"]
    value: str


@dataclass(frozen=True, slots=True)
class ObjectMeta:
    """An object without its bytes.

    `version` is opaque, changes with every write, and is what `Update` and `if_match` take. `size` is in bytes.
    `attributes` is None where a listing does not carry them, `checksum` where the service gives none of all the bytes.
    """

    key: str
    size: int
    version: str
    last_modified: datetime
    attributes: Attributes | None = None
    checksum: Checksum | None = None


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """One version of an object, in a bucket that keeps them.

    `id` is what `get_version` and `restore_version` take. A deletion is a version too, without bytes, where the service
    marks deletions (S3); elsewhere the newest version of a deleted object is not current.
    """

    meta: ObjectMeta
    id: str
    is_current: bool
    is_deletion: bool = False


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes [start, end); `end=None` reads to the end; `start=-n` (with no end) reads the last n bytes.

    An end past the object is cut to its size; a start at or past the end raises `InvalidRangeError`.
    """

    start: int = 0
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """One level of a prefix: the objects directly in it, and the deeper prefixes (each ends with `/`)."""

    objects: Sequence[ObjectMeta]
    prefixes: Sequence[str]


class GetResult:
    """An object's metadata and its bytes, streamed. Close it, or consume it to its end.

    >>> import asyncio
    >>> from buffetstore.objects.memory import MemoryStore
    >>> async def example() -> bytes:
    ...     store = MemoryStore()
    ...     await store.put("a/b", b"bytes")
    ...     async with await store.get("a/b") as result:
    ...         return await result.read()
    >>> asyncio.run(example())
    b'bytes'
    """

    def __init__(
        self,
        meta: ObjectMeta,
        chunks: AsyncIterator[Data],
        *,
        range: tuple[int, int] | None = None,  # noqa: A002 - the field's own word
        aclose: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.meta = meta
        self.range = range if range is not None else (0, meta.size)
        self._chunks = chunks
        self._aclose = aclose

    def __aiter__(self) -> AsyncIterator[Data]:
        return self._chunks

    async def read(self) -> bytes:
        """Return all the bytes of the range, checked, and close."""
        try:
            # One growing buffer, whose memory becomes the answer: joining parts would copy a large object at once.
            buffer = BytesIO()
            async for chunk in self._chunks:
                buffer.write(chunk)
            return buffer.getvalue()
        finally:
            await self.aclose()

    async def readinto(self, buffer: memoryview) -> int:
        """Write all the bytes of the range, checked, to the start of `buffer`, and close; return how many there were.

        Raises
        ------
        InvalidInputError
            `buffer` is smaller than the range.
        """
        start, end = self.range
        try:
            if len(buffer) < end - start:
                raise InvalidInputError(f"a buffer of {len(buffer)} bytes cannot take {end - start}", key=self.meta.key)
            done = 0
            async for chunk in self._chunks:
                buffer[done : done + len(chunk)] = chunk
                done += len(chunk)
            return done
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Free the connection; the rest of the body is not read."""
        if self._aclose is not None:
            aclose, self._aclose = self._aclose, None
            await aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class Upload(ABC):
    """An object being written in parts: nothing is seen until `complete` returns."""

    @abstractmethod
    async def write(self, data: Data) -> None:
        """Add bytes, any number of them; parts are cut to the service's size inside."""

    @abstractmethod
    async def complete(self) -> ObjectMeta:
        """Make the object visible; the mode given to `start_upload` is decided here."""

    @abstractmethod
    async def abort(self) -> None:
        """Forget what was written. May be called twice, and after `complete` (then it does nothing)."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Abort unless completed."""
        await self.abort()


class ObjectStore(ABC):
    """Bytes by key. See the module's rules; conveniences are in `buffetstore.objects.helpers`."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Where this store's keys start, as a URL without secrets: `gs://bucket/prefix`."""

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What this store can promise."""

    @abstractmethod
    async def put(
        self, key: str, data: Data, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> ObjectMeta:
        """Write `data` whole.

        Raises
        ------
        AlreadyExistsError, PreconditionFailedError
            The mode's condition did not hold; nothing was written.
        UnsupportedOperationError
            The store does not have this mode, or metadata.
        """

    @abstractmethod
    async def start_upload(
        self, key: str, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> Upload:
        """Begin an object that is too large for one `put`."""

    @abstractmethod
    async def get(
        self,
        key: str,
        *,
        range: ByteRange | None = None,  # noqa: A002 - the field's own word
        if_match: str | None = None,
        head: bool = False,
    ) -> GetResult:
        """Open an object for reading; with `head`, its metadata alone (the body is empty).

        Raises
        ------
        NotFoundError, InvalidRangeError
        PreconditionFailedError
            The object's version is not `if_match`.
        """

    @abstractmethod
    async def get_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, if_match: str | None = None
    ) -> list[bytes]:
        """Read several byte ranges [start, end) of one object, in the order asked; near ones are joined."""

    @abstractmethod
    async def delete(self, keys: Sequence[str]) -> None:
        """Make sure that `keys` are absent."""

    @abstractmethod
    def list_objects(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectMeta]:
        """Yield every object whose key starts with `prefix` and sorts after `after`, in order of key (UTF-8 bytes)."""

    @abstractmethod
    async def list_prefixes(self, prefix: str = "") -> Listing:
        """Return one level below `prefix`, which is empty or ends with `/`."""

    @abstractmethod
    async def copy(self, source: str, target: str, *, mode: PutMode = OVERWRITE) -> ObjectMeta:
        """Copy within the store, bytes and attributes, without downloading."""

    async def signed_url(
        self,
        key: str,
        *,
        method: Literal["GET", "PUT"] = "GET",
        expires_seconds: int = 3600,
        content_type: str | None = None,
    ) -> str:
        """Return a URL by which anybody may read (GET) or write (PUT) this one object for so long.

        Parameters
        ----------
        content_type:
            What a PUT must send as its Content-Type.

        Raises
        ------
        UnsupportedOperationError
            The store has no signed URLs (`capabilities.signed_urls`).
        InvalidInputError
            `expires_seconds` is not within what the service allows (seven days on most).
        """
        raise self._unsupported("signed_url")

    def list_versions(self, prefix: str = "") -> AsyncIterator[ObjectVersion]:
        """Yield every version of the objects under `prefix`, in order of key, the newest of a key first.

        Raises
        ------
        UnsupportedOperationError
            The store keeps no versions (`capabilities.object_versions`).
        """
        raise self._unsupported("list_versions")

    async def get_version(
        self,
        key: str,
        version_id: str,
        *,
        range: ByteRange | None = None,  # noqa: A002 - the field's own word
    ) -> GetResult:
        """Open one version, current or not; `NotFoundError` if there is none of this id, or it is a deletion."""
        raise self._unsupported("get_version")

    async def restore_version(self, key: str, version_id: str) -> ObjectMeta:
        """Make a version current again, by a copy of it; the versions between stay in the history."""
        raise self._unsupported("restore_version")

    def _unsupported(self, operation: str) -> UnsupportedOperationError:
        return UnsupportedOperationError(f"{type(self).__name__} at {self.url} has no {operation}")

    @abstractmethod
    async def aclose(self) -> None:
        """Free connections. May be called twice."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
