"""Objects as files of any file system that fsspec knows, with the guarantees that it can give and no others."""

# ruff: noqa: A002, D102 - names and docstrings are those of the contract

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Any, Self

from buffetstore.errors import (
    InvalidInputError,
    InvalidKeyError,
    StorageError,
    UnavailableError,
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
from buffetstore.objects.fsspec.bodies import Body, meta_of, read_ranges
from buffetstore.objects.fsspec.errors import mapped
from buffetstore.objects.fsspec.files import Files
from buffetstore.objects.fsspec.generic import FsspecFiles
from buffetstore.objects.fsspec.listing import RESERVED, Walk
from buffetstore.objects.fsspec.placing import NO_RETRY, PIECE_POLICY, FileUpload, Folders, parent
from buffetstore.objects.fsspec.urls import opened
from buffetstore.objects.keys import checked_key
from buffetstore.objects.ranges import resolve_range
from buffetstore.resilience.concurrency import gather, unhurried

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from fsspec import AbstractFileSystem  # type: ignore[import-untyped]

    from buffetstore.objects.fsspec.files import Guarantees, Reader
    from buffetstore.objects.fsspec.primitives import Primitives
    from buffetstore.objects.pool import PoolStats
    from buffetstore.resilience.retry import RetryPolicy

_AT_ONCE = 32
_ATTEMPTS = 20  # against others who keep replacing what is read


class FsspecStore(ObjectStore):
    """Files below `root` of a file system.

    Parameters
    ----------
    fs:
        Any fsspec file system, or `Files` of one's own. One made with ``asynchronous=True`` runs on the event loop, any
        other in threads, where its own timeouts are the only ones.
    root:
        The folder, as the file system writes paths. Names in it that begin with `.buffetstore` are ours.
    url:
        Where the keys start, without secrets: for messages and events.
    create:
        Make `root` with the first write if it is missing; until then it counts as empty.
    primitives:
        How `fs` names a finished file, for one that the bridge does not know: see `Primitives`.

    Notes
    -----
    What can be promised depends on the file system: `guarantees` says it, and why not more. `CREATE` needs a step that
    fails when the name is taken (a hard link, HDFS's rename); without one it is refused by name, and so are commits of
    tables. `Update` is always refused: a lock would outlive a writer that crashed. Metadata has nowhere to be, so that
    the content type is told by the key's extension. One name cannot be both an object and a prefix of others. An object
    is written beside its last name, under a hidden one, and deleting the last object of a folder removes the folder.
    """

    def __init__(
        self,
        fs: AbstractFileSystem | Files,
        root: str,
        *,
        url: str = "",
        create: bool = False,
        primitives: Primitives | None = None,
    ) -> None:
        self._files = fs if isinstance(fs, Files) else FsspecFiles(fs, primitives)
        self._root = root.rstrip("/")
        self._url = url or f"{_protocol(fs)}://{self._root}"
        self._folders = Folders(self._files, self._root, self._url, create=create)
        self._walk = Walk(self._files, self._root)
        self._create = create

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """Return the store of `sftp://[user@]host[:port]`, `webhdfs://[user@]host[:port]` or `fsspec+protocol://place`.

        Parameters
        ----------
        url:
            Without a path: that is a prefix of keys, below the option `root`.
        **options:
            Those of `open_sftp`, of `open_webhdfs`, or of the file system; and `root` and `create`.

        Raises
        ------
        ConfigurationError
            The URL is malformed or holds a password, or an option is unknown.
        """
        files, root, name, create = opened(url, options)
        return cls(files, root, url=name, create=create)

    @property
    def url(self) -> str:
        return self._url

    @property
    def capabilities(self) -> Capabilities:
        promised = self.guarantees
        return Capabilities(
            conditional_create=promised.create,
            conditional_update=False,
            metadata=False,
            unique_versions=promised.unique_versions,
        )

    @property
    def guarantees(self) -> Guarantees:
        """What the file system can promise; before the first connection, what servers of its kind usually can."""
        return self._files.guarantees

    async def put(
        self, key: str, data: Data, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> ObjectMeta:
        upload = await self._upload(key, mode, attributes, NO_RETRY)
        async with upload:
            await upload.write(data)
            return await upload.complete()

    async def start_upload(
        self, key: str, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> Upload:
        return await self._upload(key, mode, attributes, PIECE_POLICY)

    async def get(
        self, key: str, *, range: ByteRange | None = None, if_match: str | None = None, head: bool = False
    ) -> GetResult:
        path = self._path(key)
        async with self._errors(key):
            if head:
                return Body.head(meta_of(key, await self._files.status(path), if_match))
            for _ in repeat(None, _ATTEMPTS):
                body = await self._body(key, path, range, if_match)
                if body is not None:
                    return body
        raise UnavailableError(f"{key!r} in {self._url} is replaced all the time. Try again", key=key)

    async def get_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, if_match: str | None = None
    ) -> list[bytes]:
        path = self._path(key)
        async with self._errors(key):
            reader = await self._reader(path)
            try:
                meta_of(key, reader.status, if_match)
                return await read_ranges(reader, key, ranges)
            finally:
                await unhurried(reader.aclose())

    async def delete(self, keys: Sequence[str]) -> None:
        paths = {self._path(key): key for key in keys}
        gone = await gather([partial(self._remove, path, key) for path, key in paths.items()], limit=_AT_ONCE)
        if not all(gone):
            await self._folders.check_root()
        await self._folders.prune({parent(path) for path, was_there in zip(paths, gone, strict=True) if was_there})

    async def list_objects(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectMeta]:
        found = self._walk.objects(prefix, after)
        is_empty = True
        while True:
            async with self._errors(prefix):
                step = await anext(found, None)
            if step is None:
                break
            is_empty = False
            yield meta_of(step[0], step[1], None)
        if is_empty:
            await self._folders.check_root()

    async def list_prefixes(self, prefix: str = "") -> Listing:
        if prefix and not prefix.endswith("/"):
            raise InvalidInputError(f"prefix {prefix!r} must be empty or end with '/'", key=prefix)
        async with self._errors(prefix):
            objects, prefixes = await self._walk.level(prefix)
        if not objects and not prefixes:
            await self._folders.check_root()
        return Listing([meta_of(key, status, None) for key, status in objects], prefixes)

    async def copy(self, source: str, target: str, *, mode: PutMode = OVERWRITE) -> ObjectMeta:
        path = self._path(source)
        self._path(target)
        async with self._errors(source):
            reader = await self._reader(path)
        try:
            meta_of(source, reader.status, None)
            async with await self._upload(target, mode, DEFAULT_ATTRIBUTES, NO_RETRY) as upload:
                await upload.copy_from(reader)
                return await upload.complete()
        finally:
            await unhurried(reader.aclose())

    def pool_stats(self) -> PoolStats:
        """Return how many connections are busy and idle now."""
        return self._files.pool_stats()

    async def warm_up(self, connections: int) -> None:
        """Open so many connections now; from then on `capabilities` are the server's own."""
        async with self._errors(""):
            await self._files.warm_up(connections)

    async def aclose(self) -> None:
        await self._files.aclose()

    async def _body(self, key: str, path: str, asked: ByteRange | None, if_match: str | None) -> Body | None:
        """Open an object; None if it was replaced meanwhile."""
        reader = await self._reader(path)
        try:
            meta = meta_of(key, reader.status, if_match)
            span = resolve_range(asked, meta.size, key)
            if await reader.prime(*span):
                return Body(self._url, meta, reader, span)
            await unhurried(reader.aclose())
        except BaseException:
            await unhurried(reader.aclose())
            raise
        return None

    async def _reader(self, path: str) -> Reader:
        opening = asyncio.ensure_future(self._files.reader(path))
        try:
            return await unhurried(opening)
        except asyncio.CancelledError:
            if not opening.cancelled() and opening.exception() is None:
                await unhurried(opening.result().aclose())
            raise

    async def _upload(self, key: str, mode: PutMode, attributes: Attributes, policy: RetryPolicy) -> FileUpload:
        path = self._path(key)
        if attributes.metadata or attributes.storage_class is not None:
            raise UnsupportedOperationError(f"{key!r}: files hold neither metadata nor storage classes", key=key)
        if mode.kind == "update":
            raise UnsupportedOperationError(
                f"{key!r} in {self._url}: files cannot be updated under a condition, as a lock would outlive a writer "
                "that crashed",
                key=key,
            )
        if mode.kind == "create":
            await self._check_create(key)
        upload = FileUpload(self._files, self._folders, key, path, mode, policy)
        try:
            await upload.open()
        except BaseException:
            await upload.abort()
            raise
        return upload

    async def _check_create(self, key: str) -> None:
        async with self._errors(key):
            promised = await self._files.promised()
        if not promised.create:
            raise UnsupportedOperationError(
                f"{key!r} cannot be created if absent in {self._url}: {promised.reason}", key=key
            )

    async def _remove(self, path: str, key: str) -> bool:
        """Remove a file; return whether it was there."""
        try:
            await unhurried(self._files.remove(path))
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
                return False
            with suppress(OSError):
                if not isinstance(error, PermissionError) and (await self._files.status(path)).kind == "folder":
                    return False
            raise mapped(error, self._url, key, placing=True) from error
        return True

    def _path(self, key: str) -> str:
        checked_key(key)
        if any(segment.startswith(RESERVED) for segment in key.split("/")):
            raise InvalidKeyError(
                f"key {key!r} has a segment that begins with {RESERVED!r}, which this store keeps for itself", key=key
            )
        return f"{self._root}/{key}"

    @asynccontextmanager
    async def _errors(self, key: str) -> AsyncIterator[None]:
        """Raise what the file system says of a read as one of our errors; of a missing root by its own name."""
        try:
            yield
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            if isinstance(error, FileNotFoundError | NotADirectoryError):
                await self._folders.check_root()
            raise mapped(error, self._url, key) from error


def _protocol(fs: Any) -> str:
    protocol = getattr(fs, "protocol", "file")
    return str(protocol if isinstance(protocol, str) else protocol[0])
