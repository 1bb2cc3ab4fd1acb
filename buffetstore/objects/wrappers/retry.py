"""Repeats what failed for the moment, and settles writes whose answers were lost."""

# ruff: noqa: A002, D102 - names and docstrings are those of the contract

from __future__ import annotations

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
    PutMode,
    Upload,
)
from buffetstore.objects.wrappers.base import StoreWrapper, UploadWrapper
from buffetstore.objects.wrappers.resume import ResumingResult
from buffetstore.objects.wrappers.settle import Digest, Settlement, new_token, with_token, without_token
from buffetstore.resilience.retry import RetryPolicy, is_transient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
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
    * A conditional copy cannot be told from another's, so that it is repeated only if it surely did nothing.

    Parameters
    ----------
    inner:
        The store around, whose own client must not retry.
    policy:
        How often, how long.
    hook:
        Told of each retry (`objects.retry`).
    """

    forwards: ClassVar[frozenset[str]] = frozenset(
        {"url", "capabilities", "signed_url", "list_versions", "get_version", "restore_version", "aclose"}
    )

    def __init__(self, inner: ObjectStore, policy: RetryPolicy = DEFAULT_POLICY, *, hook: Hook = no_hook) -> None:
        super().__init__(inner)
        self._policy = policy
        self._hook = hook

    async def put(
        self, key: str, data: Data, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> ObjectMeta:
        if mode == OVERWRITE:
            return await self._retried(key, lambda: self.inner.put(key, data, mode=mode, attributes=attributes))
        token = new_token() if self.capabilities.metadata else None
        marked = with_token(attributes, token)
        settlement = Settlement(
            self.inner, key, mode, token, lambda: Digest.of(data),
            lambda: self.inner.put(key, data, mode=mode, attributes=marked),
        )  # fmt: skip
        return without_token(await settlement.settled(self._policy, self._hook))

    async def start_upload(
        self, key: str, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> Upload:
        token = new_token() if self.capabilities.metadata else None
        marked = with_token(attributes, token)
        inner = await self._retried(key, lambda: self.inner.start_upload(key, mode=mode, attributes=marked))
        return _RetryUpload(inner, self, key, mode, token)

    async def get(
        self, key: str, *, range: ByteRange | None = None, if_match: str | None = None, head: bool = False
    ) -> GetResult:
        result = await self._retried(key, lambda: self.inner.get(key, range=range, if_match=if_match, head=head))
        meta = without_token(result.meta)
        return ResumingResult(self.inner, result, meta, self._policy, self._hook)

    async def get_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, if_match: str | None = None
    ) -> list[bytes]:
        return await self._retried(key, lambda: self.inner.get_ranges(key, ranges, if_match=if_match))

    async def delete(self, keys: Sequence[str]) -> None:
        await self._retried(keys[0] if keys else "", lambda: self.inner.delete(keys))

    async def list_objects(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectMeta]:
        found = self.inner.list_objects(prefix, after=after)

        async def step() -> ObjectMeta | None:
            return await anext(found, None)

        async def again() -> ObjectMeta | None:
            nonlocal found
            found = self.inner.list_objects(prefix, after=after)
            return await step()

        while True:
            try:
                meta = await step()
            except StorageError as error:
                if not is_transient(error):
                    raise
                meta = await self._policy.resume(error, again, hook=self._hook, subject=prefix)
            if meta is None:
                return
            after = meta.key
            yield without_token(meta)

    async def list_prefixes(self, prefix: str = "") -> Listing:
        listing = await self._retried(prefix, lambda: self.inner.list_prefixes(prefix))
        return Listing([without_token(meta) for meta in listing.objects], listing.prefixes)

    async def copy(self, source: str, target: str, *, mode: PutMode = OVERWRITE) -> ObjectMeta:
        def harmless(error: BaseException) -> bool:
            return is_transient(error) and (mode == OVERWRITE or not getattr(error, "ambiguous", False))

        meta = await self._policy.call(
            lambda: self.inner.copy(source, target, mode=mode), hook=self._hook, subject=target, retry_if=harmless
        )
        return without_token(meta)

    async def settle(self, settlement: Settlement) -> ObjectMeta:
        """Run a write to its settled end."""
        return without_token(await settlement.settled(self._policy, self._hook))

    async def _retried(self, subject: str, function: Callable[[], Awaitable[T]]) -> T:
        return await self._policy.call(function, hook=self._hook, subject=subject)


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
