"""Writing to Google Cloud Storage: one multipart request, or a resumable session in chunks."""

# ruff: noqa: D102 - docstrings are those of the contract

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

import google_crc32c
from yarl import URL

from buffetstore.errors import ChecksumMismatchError, StorageError, UnavailableError, UnsupportedOperationError
from buffetstore.objects.base import DEFAULT_ATTRIBUTES, Attributes, Checksum, ObjectMeta, Upload
from buffetstore.objects.gcs.client import Purpose
from buffetstore.resilience.retry import RetryPolicy
from buffetstore.resilience.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from buffetstore.objects.base import Data, PutMode
    from buffetstore.objects.gcs.client import GCSClient

UPLOAD_CHUNK_BYTES = 8 * 1024 * 1024  # a multiple of 256 KiB, as the service wants it
_INLINE_BYTES = 512 * 1024  # hashed on the loop in well under a millisecond
_PIECE_BYTES = 256 * 1024
_RESUME_POLICY = RetryPolicy(attempts=5)


def object_meta(resource: Mapping[str, Any], *, with_attributes: bool = True) -> ObjectMeta:
    """Return an object resource of the JSON API as ours."""
    attributes = None
    if with_attributes:
        attributes = Attributes(
            content_type=resource.get("contentType") or DEFAULT_ATTRIBUTES.content_type,
            metadata=resource.get("metadata", {}),
            storage_class=resource.get("storageClass"),
        )
    return ObjectMeta(
        resource["name"],
        int(resource["size"]),
        str(resource["generation"]),
        datetime.fromisoformat(resource["updated"]),
        attributes,
        Checksum("crc32c", resource["crc32c"]) if "crc32c" in resource else None,
    )


def condition(mode: PutMode) -> dict[str, str]:
    """Return a write's precondition as query parameters."""
    if mode.kind == "create":
        return {"ifGenerationMatch": "0"}
    return {"ifGenerationMatch": generation(mode.version)} if mode.kind == "update" else {}


def generation(version: str | None) -> str:
    """Return a version as a generation; one that is not ours gives 1, which no object has."""
    return version if version is not None and version.isdecimal() and int(version) > 0 else "1"


def base64_crc32c(checksum: int) -> str:
    """Return a CRC32C as the API words it."""
    return base64.b64encode(checksum.to_bytes(4, "big")).decode()


Views = Sequence[memoryview]  # bytes that nobody changes, in pieces that nobody joins


async def views_of(data: Data) -> Views:
    """Return the bytes as they are now: a caller may go on to change its buffer while it is sent."""
    view = memoryview(data).cast("B")
    if isinstance(view.obj, bytes):
        return [view]
    return [memoryview(bytes(view) if len(view) <= _INLINE_BYTES else await in_thread(bytes, view))]


def split(views: Views, at: int) -> tuple[Views, Views]:
    """Return the first `at` bytes and the rest, copying nothing."""
    head: list[memoryview] = []
    for number, view in enumerate(views):
        if len(view) > at:
            return ([*head, view[:at]] if at else head), [view[at:], *views[number + 1 :]]
        head.append(view)
        at -= len(view)
    return head, []


def _size(views: Views) -> int:
    return sum(map(len, views))


def _pieces(views: Views) -> Iterator[memoryview]:
    for view in views:
        for at in range(0, len(view), _PIECE_BYTES):
            yield view[at : at + _PIECE_BYTES]


def _extended_crc32c(checksum: int, views: Views) -> int:
    # In pieces, so that the interpreter's lock is held for moments only.
    for piece in _pieces(views):
        checksum = google_crc32c.extend(checksum, bytes(piece))
    return checksum


async def _crc32c(checksum: int, views: Views) -> int:
    """Return the CRC32C of what `checksum` covers followed by `views`."""
    if _size(views) <= _INLINE_BYTES:
        return _extended_crc32c(checksum, views)
    return await in_thread(_extended_crc32c, checksum, views)


class ObjectWriter:
    """Sends whole objects, and opens resumable uploads.

    Parameters
    ----------
    chunk_bytes:
        The size of a resumable upload's chunks, a multiple of 256 KiB.
    kms_key:
        The Cloud KMS key that new objects are encrypted with.
    """

    def __init__(self, client: GCSClient, *, chunk_bytes: int = UPLOAD_CHUNK_BYTES, kms_key: str | None = None) -> None:
        self.client = client
        self.chunk_bytes = chunk_bytes
        self._kms_key = kms_key

    async def put(self, key: str, views: Views, mode: PutMode, attributes: Attributes) -> ObjectMeta:
        """Write an object in one request, its checksum with it."""
        checksum = base64_crc32c(await _crc32c(0, views))
        boundary = secrets.token_hex(16)
        resource = json.dumps({**self.resource(key, attributes), "crc32c": checksum})
        head = (
            f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{resource}\r\n"
            f"--{boundary}\r\nContent-Type: {attributes.content_type}\r\n\r\n"
        ).encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        body = [memoryview(head), *views, memoryview(tail)]
        headers = {"Content-Type": f"multipart/related; boundary={boundary}"}
        purpose = Purpose("write", key, mode, writes=True)
        async with self.client.request(
            purpose,
            "POST",
            self.client.upload_url(uploadType="multipart", **self.query(mode)),
            headers=headers,
            data=body,
        ) as response:
            return object_meta(await response.json(content_type=None))

    def resource(self, key: str, attributes: Attributes) -> dict[str, Any]:
        """Return the properties of a new object."""
        resource: dict[str, Any] = {"name": key, "contentType": attributes.content_type}
        if attributes.metadata:
            resource["metadata"] = dict(attributes.metadata)
        if attributes.storage_class is not None:
            resource["storageClass"] = attributes.storage_class
        return resource

    def query(self, mode: PutMode) -> dict[str, str]:
        """Return the query parameters of a write."""
        return condition(mode) | ({"kmsKeyName": self._kms_key} if self._kms_key else {})


class ResumableUpload(Upload):
    """A resumable session: a chunk whose answer is lost goes on from what the service says it has.

    What is at most one chunk long never opens a session: it is written by one request.
    """

    def __init__(
        self,
        writer: ObjectWriter,
        key: str,
        mode: PutMode,
        attributes: Attributes,
        *,
        policy: RetryPolicy = _RESUME_POLICY,
    ) -> None:
        self._writer = writer
        self._client = writer.client
        self._key, self._mode, self._attributes = key, mode, attributes
        self._policy = policy
        self._purpose = Purpose("upload", key, mode, writes=True)
        self._pending: Views = []
        self._session: URL | None = None
        self._sent = 0  # bytes of the chunks that are done
        self._persisted = 0  # bytes that the service said it has
        self._is_unclear = False  # the answer to the latest request was lost
        self._checksum = 0
        self._failure: StorageError | None = None
        self._state = "open"

    async def write(self, data: Data) -> None:
        self._check_open()
        self._pending = [*self._pending, *(await views_of(data))]
        # The last chunk is kept back: only `complete` knows that it is the last.
        while _size(self._pending) > self._writer.chunk_bytes:
            chunk, rest = split(self._pending, self._writer.chunk_bytes)
            try:
                await self._add(chunk)
            except BaseException as error:
                # Some of `data` may be persisted, so the same write must not be taken again.
                self._state = "failed"
                self._failure = error if isinstance(error, StorageError) else None
                raise
            self._pending = rest

    async def complete(self) -> ObjectMeta:
        self._check_open()
        if self._session is None:
            meta = await self._writer.put(self._key, self._pending, self._mode, self._attributes)
        else:
            try:
                meta = object_meta(await self._finish(self._pending))
            except ChecksumMismatchError as error:
                # A chunk was damaged on the way: all are gone with the session, and only the caller can begin anew.
                self._state, self._failure = "failed", error
                raise
        self._state = "complete"
        self._pending = []
        return meta

    async def abort(self) -> None:
        if self._state in {"complete", "aborted"}:
            return
        self._state = "aborted"
        self._pending = []
        if self._session is not None:
            # A session that cannot be cancelled now is dropped by the service after a week.
            with suppress(StorageError):
                async with self._client.request(
                    self._purpose, "DELETE", self._session, accept=frozenset({404, 410, 499})
                ):
                    pass

    def _check_open(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._state != "open":
            raise UnsupportedOperationError(f"the upload of {self._key!r} is {self._state}: start a new one")

    async def _add(self, chunk: Views) -> None:
        """Send a chunk that is not the last, and go on with it where the answer is lost: nobody else can."""
        if self._session is None:
            self._session = await self._policy.call(self._start, subject=self._key)
        start = self._sent
        checksum = await _crc32c(self._checksum, chunk)

        async def attempt() -> None:
            if self._is_unclear:
                await self._put([], "bytes */*", {})
            await self._put_rest(chunk, start, None)

        await self._policy.call(attempt, subject=self._key)
        self._sent, self._checksum = start + _size(chunk), checksum

    async def _finish(self, chunk: Views) -> dict[str, Any]:
        """Send the last chunk once; called again after a lost answer, it first asks what became of it."""
        checksum = base64_crc32c(await _crc32c(self._checksum, chunk))
        resource = None
        if self._is_unclear:
            resource = await self._put([], f"bytes */{self._sent + _size(chunk)}", {})
        if resource is None:
            resource = await self._put_rest(chunk, self._sent, checksum)
        assert resource is not None, "after the last chunk comes the object or an error"
        if resource.get("crc32c") != checksum:
            await self._withdraw(resource)
        return resource

    async def _put_rest(self, chunk: Views, start: int, checksum: str | None) -> dict[str, Any] | None:
        """Send what the service lacks of a chunk; `checksum` is given with the last one."""
        end = start + _size(chunk)
        total = end if checksum is not None else "*"
        stalls = 0
        while start <= self._persisted <= end and stalls < 2:
            before = self._persisted
            _, rest = split(chunk, before - start)
            span = f"{before}-{end - 1}" if rest else "*"
            headers = {"x-goog-hash": f"crc32c={checksum}"} if checksum is not None else {}
            resource = await self._put(rest, f"bytes {span}/{total}", headers)
            if resource is not None or (checksum is None and self._persisted >= end):
                return resource
            stalls = stalls + 1 if self._persisted == before else 0
        raise UnavailableError(
            f"upload {self._key!r}: the service holds {self._persisted} bytes and takes no more of {end}",
            key=self._key,
            ambiguous=True,
        )

    async def _put(self, views: Views, content_range: str, headers: dict[str, str]) -> dict[str, Any] | None:
        assert self._session is not None
        self._is_unclear = True
        async with self._client.request(
            self._purpose,
            "PUT",
            self._session,
            headers={"Content-Range": content_range, **headers},
            data=list(views),
            accept=frozenset({308}),
        ) as response:
            if response.status == 308:
                held = response.headers.get("Range")
                self._persisted = int(held.rpartition("-")[2]) + 1 if held else 0
                await response.read()
                self._is_unclear = False
                return None
            resource: dict[str, Any] = await response.json(content_type=None)
            self._is_unclear = False
            return resource

    async def _start(self) -> URL:
        resource = json.dumps(self._writer.resource(self._key, self._attributes)).encode()
        async with self._client.request(
            self._purpose,
            "POST",
            self._client.upload_url(uploadType="resumable", **self._writer.query(self._mode)),
            headers={"Content-Type": "application/json; charset=UTF-8"},
            data=resource,
        ) as response:
            await response.read()
            return URL(response.headers["Location"], encoded=True)

    async def _withdraw(self, resource: Mapping[str, Any]) -> None:
        """Take back an object whose bytes are not those sent, unless somebody replaced it already."""
        async with self._client.storage(self._purpose) as storage:
            await storage.delete(
                resource["bucket"], resource["name"], params={"ifGenerationMatch": str(resource["generation"])}
            )
        raise ChecksumMismatchError(
            f"upload {self._key!r}: the service's checksum is not that of the bytes sent; the object was taken back",
            key=self._key,
        )
