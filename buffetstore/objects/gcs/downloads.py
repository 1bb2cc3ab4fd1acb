"""Reading from Google Cloud Storage through the XML API, whose answers carry an object's metadata beside its bytes."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING

import aiohttp
import google_crc32c

from buffetstore.errors import ChecksumMismatchError, InvalidRangeError, UnavailableError
from buffetstore.objects.base import DEFAULT_ATTRIBUTES, Attributes, GetResult, ObjectMeta
from buffetstore.objects.gcs.client import Purpose
from buffetstore.objects.gcs.uploads import base64_crc32c, generation

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from datetime import datetime

    from multidict import CIMultiDictProxy

    from buffetstore.objects.base import ByteRange
    from buffetstore.objects.gcs.client import GCSClient


class ObjectReader:
    """Opens objects and checks what comes."""

    def __init__(self, client: GCSClient) -> None:
        self._client = client

    async def get(self, key: str, asked: ByteRange | None, if_match: str | None) -> GetResult:
        """Open an object, or a range of it."""
        response, meta, span = await self.open(key, range_header(asked, key), if_match)
        expected = crc32c_of(response) if asked is None else None
        chunks = self.chunks(response, key, span[1] - span[0], expected)

        async def close() -> None:
            await chunks.aclose()
            response.close()

        return GetResult(meta, chunks, range=span, aclose=close)

    async def open(
        self, key: str, span: str | None, if_match: str | None
    ) -> tuple[aiohttp.ClientResponse, ObjectMeta, tuple[int, int]]:
        """Send a GET and return its answer, unread, with the object's metadata and the bytes to come."""
        headers = {"Accept-Encoding": "gzip"}  # what is stored compressed comes as it is stored
        if span is not None:
            headers["Range"] = span
        if if_match is not None:
            headers["x-goog-if-generation-match"] = generation(if_match)
        purpose = Purpose(f"read {key!r}", key)
        url = self._client.object_url(key)
        response = await self._client.send(purpose, "GET", url, headers=headers, is_raw=True)
        try:
            return response, *_described(response.headers, key, is_part=response.status == 206)
        except (KeyError, ValueError) as error:
            response.close()
            raise self._client.failure(error, purpose) from error

    async def chunks(
        self, response: aiohttp.ClientResponse, key: str, size: int, expected: str | None
    ) -> AsyncGenerator[bytes, None]:
        """Yield the body; at its end its size, and its checksum where one is known, must be right."""
        checksum = seen = 0
        try:
            async for chunk in response.content.iter_any():
                seen += len(chunk)
                if expected is not None:
                    checksum = google_crc32c.extend(checksum, chunk)
                yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._client.failure(error, Purpose(f"read {key!r}", key)) from error
        finally:
            response.close()
        _check_body(key, size, seen, expected, base64_crc32c(checksum))

    async def range(self, key: str, start: int, end: int, if_match: str | None) -> tuple[ObjectMeta, bytes]:
        """Return bytes [start, end), cut to the object's size, with the metadata of the object they are from."""
        response, meta, span = await self.open(key, f"bytes={start}-{end - 1}", if_match)
        result = GetResult(meta, self.chunks(response, key, span[1] - span[0], None), range=span)
        try:
            return meta, await result.read()
        finally:
            response.close()


def range_header(asked: ByteRange | None, key: str) -> str | None:
    """Return the `Range` header, or refuse what no object could answer."""
    if asked is None:
        return None
    start, end = asked.start, asked.end
    if (start < 0 and end is not None) or (end is not None and end <= start):
        raise InvalidRangeError(f"range {start}..{end} of {key!r} is empty or malformed", key=key)
    if start < 0:
        return f"bytes={start}"
    return f"bytes={start}-{'' if end is None else end - 1}"


def _described(headers: CIMultiDictProxy[str], key: str, *, is_part: bool) -> tuple[ObjectMeta, tuple[int, int]]:
    """Return what an answer's headers say of the object, and which of its bytes come."""
    if is_part:
        span, _, total = headers["Content-Range"].removeprefix("bytes ").partition("/")
        start, _, last = span.partition("-")
        size, (first, end) = int(total), (int(start), int(last) + 1)
    else:
        size = int(headers["Content-Length"])
        first, end = 0, size
    prefix = "x-goog-meta-"
    lowered = ((name.lower(), text) for name, text in headers.items())
    metadata = {name[len(prefix) :]: text for name, text in lowered if name.startswith(prefix)}
    content_type = headers.get("Content-Type", DEFAULT_ATTRIBUTES.content_type)
    attributes = Attributes(content_type, metadata, headers.get("x-goog-storage-class"))
    modified = _moment(headers["Last-Modified"])
    return ObjectMeta(key, size, headers["x-goog-generation"], modified, attributes), (first, end)


@lru_cache(maxsize=1024)
def _moment(text: str) -> datetime:
    return parsedate_to_datetime(text)  # slow, and objects written together share their second


def crc32c_of(response: aiohttp.ClientResponse) -> str | None:
    """Return the object's CRC32C; Google sends it beside the MD5, in one header line or in two."""
    for line in response.headers.getall("x-goog-hash", []):
        for part in line.split(","):
            name, _, value = part.strip().partition("=")
            if name == "crc32c":
                return value
    return None


def _check_body(key: str, size: int, seen: int, expected: str | None, found: str) -> None:
    if seen != size:
        raise UnavailableError(f"read {key!r}: {seen} of {size} bytes came", key=key)
    if expected is not None and expected != found:
        raise ChecksumMismatchError(
            f"read {key!r}: the bytes have CRC32C {found}, the service's is {expected}", key=key
        )
