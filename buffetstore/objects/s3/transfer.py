"""Bodies and their checksums, and what headers say about an object."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from buffetstore.errors import InvalidInputError, UnavailableError
from buffetstore.objects.base import Attributes, Checksum, ObjectMeta
from buffetstore.objects.checksums import RunningChecksum, check, checksum
from buffetstore.objects.s3.errors import FOREIGN, unanswered
from buffetstore.resilience.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    import aiohttp

    from buffetstore.objects.base import Data
    from buffetstore.objects.s3.errors import Call
    from buffetstore.objects.s3.options import S3Options

INLINE_BYTES = 64 * 1024  # below this, handing work to a thread costs more than the work
# Metadata travels in headers: what is not printable ASCII is percent-encoded, and so is the percent sign.
_PLAIN = "".join(chr(code) for code in range(33, 127) if chr(code) != "%") + " "
_METADATA = "x-amz-meta-"
_CHECKSUMS = tuple((f"x-amz-checksum-{name}", name) for name in ("crc32", "crc32c", "sha256", "sha1"))


async def crc32(data: Data) -> str:
    """Return the CRC-32 of a body, as the service words it."""
    found = checksum("crc32", data) if len(data) <= INLINE_BYTES else await in_thread(checksum, "crc32", data)
    return found.value


def checked(crc: str) -> dict[str, str]:
    """Return the headers by which the service verifies a body, and keeps its CRC-32."""
    return {"x-amz-checksum-crc32": crc, "x-amz-sdk-checksum-algorithm": "CRC32"}


def described(attributes: Attributes, options: S3Options) -> dict[str, str]:
    """Return the headers that store `attributes`, and encrypt."""
    if not attributes.content_type.isprintable():
        raise InvalidInputError(f"the content type {attributes.content_type!r} has characters that no header can")
    headers = {"content-type": attributes.content_type, **encrypted(options)}
    for name, value in attributes.metadata.items():
        headers[_METADATA + name] = quote(value.strip(), safe=_PLAIN)
    if attributes.storage_class is not None:
        headers["x-amz-storage-class"] = attributes.storage_class
    return headers


def encrypted(options: S3Options) -> dict[str, str]:
    """Return the headers of what is written under a KMS key."""
    if options.kms_key is None:
        return {}
    return {
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": options.kms_key,
    }


def unquoted(etag: str) -> str:
    """Return the version that an ETag is."""
    return etag.strip('"')


def quoted(version: str) -> str:
    """Return the ETag that reads take; writes take it unquoted (Ceph takes only that)."""
    return f'"{version}"'


def written(
    etag: str | None,
    headers: Mapping[str, str],
    call: Call,
    size: int,
    attributes: Attributes,
    digest: Checksum | None = None,
) -> ObjectMeta:
    """Return the metadata of what was just written, stamped by the service's clock."""
    key = call.key or ""
    if not etag:
        raise UnavailableError(f"{call.where}: the answer has no ETag, it may have failed", key=key, ambiguous=True)
    date = headers.get("date")
    stamp = _moment(date) if date else datetime.now(UTC)
    return ObjectMeta(key, size, unquoted(etag), stamp, attributes, digest)


def received(headers: Mapping[str, str], key: str) -> tuple[ObjectMeta, tuple[int, int] | None]:
    """Return an object's metadata, and the range [start, end) that the service says it sent."""
    sent = None
    if content_range := headers.get("content-range"):
        span, _, total = content_range.removeprefix("bytes ").partition("/")
        first, _, last = span.partition("-")
        size, sent = int(total), (int(first), int(last) + 1)
    else:
        size = int(headers["content-length"])
    metadata = {
        name[len(_METADATA) :].lower(): unquote(value)
        for name, value in headers.items()
        if name[: len(_METADATA)].lower() == _METADATA
    }
    content_type = headers.get("content-type") or "application/octet-stream"
    attributes = Attributes(content_type, metadata, headers.get("x-amz-storage-class"))
    digest = None if sent is not None else _checksum(headers)
    meta = ObjectMeta(key, size, unquoted(headers["etag"]), _moment(headers["last-modified"]), attributes, digest)
    return meta, sent


async def stream(
    response: aiohttp.ClientResponse, length: int, expected: Checksum | None, call: Call
) -> AsyncGenerator[bytes, None]:
    """Yield the body as it comes, and check its length and its checksum at the end."""
    running = RunningChecksum(expected.algorithm) if expected is not None else None
    done = 0
    try:
        while chunk := await response.content.readany():
            done += len(chunk)
            if running is not None:
                running.update(chunk)
            yield chunk
    except FOREIGN as error:
        raise unanswered(call, error) from error
    if done != length:
        raise UnavailableError(f"{call.where}: {done} of {length} bytes came", key=call.key)
    if running is not None and expected is not None:
        check(running.value, expected, call.key or "")


def _checksum(headers: Mapping[str, str]) -> Checksum | None:
    """Return the checksum of all the bytes; one of parts (``...-3``) is not, and an ETag is not always their MD5."""
    if headers.get("x-amz-checksum-type") == "COMPOSITE":
        return None
    for header, algorithm in _CHECKSUMS:
        value = headers.get(header)
        if value and "-" not in value:
            return Checksum(algorithm, value)  # type: ignore[arg-type]  # one of the names above
    return None


@lru_cache(maxsize=1024)
def _moment(text: str) -> datetime:
    return parsedate_to_datetime(text)  # slow, and objects written together share their second
