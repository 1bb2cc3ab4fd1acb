"""Repeats what failed for the moment, and settles writes whose answers were lost."""

# ruff: noqa: A002, D102 - names and docstrings are those of the contract

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from buffetstore.errors import StorageError
from buffetstore.monitoring.events import Hook, no_hook
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
from buffetstore.objects.wrappers.base import StoreWrapper, UploadWrapper
from buffetstore.objects.wrappers.resume import ResumingResult
from buffetstore.objects.wrappers.settle import Digest, Settlement, new_token, with_token, without_token
from buffetstore.resilience.retry import Retries, RetryPolicy, is_transient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from typing import TypeVar

    T = TypeVar("T")

DEFAULT_POLICY = RetryPolicy()


class RetryStore(StoreWrapper):
    """Retries transient errors, so that a caller sees either the answer or an error worth seeing.

    * Reads, listings, deletes and overwrites are repeated. A download that breaks is resumed where it broke, by a range
      request for the same version: the consumer sees every byte once. So is a listing.
    * A conditional write whose answer was lost is repeated with the same bytes; when the key is then found taken, it is
      read back. Our own object (its metadata has our token; without metadata: the same content) is success, anybody
      else's the conflict that it is. A stale `Update` that may have been ours before the other's keeps `ambiguous`.
      So is one that was cut by `RetryPolicy.call_seconds`, within `settle_seconds` more; and one whose caller is
      cancelled, who gets `CancelledError` once it is settled.
    * A conditional copy cannot be told from another's, so that it is repeated only if it surely did nothing.
    * `CircuitOpenError` is never retried: it says when to come again.

    Parameters
    ----------
    inner:
        The store around, whose own client must not retry.
    policy:
        How often, how long.
    hook:
        Told of each retry (`objects.retry`; its seconds are the wait, its error what went wrong).
    """

    forwards: ClassVar[frozenset[str]] = frozenset({"url", "capabilities", "signed_url", "aclose"})

    def __init__(self, inner: ObjectStore, policy: RetryPolicy = DEFAULT_POLICY, *, hook: Hook = no_hook) -> None:
        super().__init__(inner)
        self._retries = Retries(policy, hook)

    async def put(
        self, key: str, data: Data, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> ObjectMeta:
        if mode == OVERWRITE:
            return await self._retries.call(
                lambda: self.inner.put(key, data, mode=mode, attributes=attributes), key, writes=True
            )
        token = new_token() if self.capabilities.metadata else None
        marked = with_token(attributes, token)
        settlement = Settlement(
            self.inner, key, mode, token, lambda: Digest.of(data),
            lambda: self.inner.put(key, data, mode=mode, attributes=marked),
        )  # fmt: skip
        return await self.settle(settlement)

    async def start_upload(
        self, key: str, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> Upload:
        token = new_token() if self.capabilities.metadata else None
        marked = with_token(attributes, token)
        inner = await self._retries.call(lambda: self.inner.start_upload(key, mode=mode, attributes=marked), key)
        return _RetryUpload(inner, self, key, mode, token)

    async def get(
        self, key: str, *, range: ByteRange | None = None, if_match: str | None = None, head: bool = False
    ) -> GetResult:
        result = await self._retries.call(lambda: self.inner.get(key, range=range, if_match=if_match, head=head), key)
        return ResumingResult(self.inner, result, without_token(result.meta), self._retries)

    async def get_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, if_match: str | None = None
    ) -> list[bytes]:
        return await self._retries.call(lambda: self.inner.get_ranges(key, ranges, if_match=if_match), key)

    async def delete(self, keys: Sequence[str]) -> None:
        await self._retries.call(lambda: self.inner.delete(keys), keys[0] if keys else "", writes=True)

    async def list_objects(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectMeta]:
        def rest() -> AsyncIterator[ObjectMeta]:
            return self.inner.list_objects(prefix, after=after)

        async for meta in self._resumed(prefix, rest):
            after = meta.key
            yield without_token(meta)

    async def list_prefixes(self, prefix: str = "") -> Listing:
        listing = await self._retries.call(lambda: self.inner.list_prefixes(prefix), prefix)
        return Listing([without_token(meta) for meta in listing.objects], listing.prefixes)

    async def copy(self, source: str, target: str, *, mode: PutMode = OVERWRITE) -> ObjectMeta:
        def harmless(error: BaseException) -> bool:
            return is_transient(error) and (mode == OVERWRITE or not getattr(error, "ambiguous", False))

        copied = await self._retries.call(
            lambda: self.inner.copy(source, target, mode=mode), target, retry_if=harmless, writes=True
        )
        return without_token(copied)

    async def list_versions(self, prefix: str = "") -> AsyncIterator[ObjectVersion]:
        seen = _SeenVersions()

        async def rest() -> AsyncIterator[ObjectVersion]:
            async for version in self.inner.list_versions(prefix):
                if seen.is_next(version):
                    yield version

        async for version in self._resumed(prefix, rest):
            seen.add(version)
            yield replace(version, meta=without_token(version.meta))

    async def get_version(self, key: str, version_id: str, *, range: ByteRange | None = None) -> GetResult:
        result = await self._retries.call(lambda: self.inner.get_version(key, version_id, range=range), key)
        return ResumingResult(self.inner, result, without_token(result.meta), self._retries, version_id)

    async def restore_version(self, key: str, version_id: str) -> ObjectMeta:
        return without_token(
            await self._retries.call(lambda: self.inner.restore_version(key, version_id), key, writes=True)
        )

    async def settle(self, settlement: Settlement) -> ObjectMeta:
        """Run a write to its settled end."""
        return without_token(await settlement.settled(self._retries))

    async def _resumed(self, subject: str, rest: Callable[[], AsyncIterator[T]]) -> AsyncIterator[T]:
        """Yield a listing, whose rest is asked for by `rest` each time that it breaks."""
        found = rest()

        async def step() -> T | None:
            return await self._retries.within(anext(found, None), subject)

        async def again() -> T | None:
            nonlocal found
            found = rest()
            return await step()

        while True:
            try:
                entry = await step()
            except StorageError as error:
                if not is_transient(error):
                    raise
                entry = await self._retries.resume(error, again, subject)
            if entry is None:
                return
            yield entry


class _SeenVersions:
    """Where a listing of versions stands, which a store lists from the start only."""

    def __init__(self) -> None:
        self._last: ObjectVersion | None = None
        self._ids: set[str] = set()

    def add(self, version: ObjectVersion) -> None:
        if self._last is None or version.meta.key != self._last.meta.key:
            self._ids.clear()
        self._last = version
        self._ids.add(version.id)

    def is_next(self, version: ObjectVersion) -> bool:
        """Return whether it comes after all that were seen; one that was made since then does not."""
        last = self._last
        if last is None or version.meta.key > last.meta.key:
            return True
        if version.meta.key < last.meta.key or version.id in self._ids:
            return False
        return version.meta.last_modified <= last.meta.last_modified


class _RetryUpload(UploadWrapper):
    """Repeats and settles `complete`. Parts are the store's own affair: only it knows which of them arrived."""

    def __init__(self, inner: Upload, store: RetryStore, key: str, mode: PutMode, token: str | None) -> None:
        super().__init__(inner)
        self._store = store
        self._key = key
        self._mode = mode
        self._token = token
        self._digest = Digest()

    async def write(self, data: Data) -> None:
        if self._token is None:
            await self._digest.add(data)
        await self.inner.write(data)

    async def complete(self) -> ObjectMeta:
        async def digest() -> Digest:
            return self._digest

        settlement = Settlement(self._store.inner, self._key, self._mode, self._token, digest, self.inner.complete)
        return await self._store.settle(settlement)
