"""Objects sealed with AES-256-GCM in chunks, so that ranges can be read; format version 1.

::

    header, 1024 bytes: core | wrapped key | zeros | first 16 bytes of the SHA-256 of all before
    core, 38 bytes:     magic | format version | chunk bytes | object id | plaintext length (or unknown)
    chunk, as often as needed, at least once: up to 64 KiB of ciphertext | tag of 16 bytes

* Every object has a random data key and id. The key is wrapped with core and logical key (the object's name) as its
  context, so that an object moved to another name does not open.
* The nonce of a chunk is its index and whether it is the last; core and nonce are authenticated with it. Chunks that
  were changed, exchanged or taken from elsewhere do not open, nor does the end of an object that was cut.
* The length is unknown (all ones) where an object was streamed: then its last chunk proves it.
* The plaintext's size follows from the object's size alone, which is what a listing knows. Hence the chunk size is
  part of the format.
* An older object put back under its own name cannot be told: versions and their history are the store's.
"""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from buffetstore.errors import InvalidInputError, TamperedError, UnsupportedFeatureError
from buffetstore.security.keys import KEY_BYTES, KeyProvider, WrappedKey

if TYPE_CHECKING:
    Data = bytes | bytearray | memoryview

FORMAT_VERSION: Final = 1
HEADER_BYTES: Final = 1024
CHUNK_BYTES: Final = 64 * 1024
TAG_BYTES: Final = 16
SEALED_CHUNK_BYTES: Final = CHUNK_BYTES + TAG_BYTES
MAGIC: Final = b"\x89BFSEAL\n"
_CORE = struct.Struct(">8sHI16sQ")
_LENGTHS = struct.Struct(">HHH")
_DIGEST_BYTES = 16
_UNKNOWN = 2**64 - 1
_INTO = hasattr(AESGCM, "encrypt_into")  # cryptography 47 and later: no allocation for each chunk


def sealed_size(size: int) -> int:
    """Return how many bytes an object of `size` bytes takes when sealed."""
    return HEADER_BYTES + size + TAG_BYTES * chunk_count(size)


def plain_size(size: int) -> int | None:
    """Return how many bytes a sealed object of `size` bytes holds, or None if no sealed object has this size."""
    body = size - HEADER_BYTES
    whole, rest = divmod(body, SEALED_CHUNK_BYTES)
    if body < TAG_BYTES or 0 < rest < TAG_BYTES or (rest == TAG_BYTES and whole):
        return None
    return body - TAG_BYTES * (whole + (rest > 0))


def chunk_count(size: int) -> int:
    """Return how many chunks hold `size` bytes: an empty object has one, which proves that it is empty."""
    return max(1, -(-size // CHUNK_BYTES))


def sealed_span(start: int, end: int, size: int) -> tuple[int, int]:
    """Return the bytes of the sealed object whose chunks hold [start, end) of the `size` bytes of plaintext."""
    first, last = start // CHUNK_BYTES, chunk_count(end)
    return HEADER_BYTES + first * SEALED_CHUNK_BYTES, min(HEADER_BYTES + last * SEALED_CHUNK_BYTES, sealed_size(size))


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before the chunks."""

    object_id: bytes
    length: int | None
    wrapped: WrappedKey

    @property
    def core(self) -> bytes:
        """What every chunk authenticates."""
        return _core(self.object_id, self.length)

    def pack(self) -> bytes:
        """Return the header's bytes.

        Raises
        ------
        InvalidInputError
            The key's name, version and wrapped bytes do not fit.
        """
        parts = (self.wrapped.key_id.encode(), self.wrapped.version.encode(), self.wrapped.blob)
        body = self.core + _LENGTHS.pack(*map(len, parts)) + b"".join(parts)
        room = HEADER_BYTES - _DIGEST_BYTES
        if len(body) > room:
            raise InvalidInputError(f"the wrapped key {self.wrapped.key_id!r} takes {len(body)} bytes of {room}")
        body = body.ljust(room, b"\0")
        return body + hashlib.sha256(body).digest()[:_DIGEST_BYTES]

    @classmethod
    def parse(cls, data: Data) -> Header | None:
        """Return the header at the start of `data`, or None where there is none: the object is not sealed.

        Raises
        ------
        TamperedError
            It was changed, or cut.
        UnsupportedFeatureError
            A later release wrote it.
        """
        head = bytes(data[:HEADER_BYTES])
        if not head.startswith(MAGIC):
            return None
        if len(head) < HEADER_BYTES:
            raise TamperedError(f"it ends within its header: {len(head)} of {HEADER_BYTES} bytes")
        _, version, chunk_bytes, object_id, length = _CORE.unpack_from(head)
        body, digest = head[:-_DIGEST_BYTES], head[-_DIGEST_BYTES:]
        if hashlib.sha256(body).digest()[:_DIGEST_BYTES] != digest:
            raise TamperedError("its header was changed")
        if version != FORMAT_VERSION or chunk_bytes != CHUNK_BYTES:
            raise UnsupportedFeatureError(
                f"it is sealed in format {version} with chunks of {chunk_bytes} bytes, this release reads format "
                f"{FORMAT_VERSION} with {CHUNK_BYTES}: install a newer one"
            )
        sizes = _LENGTHS.unpack_from(body, _CORE.size)
        at, parts = _CORE.size + _LENGTHS.size, []
        for size in sizes:
            parts.append(body[at : at + size])
            at += size
        if at > len(body) or not (parts[0].isascii() and parts[1].isascii()):
            raise TamperedError("its header is malformed")
        wrapped = WrappedKey(parts[0].decode(), parts[1].decode(), parts[2])
        return cls(object_id, None if length == _UNKNOWN else length, wrapped)


class ObjectCipher:
    """Seals and opens the chunks of one object."""

    def __init__(self, header: Header, data_key: bytes) -> None:
        self.header = header
        self._core = header.core
        self._cipher = AESGCM(data_key)

    @classmethod
    async def new(cls, keys: KeyProvider, name: str, length: int | None) -> ObjectCipher:
        """Return the cipher of a new object called `name`, of `length` bytes, or None where that is not known yet."""
        data_key, object_id = os.urandom(KEY_BYTES), os.urandom(16)
        wrapped = await keys.wrap(data_key, _core(object_id, length) + name.encode())
        return cls(Header(object_id, length, wrapped), data_key)

    @classmethod
    async def held(cls, keys: KeyProvider, name: str, header: Header) -> ObjectCipher:
        """Return the cipher of the object called `name`; `WrongKeyError`, `TamperedError` as `KeyProvider.unwrap`."""
        return cls(header, await keys.unwrap(header.wrapped, header.core + name.encode()))

    def seal(self, data: Data, index: int = 0, *, final: bool, header: bool = False) -> bytes:
        """Return the chunks of `data`, of which the first is number `index`, after the header if asked for.

        Parameters
        ----------
        data:
            Whole chunks; the last one may be shorter where it is the object's last.
        final:
            The object ends with it.
        """
        if len(data) <= CHUNK_BYTES:
            nonce = _nonce(index, final=final)
            sealed = self._cipher.encrypt(nonce, data, self._core + nonce)
            return self.header.pack() + sealed if header else sealed
        view, count = memoryview(data), chunk_count(len(data))
        stream, scratch = BytesIO(), memoryview(bytearray(SEALED_CHUNK_BYTES))
        if header:
            stream.write(self.header.pack())
        for number in range(count):
            nonce = _nonce(index + number, final=final and number == count - 1)
            chunk = view[number * CHUNK_BYTES : (number + 1) * CHUNK_BYTES]
            if _INTO:
                # One piece of memory that stays in the processor's cache; to fill the whole in advance costs more, and
                # holds the interpreter's lock meanwhile.
                place = scratch[: len(chunk) + TAG_BYTES]
                self._cipher.encrypt_into(nonce, chunk, self._core + nonce, place)
                stream.write(place)
            else:
                stream.write(self._cipher.encrypt(nonce, chunk, self._core + nonce))
        return stream.getvalue()

    def open(self, sealed: Data, index: int = 0, *, final: bool) -> bytes:
        """Return the plaintext of chunks, of which the first is number `index`; `final`: the object ends with them.

        Raises
        ------
        TamperedError
            A chunk does not authenticate.
        """
        size = plain_size(HEADER_BYTES + len(sealed))
        if size is None:
            raise TamperedError(f"chunk {index} is cut: {len(sealed)} bytes are no whole chunks")
        view = memoryview(sealed)
        if size <= CHUNK_BYTES:
            return self._opened(_nonce(index, final=final), view, index)
        count = chunk_count(size)
        stream, scratch = BytesIO(), memoryview(bytearray(CHUNK_BYTES))
        for number in range(count):
            nonce = _nonce(index + number, final=final and number == count - 1)
            chunk = view[number * SEALED_CHUNK_BYTES : (number + 1) * SEALED_CHUNK_BYTES]
            if not _INTO:
                stream.write(self._opened(nonce, chunk, index + number))
                continue
            place = scratch[: len(chunk) - TAG_BYTES]
            try:
                self._cipher.decrypt_into(nonce, chunk, self._core + nonce, place)
            except InvalidTag:
                raise _tampered(index + number) from None
            stream.write(place)
        return stream.getvalue()

    def _opened(self, nonce: bytes, chunk: memoryview, index: int) -> bytes:
        try:
            return self._cipher.decrypt(nonce, chunk, self._core + nonce)
        except InvalidTag:
            raise _tampered(index) from None


def _core(object_id: bytes, length: int | None) -> bytes:
    return _CORE.pack(MAGIC, FORMAT_VERSION, CHUNK_BYTES, object_id, _UNKNOWN if length is None else length)


def _nonce(index: int, *, final: bool) -> bytes:
    # Never used twice: the data key is the object's own, and an object's chunk is sealed once.
    return index.to_bytes(11, "big") + (b"\1" if final else b"\0")


def _tampered(index: int) -> TamperedError:
    return TamperedError(f"chunk {index} does not authenticate: it was changed, exchanged, or the object was cut")
