"""Reading from Google Cloud Storage through the XML API, whose answers carry an object's metadata beside its bytes."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING

import aiohttp
import google_crc32c

from buffetstore.errors import InvalidRangeError, UnavailableError
from buffetstore.objects.base import DEFAULT_ATTRIBUTES, Attributes, Checksum, GetResult, ObjectMeta
from buffetstore.objects.checksums import RunningChecksum, check
from buffetstore.objects.gcs.client import Purpose
from buffetstore.objects.gcs.uploads import base64_crc32c, generation

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from datetime import datetime

    from multidict import CIMultiDictProxy

    from buffetstore.objects.base import ByteRange
    from buffetstore.objects.gcs.client import GCSClient

_WHOLE_BYTES = 256 * 1024  # up to here a body is read in one go
_RECEIVED_BYTES = 128 * 1024  # at once from a connection, where there is more to come


class GCSResult(GetResult):
    """An object's body: bytes are checked as they come, their number and, of the whole, their checksum at the end."""

    def __init__(
        self, client: GCSClient, response: aiohttp.ClientResponse, meta: ObjectMeta, span: tuple[int, int]
    ) -> None:
        self.meta = meta
        self.range = span
        self._client = client
        self._response = response
        self._size = span[1] - span[0]
        self._expected = meta.checksum if response.status == 200 else None
        self._streamed: AsyncGenerator[bytes, None] | None = None
        if self._size > _WHOLE_BYTES:
            _take_turns(response)

    def __aiter__(self) -> AsyncIterator[bytes]:
        if self._streamed is None:  # most bodies are read whole
            self._streamed = self._chunks = self._body()
        return self._streamed

    async def read(self) -> bytes:
        """Return all the bytes of the range, checked, and close."""
        if self._size > _WHOLE_BYTES or self._streamed is not None:
            aiter(self)
            return await super().read()
        try:
            content = self._response.content
            # Mostly the body came with the headers, and nothing need be waited for.
            data = content.read_nowait() if content.is_eof() else await content.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._failure(error) from error
        finally:
            self._response.close()
        self._check(len(data), base64_crc32c(google_crc32c.value(data)) if self._expected is not None else "")
        return data

    async def readinto(self, buffer: memoryview) -> int:
        """Write all the bytes of the range, checked, to the start of `buffer`, and close; return how many."""
        aiter(self)
        return await super().readinto(buffer)

    async def aclose(self) -> None:
        """Free the connection; the rest of the body is not read."""
        self._response.close()
        if self._streamed is not None:
            await self._streamed.aclose()

    async def _body(self) -> AsyncGenerator[bytes, None]:
        seen = 0
        running = RunningChecksum("crc32c")
        content = self._response.content
        try:
            # Piece by piece as they came: joining what is there already would copy it.
            while chunk := (await content.readchunk())[0]:
                seen += len(chunk)
                if self._expected is not None:
                    running.update(chunk)
                yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._failure(error) from error
        finally:
            self._response.close()
        self._check(seen, running.value.value)

    def _check(self, seen: int, checksum: str) -> None:
        if seen != self._size:
            raise UnavailableError(f"read {self.meta.key!r}: {seen} of {self._size} bytes came", key=self.meta.key)
        if self._expected is not None and checksum != self._expected.value:
            check(Checksum("crc32c", checksum), self._expected, self.meta.key)

    def _failure(self, error: Exception) -> Exception:
        return self._client.failure(error, Purpose("read", self.meta.key))


class ObjectReader:
    """Opens objects and checks what comes."""

    def __init__(self, client: GCSClient) -> None:
        self._client = client

    async def get(
        self, key: str, asked: ByteRange | None, if_match: str | None = None, version: str | None = None
    ) -> GetResult:
        """Open an object, or a range of it; the live one, or that of a generation."""
        return await self._open(key, range_header(asked, key), if_match, version)

    async def range(self, key: str, start: int, end: int, if_match: str | None) -> tuple[ObjectMeta, bytes]:
        """Return bytes [start, end), cut to the object's size, with the metadata of the object they are from."""
        result = await self._open(key, f"bytes={start}-{end - 1}", if_match)
        return result.meta, await result.read()

    async def _open(self, key: str, span: str | None, if_match: str | None, version: str | None = None) -> GCSResult:
        headers = {"Accept-Encoding": "gzip"}  # what is stored compressed comes as it is stored
        if span is not None:
            headers["Range"] = span
        if if_match is not None:
            headers["x-goog-if-generation-match"] = generation(if_match)
        purpose = Purpose("read", key)
        url = self._client.object_url(key)
        if version is not None:
            url = url.with_query({"generation": generation(version)})
        response = await self._client.send(purpose, "GET", url, headers=headers, is_raw=True)
        try:
            return GCSResult(self._client, response, *_described(response, key))
        except (KeyError, ValueError) as error:
            response.close()
            raise self._client.failure(error, purpose) from error


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


def _described(response: aiohttp.ClientResponse, key: str) -> tuple[ObjectMeta, tuple[int, int]]:
    """Return what an answer's headers say of the object, and which of its bytes come."""
    headers = response.headers
    if response.status == 206:
        span, _, total = headers["Content-Range"].removeprefix("bytes ").partition("/")
        start, _, last = span.partition("-")
        size, (first, end) = int(total), (int(start), int(last) + 1)
    else:
        size = int(headers["Content-Length"])
        first, end = 0, size
    metadata = {
        name[12:].lower(): text
        for name, text in headers.items()
        if name[11:12] == "-" and name[:12].lower() == "x-goog-meta-"  # the first spares most names the second
    }
    content_type = headers.get("Content-Type", DEFAULT_ATTRIBUTES.content_type)
    attributes = Attributes(content_type, metadata, headers.get("x-goog-storage-class"))
    modified = _moment(headers["Last-Modified"])
    meta = ObjectMeta(key, size, headers["x-goog-generation"], modified, attributes, _checksum(headers))
    return meta, (first, end)


@lru_cache(maxsize=1024)
def _moment(text: str) -> datetime:
    return parsedate_to_datetime(text)  # slow, and objects written together share their second


def _checksum(headers: CIMultiDictProxy[str]) -> Checksum | None:
    """Return the object's CRC32C; Google sends it beside the MD5, in one header line or in two."""
    for line in headers.getall("x-goog-hash", ()):
        for part in line.split(","):
            name, _, value = part.strip().partition("=")
            if name == "crc32c":
                return Checksum("crc32c", value)
    return None


def _take_turns(response: aiohttp.ClientResponse) -> None:
    """Let a connection of many hand over a little at a time, so that all of them together do not hold up the loop."""
    connection = response.connection
    transport = connection.transport if connection is not None else None
    # An attribute of asyncio's own transports; uvloop's read little anyway.
    if transport is not None and hasattr(transport, "max_size"):
        transport.max_size = _RECEIVED_BYTES
