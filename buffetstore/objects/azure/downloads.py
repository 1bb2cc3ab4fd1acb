"""Reading blobs: one request each, streamed, checked against the MD5 that the service has."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

import aiohttp

from buffetstore.errors import (
    ChecksumMismatchError,
    InvalidRangeError,
    PreconditionFailedError,
    UnavailableError,
    UnsupportedOperationError,
)
from buffetstore.objects.azure.errors import Call, mapped
from buffetstore.objects.azure.wire import INLINE_BYTES, quoted, received
from buffetstore.objects.base import ByteRange, GetResult
from buffetstore.objects.ranges import resolve_range
from buffetstore.resilience.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from buffetstore.objects.azure.client import AzureClient
    from buffetstore.objects.azure.wire import Received
    from buffetstore.objects.base import Data, ObjectMeta

SUMMED_BYTES = 4 * 1024 * 1024  # of the largest range whose MD5 the service computes
_CONSISTENT_READS = 3


class Reader:
    """Opens blobs, and versions of them."""

    def __init__(self, client: AzureClient) -> None:
        self._client = client

    async def head(self, key: str, if_match: str | None = None, version_id: str | None = None) -> ObjectMeta:
        """Return the metadata alone."""
        call = self._call(key)
        response = await self._send(call, "HEAD", key, {}, if_match, version_id)
        with mapped(call):
            async with response:
                return received(response.headers, key, call.url, is_part=False).meta

    async def get(
        self, key: str, asked: ByteRange | None, if_match: str | None = None, version_id: str | None = None
    ) -> GetResult:
        """Open a blob, or a range of it."""
        if asked is None or asked.start >= 0:
            return await self._get(key, asked, if_match, version_id)
        # The service has no ranges that count from the end, so the size is asked for first.
        resolve_range(asked, 1, key)  # a suffix with an end is malformed, whatever the size
        for _ in [None] * _CONSISTENT_READS:
            meta = await self.head(key, if_match, version_id)
            exact = ByteRange(*resolve_range(asked, meta.size, key))
            try:
                return await self._get(key, exact, None if version_id else meta.version, version_id)
            except PreconditionFailedError:
                if if_match is not None:
                    raise
        raise UnavailableError(f"{key!r} is replaced faster than its last bytes can be read: use if_match", key=key)

    async def _get(self, key: str, asked: ByteRange | None, if_match: str | None, version_id: str | None) -> GetResult:
        call = self._call(key)
        headers = {} if asked is None else _range_headers(asked, key)
        response = await self._send(call, "GET", key, headers, if_match, version_id)
        try:
            with mapped(call):
                told = received(response.headers, key, call.url, is_part=response.status == 206)
            _check_span(asked, told, call)
        except BaseException:
            response.close()
            raise
        chunks = _chunks(response, told, call)

        async def aclose() -> None:
            await chunks.aclose()
            response.close()  # after the last byte the connection is back in the pool already

        return GetResult(told.meta, chunks, range=told.span, aclose=aclose)

    async def _send(
        self,
        call: Call,
        method: str,
        key: str,
        headers: dict[str, str],
        if_match: str | None,
        version_id: str | None,
    ) -> aiohttp.ClientResponse:
        if if_match is not None:
            headers["if-match"] = quoted(if_match, key)
        query = {} if version_id is None else {"versionid": version_id}
        return await self._client.send(call, method, self._client.path(key), query=query, headers=headers)

    def _call(self, key: str) -> Call:
        return Call("get_blob", self._client.place.url, key)


def _range_headers(asked: ByteRange, key: str) -> dict[str, str]:
    if asked.end is None:
        return {"x-ms-range": f"bytes={asked.start}-"}
    if asked.end <= asked.start:
        raise InvalidRangeError(f"range {asked.start}..{asked.end} of {key!r} is empty or malformed", key=key)
    headers = {"x-ms-range": f"bytes={asked.start}-{asked.end - 1}"}
    if asked.end - asked.start <= SUMMED_BYTES:
        headers["x-ms-range-get-content-md5"] = "true"
    return headers


def _check_span(asked: ByteRange | None, told: Received, call: Call) -> None:
    if told.span != resolve_range(asked, told.meta.size, told.meta.key):
        raise UnsupportedOperationError(f"{call.where}: asked for {asked}, got {told.span}", key=call.key)


async def _chunks(response: aiohttp.ClientResponse, told: Received, call: Call) -> AsyncGenerator[Data, None]:
    running = hashlib.md5(usedforsecurity=False) if told.md5 is not None else None
    done, length = 0, told.span[1] - told.span[0]
    try:
        with mapped(call):
            async for chunk in _received(response):
                done += len(chunk)
                if running is not None and len(chunk) <= INLINE_BYTES:
                    running.update(chunk)
                elif running is not None:
                    await in_thread(running.update, chunk)
                yield chunk
    finally:
        response.close()
    if done != length:
        raise UnavailableError(f"{call.where}: {done} of {length} bytes came", key=call.key)
    if running is not None and base64.b64encode(running.digest()).decode() != told.md5:
        raise ChecksumMismatchError(f"{call.where}: the bytes do not have the MD5 {told.md5}", key=call.key)


async def _received(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for chunk in response.content.iter_any():
            yield chunk
    except (aiohttp.ClientError, OSError):
        # aiohttp tells of the break before it hands out what had come, which would then be sent a second time.
        rest = response.content._read_nowait(-1)  # noqa: SLF001 - has no public name; a test counts the bytes
        if rest:
            yield rest
        raise


async def nothing() -> AsyncIterator[Data]:
    """Yield the body of what has none."""
    chunks: tuple[bytes, ...] = ()
    for chunk in chunks:
        yield chunk
