"""Encrypts on this side: the service holds ciphertext alone."""

# ruff: noqa: A002, ARG002, D102 - names, arguments and docstrings are those of the contract

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar

from buffetstore.caching import LRUCache
from buffetstore.errors import (
    ConfigurationError,
    InvalidRangeError,
    NotFoundError,
    PreconditionFailedError,
    TamperedError,
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
    ObjectVersion,
    PutMode,
    Upload,
)
from buffetstore.objects.keys import checked_key
from buffetstore.objects.ranges import checked_range, coalesce, cut, resolve_range
from buffetstore.objects.wrappers.base import StoreWrapper, WrappedResult
from buffetstore.objects.wrappers.sealed import (
    KEY_ID,
    SealedObject,
    SealedResult,
    SealedUpload,
    beginning,
    in_thread_if_large,
    named,
    not_sealed,
    poured,
    shown,
    size_of,
)
from buffetstore.resilience.concurrency import gather
from buffetstore.resilience.threads import give_way
from buffetstore.security import CHUNK_BYTES, Header, KeyProvider, ObjectCipher, plain_size
from buffetstore.security.cipher import MAGIC

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

T = TypeVar("T")
_PUT_BYTES = 8 * 1024 * 1024  # a copy of at most so many bytes is one put
_PAGE = 64
_KEYS_HELD = 4096
_KEYS_HELD_SECONDS = 3600.0


class EncryptionStore(StoreWrapper):
    """Seals every object with AES-256-GCM in chunks (`buffetstore.security.cipher` has the format).

    * Ranges read only the chunks they touch. The first ranged read of an object reads its header before, and its last
      chunk beside, which proves its size; later ones, and reads of whole objects, take one request.
    * Sizes are those of the plaintext, in listings too. Versions are the service's; a checksum is not told, as the
      service's is of the ciphertext.
    * An object with a key that is not held is a `WrongKeyError`. One that was changed, cut, put in another's place, or
      that is not encrypted at all, is a `TamperedError`. An older state of the same object cannot be told.
    * `copy` reads and writes: the copy gets a data key of its own, and what is copied is proved. Copied onto itself, an
      object changes to the current key.
    * `signed_url` is refused: whoever follows it has no keys.

    Parameters
    ----------
    inner:
        Holds ciphertext. Caches and retries belong below this wrapper.
    keys:
        Wraps the objects' data keys.
    prefix:
        Where the keys of this store begin in the bucket, so that an object has one name whichever prefix the store was
        opened with: the name is authenticated.
    plaintext:
        What to do about objects that are not encrypted. `allow` reads them as they are, for a time of migration:
        whoever can write to the bucket can then pass off anything as an object, and listings read headers.
    """

    forwards: ClassVar[frozenset[str]] = frozenset({"url", "delete", "aclose"})

    def __init__(
        self,
        inner: ObjectStore,
        keys: KeyProvider,
        *,
        prefix: str = "",
        plaintext: Literal["refuse", "allow"] = "refuse",
    ) -> None:
        if plaintext not in {"refuse", "allow"}:
            raise ConfigurationError(f"plaintext={plaintext!r} must be 'refuse' or 'allow'")
        super().__init__(inner)
        self._keys = keys
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self._allow = plaintext == "allow"
        self._held: LRUCache[SealedObject] = LRUCache(_KEYS_HELD, _KEYS_HELD_SECONDS)

    @property
    def capabilities(self) -> Capabilities:
        return replace(self.inner.capabilities, signed_urls=False)

    async def put(
        self, key: str, data: Data, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> ObjectMeta:
        view = memoryview(data).cast("B")
        cipher = await self._new_cipher(checked_key(key), len(view))
        sealed = await in_thread_if_large(len(view), cipher.seal, view, final=True, header=True)
        meta = shown(await self.inner.put(key, sealed, mode=mode, attributes=self._marked(attributes)), len(view))
        self._held.put(key, SealedObject(meta, cipher, proved=True), 1)
        return meta

    async def start_upload(
        self, key: str, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> Upload:
        inner = await self.inner.start_upload(checked_key(key), mode=mode, attributes=self._marked(attributes))
        return SealedUpload(inner, key, partial(self._new_cipher, key))

    async def get(
        self, key: str, *, range: ByteRange | None = None, if_match: str | None = None, head: bool = False
    ) -> GetResult:
        if head:
            result = await self.inner.get(key, if_match=if_match, head=True)
            return WrappedResult(result, await self._head(result.meta), aiter(result))
        if range is None and not self._allow:
            return await self._whole(await self.inner.get(key, if_match=if_match))
        return await self._current(key, if_match, partial(self._get_range, asked=range))

    async def get_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, if_match: str | None = None
    ) -> list[bytes]:
        return await self._current(key, if_match, partial(self._get_ranges, ranges=ranges))

    async def list_objects(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectMeta]:
        page: list[ObjectMeta] = []
        async for meta in self.inner.list_objects(prefix, after=after):
            if not self._allow:
                yield self._listed(meta)
                continue
            page.append(meta)
            if len(page) == _PAGE:
                for found in await self._all_listed(page):
                    yield found
                page = []
        for found in await self._all_listed(page):
            yield found

    async def list_prefixes(self, prefix: str = "") -> Listing:
        listing = await self.inner.list_prefixes(prefix)
        if self._allow:
            return Listing(await self._all_listed(listing.objects), listing.prefixes)
        return Listing([self._listed(meta) for meta in listing.objects], listing.prefixes)

    async def copy(self, source: str, target: str, *, mode: PutMode = OVERWRITE) -> ObjectMeta:
        checked_key(target)
        while True:
            async with await self.get(source) as result:
                attributes = result.meta.attributes or DEFAULT_ATTRIBUTES
                if result.meta.size <= _PUT_BYTES:
                    try:
                        data = await result.read()
                    except PreconditionFailedError:  # the source was replaced while it was read: read the new one
                        continue
                    return await self.put(target, data, mode=mode, attributes=attributes)
                async with await self.start_upload(target, mode=mode, attributes=attributes) as upload:
                    if await poured(result, upload):
                        return await upload.complete()

    async def signed_url(
        self,
        key: str,
        *,
        method: Literal["GET", "PUT"] = "GET",
        expires_seconds: int = 3600,
        content_type: str | None = None,
    ) -> str:
        raise UnsupportedOperationError(
            f"{key!r} has no signed URL: what lies at {self.url} is encrypted on this side, and a URL has no keys. "
            "Read it through the store",
            key=key,
        )

    async def list_versions(self, prefix: str = "") -> AsyncIterator[ObjectVersion]:
        async for version in self.inner.list_versions(prefix):
            yield version if version.is_deletion else replace(version, meta=self._listed(version.meta))

    async def get_version(self, key: str, version_id: str, *, range: ByteRange | None = None) -> GetResult:
        fetch = partial(self.inner.get_version, key, version_id)
        if range is None and not self._allow:
            return await self._whole(await fetch())
        opened = await self._opened(fetch)
        if opened.cipher is None:
            return await fetch(range=range)
        start, end = resolve_range(range, opened.meta.size, key)
        span, last = opened.span(start, end), opened.span(*opened.last)
        if span[1] < last[1] and not opened.proved:
            await self._prove(opened, await (await fetch(range=ByteRange(*last))).read())
        return SealedResult(await fetch(range=ByteRange(*span)), opened.meta, (start, end), opened.cipher)

    async def restore_version(self, key: str, version_id: str) -> ObjectMeta:
        self._held.delete(key)
        return self._listed(await self.inner.restore_version(key, version_id))

    async def _current(
        self, key: str, if_match: str | None, read: Callable[[SealedObject, str | None], Awaitable[T]]
    ) -> T:
        """Return what `read` makes of the version asked for, or of the current one.

        A header that is held may be of an older version, and only the service knows. So `read` gets no version to ask
        for with it (a cache below would answer for that one), and finds out: another version does not open.
        """
        while True:
            held = self._held.get(key)
            known = held is not None and if_match in {None, held.meta.version}
            try:
                if held is None or not known:
                    held = await self._opened(partial(self.inner.get, key, if_match=if_match))
                    if held.cipher is not None:
                        self._held.put(key, held, 1)
                return await read(held, if_match if known else held.meta.version)
            except (PreconditionFailedError, InvalidRangeError, TamperedError, NotFoundError) as error:
                self._held.delete(key)
                replaced = if_match is None and isinstance(error, PreconditionFailedError)
                if not (replaced or known) or isinstance(error, NotFoundError):
                    raise

    async def _opened(self, fetch: Callable[..., Awaitable[GetResult]]) -> SealedObject:
        """Read the header of what `fetch` gives."""
        meta, head = await beginning(fetch)
        with named(meta.key):
            header = Header.parse(head)
            if header is None:
                if not self._allow:
                    raise not_sealed()
                return SealedObject(meta, None, proved=True)
            cipher = await self._cipher(meta, header)
            return SealedObject(shown(meta, size_of(meta)), cipher, proved=header.length is not None)

    async def _cipher(self, meta: ObjectMeta, header: Header) -> ObjectCipher:
        if header.length not in {None, size_of(meta)}:
            raise TamperedError(f"it was cut or extended: {header.length} bytes were written, it has {size_of(meta)}")
        return await ObjectCipher.held(self._keys, self._prefix + meta.key, header)

    async def _whole(self, result: GetResult) -> GetResult:
        async def cipher(head: Data) -> ObjectCipher:
            held = self._held.get(meta.key)
            header = Header.parse(head)
            if header is None:
                raise not_sealed()
            if held is not None and held.cipher is not None and held.cipher.header == header:
                return held.cipher
            found = await self._cipher(result.meta, header)
            self._held.put(meta.key, SealedObject(meta, found, proved=header.length is not None), 1)
            return found

        try:
            meta = await self._head(result.meta)
        except BaseException:
            await result.aclose()
            raise
        return SealedResult(result, meta, (0, meta.size), cipher)

    async def _get_range(self, opened: SealedObject, pin: str | None, *, asked: ByteRange | None) -> GetResult:
        meta = opened.meta
        if opened.cipher is None:
            return await self.inner.get(meta.key, range=asked, if_match=pin)
        start, end = resolve_range(asked, meta.size, meta.key)
        span = ByteRange(*opened.span(start, end))
        results: list[GetResult] = []

        async def body() -> None:
            results.append(await self.inner.get(meta.key, range=span, if_match=pin))

        async def proof() -> None:
            last = opened.span(*opened.last)
            (sealed,) = await self.inner.get_ranges(meta.key, [last], if_match=meta.version)
            await self._prove(opened, sealed)

        try:
            await gather([body] if opened.proved or end == meta.size else [body, proof])
        except BaseException:
            for result in results:
                await result.aclose()
            raise
        (result,) = results
        if result.meta.version != meta.version:
            await result.aclose()
            raise PreconditionFailedError(f"{meta.key!r} has another version now", key=meta.key)
        return SealedResult(result, meta, (start, end), opened.cipher)

    async def _get_ranges(
        self, opened: SealedObject, pin: str | None, *, ranges: Sequence[tuple[int, int]]
    ) -> list[bytes]:
        meta, cipher = opened.meta, opened.cipher
        if cipher is None or not ranges:
            return await self.inner.get_ranges(meta.key, ranges, if_match=pin)
        wanted = [checked_range(start, end, meta.size, meta.key) for start, end in ranges]
        grid = CHUNK_BYTES
        aligned = [(start // grid * grid, min(-(-end // grid) * grid, meta.size)) for start, end in wanted]
        spans = coalesce([*aligned, *([] if opened.proved else [opened.last])], gap=0)
        bodies = await self.inner.get_ranges(meta.key, [opened.span(*span) for span in spans], if_match=pin)

        def unseal() -> list[bytes]:
            parts = []
            for (start, end), body in zip(spans, bodies, strict=True):
                parts.append(cipher.open(body, start // grid, final=end == meta.size))
                if len(parts[-1]) != end - start:
                    raise TamperedError(f"it was cut: of bytes {start} to {end} there are {len(parts[-1])}")
                give_way()
            return cut(wanted, spans, parts)

        with named(meta.key):
            answers = await in_thread_if_large(sum(map(len, bodies)), unseal)
        opened.proved = True
        return answers

    async def _prove(self, opened: SealedObject, sealed: bytes) -> None:
        assert opened.cipher is not None
        with named(opened.meta.key):
            opened.cipher.open(sealed, opened.last[0] // CHUNK_BYTES, final=True)
        opened.proved = True

    async def _new_cipher(self, key: str, size: int | None) -> ObjectCipher:
        with named(key):
            return await ObjectCipher.new(self._keys, self._prefix + key, size)

    def _marked(self, attributes: Attributes) -> Attributes:
        """Say which key it is, for people: the header is what counts."""
        if not self.inner.capabilities.metadata:
            return attributes
        metadata = {**attributes.metadata, KEY_ID: self._keys.current_key_id}
        return Attributes(attributes.content_type, metadata, attributes.storage_class)

    def _listed(self, meta: ObjectMeta) -> ObjectMeta:
        size = plain_size(meta.size)
        return meta if size is None else shown(meta, size)

    async def _head(self, meta: ObjectMeta) -> ObjectMeta:
        if self._allow:
            return (await self._all_listed([meta]))[0]
        with named(meta.key):
            return shown(meta, size_of(meta))

    async def _all_listed(self, page: Sequence[ObjectMeta]) -> list[ObjectMeta]:
        """Tell sealed objects from others by their headers."""

        async def look(meta: ObjectMeta) -> ObjectMeta:
            held = self._held.get(meta.key)
            if held is not None and held.meta.version == meta.version:
                return shown(meta, held.meta.size)
            try:
                _, head = await beginning(partial(self.inner.get, meta.key, if_match=meta.version))
            except (PreconditionFailedError, NotFoundError):  # it changed meanwhile: the listing is of before
                return self._listed(meta)
            return self._listed(meta) if head.startswith(MAGIC) else meta

        return await gather([partial(look, meta) for meta in page])
