"""A store around a store: forwards the whole contract, so that a wrapper defines only what it changes."""

# ruff: noqa: A002, D102 - names and docstrings are those of the contract

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

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
    ObjectVersion,
    PutMode,
    Upload,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from typing import Literal


class StoreWrapper(ObjectStore):
    """Forwards everything to `inner`.

    A subclass lists in `forwards` the names that it leaves as they are. A test fails when a name of the contract is
    neither defined by the subclass nor listed: whoever adds one to the contract must decide for each wrapper.
    """

    forwards: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, inner: ObjectStore) -> None:
        self.inner = inner

    @property
    def url(self) -> str:
        return self.inner.url

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    async def put(
        self, key: str, data: Data, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> ObjectMeta:
        return await self.inner.put(key, data, mode=mode, attributes=attributes)

    async def start_upload(
        self, key: str, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> Upload:
        return await self.inner.start_upload(key, mode=mode, attributes=attributes)

    async def get(
        self, key: str, *, range: ByteRange | None = None, if_match: str | None = None, head: bool = False
    ) -> GetResult:
        return await self.inner.get(key, range=range, if_match=if_match, head=head)

    async def get_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, if_match: str | None = None
    ) -> list[bytes]:
        return await self.inner.get_ranges(key, ranges, if_match=if_match)

    async def delete(self, keys: Sequence[str]) -> None:
        await self.inner.delete(keys)

    def list_objects(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectMeta]:
        return self.inner.list_objects(prefix, after=after)

    async def list_prefixes(self, prefix: str = "") -> Listing:
        return await self.inner.list_prefixes(prefix)

    async def copy(self, source: str, target: str, *, mode: PutMode = OVERWRITE) -> ObjectMeta:
        return await self.inner.copy(source, target, mode=mode)

    async def signed_url(
        self,
        key: str,
        *,
        method: Literal["GET", "PUT"] = "GET",
        expires_seconds: int = 3600,
        content_type: str | None = None,
    ) -> str:
        return await self.inner.signed_url(
            key, method=method, expires_seconds=expires_seconds, content_type=content_type
        )

    def list_versions(self, prefix: str = "") -> AsyncIterator[ObjectVersion]:
        return self.inner.list_versions(prefix)

    async def get_version(self, key: str, version_id: str, *, range: ByteRange | None = None) -> GetResult:
        return await self.inner.get_version(key, version_id, range=range)

    async def restore_version(self, key: str, version_id: str) -> ObjectMeta:
        return await self.inner.restore_version(key, version_id)

    async def aclose(self) -> None:
        await self.inner.aclose()


class WrappedResult(GetResult):
    """A result around a result: its bytes pass through `chunks`, closing closes the inner one."""

    def __init__(self, inner: GetResult, meta: ObjectMeta, chunks: AsyncIterator[Data]) -> None:
        super().__init__(meta, chunks, range=inner.range, aclose=self._close)
        self.inner = inner

    async def _close(self) -> None:
        await self.inner.aclose()


class UploadWrapper(Upload):
    """Forwards everything to `inner`."""

    def __init__(self, inner: Upload) -> None:
        self.inner = inner

    async def write(self, data: Data) -> None:
        await self.inner.write(data)

    async def complete(self) -> ObjectMeta:
        return await self.inner.complete()

    async def abort(self) -> None:
        await self.inner.abort()
