"""Reading objects, and versions of them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from buffetstore.errors import (
    BucketNotFoundError,
    InvalidInputError,
    InvalidRangeError,
    NotFoundError,
    UnsupportedOperationError,
)
from buffetstore.objects.base import GetResult
from buffetstore.objects.ranges import resolve_range
from buffetstore.objects.s3.errors import Call, understood
from buffetstore.objects.s3.transfer import quoted, received, stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    import aiohttp

    from buffetstore.objects.base import ByteRange, ObjectMeta
    from buffetstore.objects.s3.connection import S3Connection

_CHECKED = {"x-amz-checksum-mode": "ENABLED"}


class Reader:
    """Opens objects by key, which errors tell, and name in the bucket, and checks what comes."""

    def __init__(self, connection: S3Connection) -> None:
        self._connection = connection

    async def get(self, key: str, name: str, asked: ByteRange | None, if_match: str | None) -> GetResult:
        """Open an object, or a range of it."""
        call = Call("get_object", self._connection.url, key)
        headers = _asking(asked, key)
        if if_match is not None:
            headers["if-match"] = quoted(if_match)
        return _result(call, await self._connection.send(call, "GET", name, headers=headers), asked)

    async def get_version(self, key: str, name: str, version_id: str, asked: ByteRange | None) -> GetResult:
        """Open one version, or a range of it."""
        call = Call("get_object_version", self._connection.url, key)
        query, headers = [("versionId", version_id)], _asking(asked, key)
        with _known_version(key, version_id):
            response = await self._connection.send(call, "GET", name, query=query, headers=headers)
        return _result(call, response, asked)

    async def head(self, key: str, name: str, if_match: str | None = None) -> ObjectMeta:
        """Return an object's metadata."""
        call = Call("head_object", self._connection.url, key)
        headers = _CHECKED if if_match is None else {"if-match": quoted(if_match), **_CHECKED}
        try:
            answer = await self._connection.ask(call, "HEAD", name, headers=headers)
        except NotFoundError:
            # The answer to a HEAD has no body that would tell a missing bucket from a missing key.
            if not self._connection.is_found:
                await self._find_bucket(key)
            raise
        with understood(call):
            return received(answer.headers, key)[0]

    async def head_version(self, key: str, name: str, version_id: str) -> ObjectMeta:
        """Return the metadata of one version."""
        call = Call("head_object_version", self._connection.url, key)
        query = [("versionId", version_id)]
        with _known_version(key, version_id):
            answer = await self._connection.ask(call, "HEAD", name, query=query, headers=_CHECKED)
        with understood(call):
            return received(answer.headers, key)[0]

    async def _find_bucket(self, key: str) -> None:
        url = self._connection.url
        try:
            await self._connection.ask(Call("head_bucket", url), "HEAD")
        except NotFoundError as error:
            raise BucketNotFoundError(f"there is no bucket of {url}: create it", key=key) from error


def _asking(asked: ByteRange | None, key: str) -> dict[str, str]:
    if asked is None:
        return dict(_CHECKED)
    start, end = asked.start, asked.end
    if (start < 0 and end is not None) or (start >= 0 and end is not None and end <= start):
        raise InvalidRangeError(f"range {start}..{end} of {key!r} is empty or malformed", key=key)
    return {"range": f"bytes={start}" if start < 0 else f"bytes={start}-{'' if end is None else end - 1}"}


def _result(call: Call, response: aiohttp.ClientResponse, asked: ByteRange | None) -> GetResult:
    key = call.key or ""
    try:
        with understood(call):
            meta, sent = received(response.headers, key)
        wanted = _answered_range(call, asked, meta, sent)
    except BaseException:
        response.close()
        raise

    async def aclose() -> None:
        response.close()  # after the last byte the connection is back in the pool already

    return GetResult(meta, stream(response, wanted[1] - wanted[0], meta.checksum, call), range=wanted, aclose=aclose)


def _answered_range(
    call: Call, asked: ByteRange | None, meta: ObjectMeta, sent: tuple[int, int] | None
) -> tuple[int, int]:
    wanted, got = resolve_range(asked, meta.size, meta.key), sent or (0, meta.size)
    if wanted != got:
        raise UnsupportedOperationError(f"{call.where}: asked for bytes {wanted}, got {got}", key=meta.key)
    return wanted


@contextmanager
def _known_version(key: str, version_id: str) -> Iterator[None]:
    """Raise `NotFoundError` for what the service says of an id it never gave, or of a deletion."""
    try:
        yield
    except (InvalidInputError, NotFoundError, UnsupportedOperationError) as error:
        if isinstance(error, InvalidRangeError | BucketNotFoundError):
            raise
        raise NotFoundError(f"{key!r} has no version {version_id!r}, or it is a deletion", key=key) from error
