"""Digests of bytes as they pass: what services keep, and what transfers are compared with."""

from __future__ import annotations

import base64
import hashlib
import zlib
from typing import TYPE_CHECKING, Protocol

import google_crc32c

from buffetstore.errors import ChecksumMismatchError
from buffetstore.objects.base import Checksum

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from buffetstore.objects.base import Data

    Algorithm = Literal["crc32c", "crc32", "md5", "sha1", "sha256"]


class Running(Protocol):
    """A digest under way."""

    def update(self, data: Data, /) -> object:
        """Take the next bytes."""

    def digest(self) -> bytes:
        """Return the digest of all bytes so far."""


class _CRC:
    """A CRC of 32 bits, big-endian as services print it."""

    def __init__(self, extend: Callable[[int, Data], int]) -> None:
        self._extend = extend
        self._state = 0

    def update(self, data: Data) -> None:
        self._state = self._extend(self._state, data)

    def digest(self) -> bytes:
        return self._state.to_bytes(4, "big")


def _crc32c(state: int, data: Data) -> int:
    # It reads only objects that say they are bytes; others are copied, so they had better be small.
    return int(google_crc32c.extend(state, data if isinstance(data, bytes) else bytes(data)))


_NEW: dict[str, Callable[[], Running]] = {
    "crc32c": lambda: _CRC(_crc32c),
    "crc32": lambda: _CRC(lambda state, data: zlib.crc32(data, state)),
    # Against faults on the way, not against people: no security rests on these two.
    "md5": lambda: hashlib.md5(usedforsecurity=False),
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "sha256": hashlib.sha256,
}


class RunningChecksum:
    """The `Checksum` of bytes that come in pieces.

    >>> running = RunningChecksum("crc32c")
    >>> running.update(b"1234")
    >>> running.update(b"56789")
    >>> running.value
    Checksum(algorithm='crc32c', value='4waSgw==')
    """

    def __init__(self, algorithm: Algorithm) -> None:
        self.algorithm = algorithm
        self._running = _NEW[algorithm]()

    def update(self, data: Data) -> None:
        """Take the next bytes; of a large piece, in a thread."""
        self._running.update(data)

    @property
    def value(self) -> Checksum:
        """The checksum of the bytes so far."""
        return Checksum(self.algorithm, base64.b64encode(self._running.digest()).decode())


def checksum(algorithm: Algorithm, data: Data) -> Checksum:
    """Return the checksum of `data`; of a large object, call it in a thread."""
    running = RunningChecksum(algorithm)
    running.update(data)
    return running.value


def check(found: Checksum, expected: Checksum, key: str) -> None:
    """Raise `ChecksumMismatchError` if the two are not the same."""
    if found != expected:
        raise ChecksumMismatchError(
            f"the bytes of {key!r} have the {found.algorithm} {found.value}, the service's is {expected.value}", key=key
        )
