"""Bodies and their checksums, and what a response's headers say about an object."""

from __future__ import annotations

import asyncio
import base64
import zlib
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import google_crc32c

from buffetstore.errors import ChecksumMismatchError, UnavailableError
from buffetstore.objects.base import Attributes, Data, ObjectMeta
from buffetstore.objects.s3.errors import Call, mapped
from buffetstore.resilience.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

INLINE_BYTES = 64 * 1024  # below this, handing work to a thread costs more than the work
# Metadata travels in headers: what is not printable ASCII is percent-encoded, and so is the percent sign.
_PLAIN = "".join(chr(code) for code in range(33, 127) if chr(code) != "%") + " "


class Body(BytesIO):
    """A request's body, which tells when more of it is taken."""

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self.taken: Callable[[], object] | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        """Read, as `BytesIO` does."""
        if self.taken is not None:
            self.taken()
        return super().read(size)


@asynccontextmanager
async def while_taken(body: Body, seconds: float) -> AsyncIterator[None]:
    """Raise `TimeoutError` when nothing is taken of `body`, nor answered, for so long; aiohttp only times answers."""
    loop = asyncio.get_running_loop()

    def prolong() -> None:
        if body.taken is not None and not limit.expired():
            limit.reschedule(loop.time() + seconds)

    async with asyncio.timeout(seconds) as limit:
        body.taken = partial(loop.call_soon_threadsafe, prolong)
        try:
            yield
        finally:
            body.taken = None


async def outgoing(data: Data) -> dict[str, Any]:
    """Return the parameters of a body: itself and the checksum that the service verifies."""
    if len(data) <= INLINE_BYTES:
        return _outgoing(data)
    return await in_thread(_outgoing, data)


def _outgoing(data: Data) -> dict[str, Any]:
    # aiohttp sends a file in pieces, so that a large body does not hold up the event loop.
    body = Body(data)
    crc = base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
    return {"Body": body, "ContentLength": len(data), "ChecksumAlgorithm": "CRC32", "ChecksumCRC32": crc}


def described(attributes: Attributes) -> dict[str, Any]:
    """Return the parameters that store `attributes`."""
    metadata = {name: quote(value.strip(), safe=_PLAIN) for name, value in attributes.metadata.items()}
    parameters: dict[str, Any] = {"ContentType": attributes.content_type, "Metadata": metadata}
    if attributes.storage_class is not None:
        parameters["StorageClass"] = attributes.storage_class
    return parameters


def unquoted(etag: str) -> str:
    """Return the version that an ETag is."""
    return etag.strip('"')


def quoted(version: str) -> str:
    """Return the ETag that reads take; writes take it unquoted (Ceph takes only that)."""
    return f'"{version}"'


def written(answer: Mapping[str, Any], key: str, size: int, attributes: Attributes, call: Call) -> ObjectMeta:
    """Return the metadata of what was just written, stamped by the service's clock."""
    etag = answer.get("ETag") or answer.get("CopyObjectResult", {}).get("ETag")
    if not etag:
        raise UnavailableError(f"{call.where}: the answer has no ETag, it may have failed", key=key, ambiguous=True)
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    stamp = parsedate_to_datetime(date) if date else datetime.now(UTC)
    return ObjectMeta(key, size, unquoted(etag), stamp, attributes)


def received(answer: Mapping[str, Any], key: str) -> tuple[ObjectMeta, tuple[int, int] | None]:
    """Return an object's metadata, and the range [start, end) that the service says it sent."""
    size, sent = int(answer["ContentLength"]), None
    if content_range := answer.get("ContentRange"):
        span, _, total = content_range.removeprefix("bytes ").partition("/")
        first, _, last = span.partition("-")
        size, sent = int(total), (int(first), int(last) + 1)
    attributes = Attributes(
        answer.get("ContentType") or "application/octet-stream",
        {name: unquote(value) for name, value in answer.get("Metadata", {}).items()},
        answer.get("StorageClass"),
    )
    return ObjectMeta(key, size, unquoted(answer["ETag"]), answer["LastModified"], attributes), sent


async def stream(answer: Mapping[str, Any], length: int, call: Call) -> AsyncIterator[Data]:
    """Yield the body as it comes, and check its length and its checksum at the end.

    A checksum of parts (``...-3``) is not one of the bytes, and an ETag is not always their MD5: neither is compared.
    """
    expected, running = _checksum(answer)
    done, state = 0, 0
    with mapped(call):
        async for chunk in answer["Body"].raw_stream.content.iter_any():
            done += len(chunk)
            if running is not None:
                state = running(chunk, state)
            yield chunk
    if done != length:
        raise UnavailableError(f"{call.where}: {done} of {length} bytes came", key=call.key)
    if running is not None and base64.b64encode(state.to_bytes(4, "big")).decode() != expected:
        raise ChecksumMismatchError(f"{call.where}: the bytes do not have the checksum {expected}", key=call.key)


def _checksum(answer: Mapping[str, Any]) -> tuple[str | None, Callable[[bytes, int], int] | None]:
    extend: dict[str, Callable[[bytes, int], int]] = {
        "ChecksumCRC32": zlib.crc32,
        "ChecksumCRC32C": lambda chunk, state: int(google_crc32c.extend(state, chunk)),
    }
    for name, running in extend.items():
        value = answer.get(name)
        if value and "-" not in value and "ContentRange" not in answer:
            return value, running
    return None, None
