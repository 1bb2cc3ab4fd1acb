"""A store that starts at a prefix of another."""

# ruff: noqa: A002, D102 - names and docstrings are those of the contract

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from buffetstore.errors import InvalidInputError, StorageError
from buffetstore.objects.base import (
    DEFAULT_ATTRIBUTES,
    OVERWRITE,
    Attributes,
    ByteRange,
    Data,
    GetResult,
    Listing,
    ObjectMeta,
    ObjectStore,
    ObjectVersion,
    PutMode,
    Upload,
)
from buffetstore.objects.keys import checked_key
from buffetstore.objects.wrappers.base import StoreWrapper, UploadWrapper
from buffetstore.objects.wrappers.passing import PassingResult

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from typing import Literal


class PrefixStore(StoreWrapper):
    """Keys of this store are those of `inner` below `prefix`; it cannot reach any other.

    Parameters
    ----------
    inner:
        The store around; closed with this one.
    prefix:
        Path segments, with or without a `/` at their end.

    Raises
    ------
    InvalidKeyError
        No key can start with `prefix`.
    """

    forwards: ClassVar[frozenset[str]] = frozenset({"capabilities", "aclose"})

    def __init__(self, inner: ObjectStore, prefix: str) -> None:
        super().__init__(inner)
        self._prefix = checked_key(prefix.removesuffix("/")) + "/"
        self._names = _Names(self._prefix)

    @property
    def url(self) -> str:
        start = self.inner.url
        return f"{start}{'' if start.endswith('/') else '/'}{self._prefix.removesuffix('/')}"

    async def put(
        self, key: str, data: Data, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> ObjectMeta:
        with self._names.in_errors():
            return self._names.own(await self.inner.put(self._names.full(key), data, mode=mode, attributes=attributes))

    async def start_upload(
        self, key: str, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> Upload:
        with self._names.in_errors():
            return _PrefixUpload(
                self._names, await self.inner.start_upload(self._names.full(key), mode=mode, attributes=attributes)
            )

    async def get(
        self, key: str, *, range: ByteRange | None = None, if_match: str | None = None, head: bool = False
    ) -> GetResult:
        names = self._names
        try:
            result = await self.inner.get(names.full(key), range=range, if_match=if_match, head=head)
        except StorageError as error:  # the hottest path: no context manager
            names.rename(error)
            raise
        return _PrefixResult(result, names)

    async def get_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, if_match: str | None = None
    ) -> list[bytes]:
        with self._names.in_errors():
            return await self.inner.get_ranges(self._names.full(key), ranges, if_match=if_match)

    async def delete(self, keys: Sequence[str]) -> None:
        with self._names.in_errors():
            await self.inner.delete([self._names.full(key) for key in keys])

    async def list_objects(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectMeta]:
        with self._names.in_errors():
            async for meta in self.inner.list_objects(self._prefix + prefix, after=self._prefix + after):
                yield self._names.own(meta)

    async def list_prefixes(self, prefix: str = "") -> Listing:
        if prefix and not prefix.endswith("/"):
            raise InvalidInputError(f"prefix {prefix!r} must be empty or end with '/'", key=prefix)
        with self._names.in_errors():
            listing = await self.inner.list_prefixes(self._prefix + prefix)
        cut = len(self._prefix)
        return Listing([self._names.own(meta) for meta in listing.objects], [name[cut:] for name in listing.prefixes])

    async def copy(self, source: str, target: str, *, mode: PutMode = OVERWRITE) -> ObjectMeta:
        with self._names.in_errors():
            return self._names.own(await self.inner.copy(self._names.full(source), self._names.full(target), mode=mode))

    async def signed_url(
        self,
        key: str,
        *,
        method: Literal["GET", "PUT"] = "GET",
        expires_seconds: int = 3600,
        content_type: str | None = None,
    ) -> str:
        with self._names.in_errors():
            return await self.inner.signed_url(
                self._names.full(key), method=method, expires_seconds=expires_seconds, content_type=content_type
            )

    async def list_versions(self, prefix: str = "") -> AsyncIterator[ObjectVersion]:
        with self._names.in_errors():
            async for version in self.inner.list_versions(self._prefix + prefix):
                yield replace(version, meta=self._names.own(version.meta))

    async def get_version(self, key: str, version_id: str, *, range: ByteRange | None = None) -> GetResult:
        with self._names.in_errors():
            result = await self.inner.get_version(self._names.full(key), version_id, range=range)
        return _PrefixResult(result, self._names)

    async def restore_version(self, key: str, version_id: str) -> ObjectMeta:
        with self._names.in_errors():
            return self._names.own(await self.inner.restore_version(self._names.full(key), version_id))


class _Names:
    """Translates keys between the two stores."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def full(self, key: str) -> str:
        return self.prefix + checked_key(key)

    def own(self, meta: ObjectMeta) -> ObjectMeta:
        # Not dataclasses.replace, which takes three times as long.
        return ObjectMeta(
            meta.key[len(self.prefix) :], meta.size, meta.version, meta.last_modified, meta.attributes, meta.checksum
        )

    @contextmanager
    def in_errors(self) -> Iterator[None]:
        """Name this store's keys in the errors of the inner one."""
        try:
            yield
        except StorageError as error:
            self.rename(error)
            raise

    def rename(self, error: StorageError) -> None:
        """Name this store's key in an error of the inner one."""
        if error.key is not None and error.key.startswith(self.prefix):
            error.key = error.key[len(self.prefix) :]


class _PrefixResult(PassingResult):
    def __init__(self, inner: GetResult, names: _Names) -> None:
        super().__init__(inner, names.own(inner.meta))
        self._names = names

    def _ended(self, error: BaseException | None) -> None:
        if isinstance(error, StorageError):
            self._names.rename(error)


class _PrefixUpload(UploadWrapper):
    def __init__(self, names: _Names, inner: Upload) -> None:
        super().__init__(inner)
        self._names = names

    async def write(self, data: Data) -> None:
        with self._names.in_errors():
            await self.inner.write(data)

    async def complete(self) -> ObjectMeta:
        with self._names.in_errors():
            return self._names.own(await self.inner.complete())
