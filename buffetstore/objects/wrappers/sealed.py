"""Sealed objects on their way: bodies that are opened as they come, uploads that are sealed as they go."""

# ruff: noqa: D102 - docstrings are those of the contract

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from buffetstore.errors import (
    InvalidRangeError,
    PreconditionFailedError,
    StorageError,
    TamperedError,
    UnavailableError,
    UnsupportedOperationError,
)
from buffetstore.objects.base import Attributes, ByteRange, ObjectMeta
from buffetstore.objects.wrappers.base import UploadWrapper, WrappedResult
from buffetstore.resilience.threads import in_thread
from buffetstore.security import CHUNK_BYTES, HEADER_BYTES, ObjectCipher, plain_size
from buffetstore.security.cipher import SEALED_CHUNK_BYTES, chunk_count, sealed_span

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from buffetstore.objects.base import Data, GetResult, Upload

T = TypeVar("T")
KEY_ID = "buffetstore-key-id"
_BATCH_BYTES = 64 * CHUNK_BYTES
_INLINE_BYTES = 128 * 1024  # some 20 us of AES, less than the way to a thread and back


@dataclass(slots=True)
class SealedObject:
    """One version of an object whose header has been opened.

    Parameters
    ----------
    meta:
        As shown outside: `size` is that of the plaintext.
    cipher:
        None where the object is not sealed.
    proved:
        The last chunk was opened, so that the size is that of the writer.
    """

    meta: ObjectMeta
    cipher: ObjectCipher | None
    proved: bool

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return the sealed bytes that hold [start, end)."""
        return sealed_span(start, end, self.meta.size)

    @property
    def last(self) -> tuple[int, int]:
        """The first and last byte of the last chunk."""
        return (chunk_count(self.meta.size) - 1) * CHUNK_BYTES, self.meta.size


def shown(meta: ObjectMeta, size: int) -> ObjectMeta:
    """Return the metadata of a sealed object as its writer gave it, with the plaintext's size."""
    attributes = meta.attributes
    if attributes is not None and KEY_ID in attributes.metadata:
        kept = {name: value for name, value in attributes.metadata.items() if name != KEY_ID}
        attributes = Attributes(attributes.content_type, kept, attributes.storage_class)
    # Not `replace`, which takes as long as the cipher does for a small object.
    return ObjectMeta(meta.key, size, meta.version, meta.last_modified, attributes)


async def beginning(fetch: Callable[..., Awaitable[GetResult]]) -> tuple[ObjectMeta, bytes]:
    """Return the metadata and as many bytes as a header has."""
    try:
        result = await fetch(range=ByteRange(0, HEADER_BYTES))
    except InvalidRangeError:  # it is empty
        async with await fetch() as result:
            return result.meta, b""
    return result.meta, await result.read()


async def poured(result: GetResult, upload: Upload) -> bool:
    """Write the body to the upload; return False if its object was replaced meanwhile."""
    chunks = aiter(result)
    while True:
        try:
            chunk = await anext(chunks, None)
        except PreconditionFailedError:
            return False
        if chunk is None:
            return True
        await upload.write(chunk)


def size_of(meta: ObjectMeta) -> int:
    """Return the plaintext's size of an object as the service tells it; `TamperedError` if it is none of ours."""
    size = plain_size(meta.size)
    if size is None:
        raise not_sealed() if meta.size < HEADER_BYTES else TamperedError(f"it was cut: it has {meta.size} bytes")
    return size


def not_sealed() -> TamperedError:
    """Return the error of an object that is not encrypted."""
    return TamperedError(
        "it is not encrypted, though every object here should be: plaintext='allow' reads such objects as they are"
    )


@contextmanager
def named(key: str) -> Iterator[None]:
    """Say in the cipher's errors which object it is."""
    try:
        yield
    except StorageError as error:
        if error.key is None:
            error.key = key
            error.message = f"{key!r}: {error.message}"
        raise


async def in_thread_if_large(size: int, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Run `function`, whose work is on `size` bytes, off the event loop if these are many."""
    if size <= _INLINE_BYTES:
        return function(*args, **kwargs)
    return await in_thread(partial(function, *args, **kwargs))


class SealedResult(WrappedResult):
    """The plaintext [start, end) of a sealed body that begins with a chunk, or with the header.

    Parameters
    ----------
    inner:
        The sealed body.
    span:
        [start, end) of the plaintext.
    cipher:
        The object's, or what finds it by the header with which the body begins.
    """

    def __init__(
        self,
        inner: GetResult,
        meta: ObjectMeta,
        span: tuple[int, int],
        cipher: ObjectCipher | Callable[[Data], Awaitable[ObjectCipher]],
    ) -> None:
        super().__init__(inner, meta, self._stream())
        self.range = span
        self._cipher = cipher
        self._index = span[0] // CHUNK_BYTES
        self._begun = False

    async def read(self) -> bytes:
        if self._begun:
            return await super().read()
        self._begun = True
        try:
            sealed = memoryview(await self.inner.read())
            if len(sealed) < self.inner.range[1] - self.inner.range[0]:
                raise self._ended(len(sealed))
            with named(self.meta.key):
                if not isinstance(self._cipher, ObjectCipher):
                    self._cipher = await self._cipher(sealed[:HEADER_BYTES])
                    sealed = sealed[HEADER_BYTES:]
                plain = await self._opened(sealed)
            start, end = self.range
            skip = start % CHUNK_BYTES
            return plain if len(plain) == end - start else plain[skip : skip + end - start]
        finally:
            await self.aclose()

    async def _stream(self) -> AsyncIterator[Data]:
        self._begun = True
        start, end = self.range
        skip, left = start % CHUNK_BYTES, end - start
        async for sealed in self._batches():
            with named(self.meta.key):
                plain = memoryview(await self._opened(sealed))[skip : skip + left]
            skip, left = 0, left - len(plain)
            if plain:
                yield plain

    async def _batches(self) -> AsyncIterator[bytearray]:
        """Yield the chunks of the body, whole, as many at once as have come."""
        held, got = bytearray(), 0
        async for piece in self.inner:
            held += piece
            got += len(piece)
            if not isinstance(self._cipher, ObjectCipher):
                if len(held) < HEADER_BYTES:
                    continue
                with named(self.meta.key):
                    self._cipher = await self._cipher(held[:HEADER_BYTES])
                del held[:HEADER_BYTES]
            whole = len(held) // SEALED_CHUNK_BYTES * SEALED_CHUNK_BYTES
            if whole:
                batch, held = (held, bytearray()) if whole == len(held) else (held[:whole], held[whole:])
                yield batch
        if got < self.inner.range[1] - self.inner.range[0]:
            raise self._ended(got)
        if held:
            yield held

    async def _opened(self, sealed: Data) -> bytes:
        assert isinstance(self._cipher, ObjectCipher)
        index = self._index
        self._index += -(-len(sealed) // SEALED_CHUNK_BYTES)
        final = self._index == chunk_count(self.meta.size)
        return await in_thread_if_large(len(sealed), self._cipher.open, sealed, index, final=final)

    def _ended(self, got: int) -> UnavailableError:
        start, end = self.inner.range
        message = f"the body of {self.meta.key!r} ended after {got} of {end - start} bytes"
        return UnavailableError(message, key=self.meta.key)


class SealedUpload(UploadWrapper):
    """Seals what is written, holding back one chunk: only the end shows which is the last."""

    def __init__(self, inner: Upload, key: str, new_cipher: Callable[[int | None], Awaitable[ObjectCipher]]) -> None:
        super().__init__(inner)
        self._key = key
        self._new_cipher = new_cipher
        self._cipher: ObjectCipher | None = None
        self._pending = bytearray()
        self._index = 0
        self._size = 0
        self._ended = False
        self._broken = False

    async def write(self, data: Data) -> None:
        view = memoryview(data).cast("B")
        with self._whole_or_broken():
            if self._ended:
                raise UnsupportedOperationError(f"the upload of {self._key!r} is over: start a new one", key=self._key)
            if len(self._pending) + len(view) > CHUNK_BYTES:
                room = CHUNK_BYTES - len(self._pending)
                self._pending += view[:room]
                view = view[room:]
                await self._seal(self._pending, final=False)
                self._pending = bytearray()
            while len(view) > CHUNK_BYTES:
                batch = view[: min(_BATCH_BYTES, (len(view) - 1) // CHUNK_BYTES * CHUNK_BYTES)]
                await self._seal(batch, final=False)
                view = view[len(batch) :]
            self._pending += view

    async def complete(self) -> ObjectMeta:
        if not self._ended:
            with self._whole_or_broken():
                await self._seal(self._pending, final=True)
            self._ended = True
        return shown(await self.inner.complete(), self._size)

    async def _seal(self, data: Data, *, final: bool) -> None:
        header = self._cipher is None
        if self._cipher is None:
            # What fits one chunk is known to its end before its header is written.
            self._cipher = await self._new_cipher(len(data) if final else None)
        sealed = await in_thread_if_large(len(data), self._cipher.seal, data, self._index, final=final, header=header)
        self._index += chunk_count(len(data))
        self._size += len(data)
        await self.inner.write(sealed)

    @contextmanager
    def _whole_or_broken(self) -> Iterator[None]:
        """A write that was cut short has taken a part of its bytes: the upload cannot go on."""
        if self._broken:
            raise UnsupportedOperationError(
                f"an earlier write of the upload of {self._key!r} failed: start a new one", key=self._key
            )
        self._broken = True
        yield
        self._broken = False
