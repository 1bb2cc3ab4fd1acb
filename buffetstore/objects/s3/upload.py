"""An object in parts: nothing is sent before there is more than one part of it."""

# ruff: noqa: D102 - the docstrings of an upload are those of the contract

from __future__ import annotations

import hashlib
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from buffetstore.errors import ConflictError, NotFoundError, StorageError, UnavailableError, UnsupportedOperationError
from buffetstore.objects.base import Upload
from buffetstore.objects.parts import parts_of, whole_parts
from buffetstore.objects.s3.errors import Call, understood
from buffetstore.objects.s3.transfer import checked, crc32, described, quoted, unquoted, written
from buffetstore.objects.s3.xml import completion, fields_of
from buffetstore.resilience.concurrency import gather
from buffetstore.resilience.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from buffetstore.objects.base import Attributes, Data, ObjectMeta, PutMode
    from buffetstore.objects.s3.connection import Answer, S3Connection
    from buffetstore.objects.s3.options import S3Options

PART_BYTES = 8 * 1024 * 1024
PARALLEL_PARTS = 4
MOST_PARTS = 10_000


# The retry wrapper leaves parts to the store, which alone knows which of them arrived.
PART_POLICY = RetryPolicy(attempts=5)


class Multipart:
    """The requests of one multipart upload; parts are repeated by `policy`, the completion is not."""

    def __init__(
        self,
        connection: S3Connection,
        options: S3Options,
        key: str,
        name: str,
        mode: PutMode,
        attributes: Attributes,
        *,
        policy: RetryPolicy = PART_POLICY,
    ) -> None:
        self._connection = connection
        self._options = options
        self._key = key
        self._name = name
        self._mode = mode
        self._attributes = attributes
        self._policy = policy
        self._upload_id: str | None = None
        self._parts: list[dict[str, str]] = []
        self._size = 0
        self._unclear = False

    @property
    def started(self) -> bool:
        return self._upload_id is not None

    async def send(self, parts: list[memoryview]) -> None:
        """Upload `parts` next, a few at a time; after a failure none of them counts."""
        first = len(self._parts) + 1
        if first + len(parts) > MOST_PARTS + 1:
            raise UnsupportedOperationError(
                f"{self._key!r} has more than {MOST_PARTS} parts of {PART_BYTES} bytes: write several objects",
                key=self._key,
            )
        await self._start()

        async def send_one(number: int, part: memoryview) -> dict[str, str]:
            crc = await crc32(part)
            answer = await self._part("upload_part", number, checked(crc), part)
            with understood(self._call("upload_part")):
                return {"PartNumber": str(number), "ETag": answer.headers["etag"], "ChecksumCRC32": crc}

        sending = [partial(send_one, number, part) for number, part in enumerate(parts, first)]
        self._parts += await gather(sending, limit=PARALLEL_PARTS)
        self._size += sum(len(part) for part in parts)

    async def copied(self, source: Mapping[str, str], size: int, part_bytes: int) -> ObjectMeta:
        """Copy the `size` bytes of what the headers `source` name, and complete."""
        try:
            await self._start()
            spans = [(at, min(at + part_bytes, size)) for at in range(0, size, part_bytes)]
            # S3 takes no range of a source below 5 MiB, so the only part has none.
            ranges = [{"x-amz-copy-source-range": f"bytes={a}-{b - 1}"} if len(spans) > 1 else {} for a, b in spans]
            copying = [partial(self._copy_part, number, {**source, **span}) for number, span in enumerate(ranges, 1)]
            self._parts += await gather(copying)
            self._size = size
            return await self.complete()
        except BaseException:
            with suppress(StorageError):
                await self.abort()
            raise

    async def _copy_part(self, number: int, headers: dict[str, str]) -> dict[str, str]:
        answer = await self._part("upload_part_copy", number, headers)
        with understood(self._call("upload_part_copy")):
            fields = fields_of(answer.body)
            part = {"PartNumber": str(number), "ETag": fields["ETag"]}
        return part | {name: value for name, value in fields.items() if name == "ChecksumCRC32"}

    async def complete(self) -> ObjectMeta:
        """Make the object visible if the mode's condition holds; may be tried again after an unclear answer.

        A conflict after an unclear answer is `ambiguous`: it may be with what this upload itself wrote.
        """
        call = Call("complete_multipart_upload", self._connection.url, self._key, self._mode, write=True)
        try:
            await self._look_before()
            answer = await self._connection.ask(
                call,
                "POST",
                self._name,
                query=[("uploadId", self._upload_id or "")],
                headers={"content-type": "application/xml", **condition_of(self._mode)},
                data=completion(self._parts),
            )
            with understood(call):
                etag = fields_of(answer.body).get("ETag")
                if etag == "":  # Ceph 16 says so
                    etag = _joint_etag(self._parts)
            meta = written(etag, answer.headers, call, self._size, self._attributes)
        except ConflictError as error:
            error.ambiguous = self._unclear
            with suppress(StorageError):  # that it was lost is worth more; a lifecycle rule has the parts
                await self.abort()
            raise
        except StorageError as error:
            self._unclear |= error.ambiguous
            raise
        self._upload_id = None
        return meta

    async def _look_before(self) -> None:
        # AWS decides If-Match at the completion; some services (moto) see only If-None-Match there.
        if self._mode.version is not None and not self._unclear:
            call = Call("head_object", self._connection.url, self._key, self._mode)
            await self._connection.ask(call, "HEAD", self._name, headers={"if-match": quoted(self._mode.version)})

    async def abort(self) -> None:
        """Have the parts forgotten."""
        if self._upload_id is None:
            return
        upload_id, self._upload_id = self._upload_id, None
        try:
            await self._connection.ask(
                self._call("abort_multipart_upload"), "DELETE", self._name, query=[("uploadId", upload_id)]
            )
        except NotFoundError:
            return
        except UnavailableError as error:
            if not error.ambiguous:  # a NoSuchUpload is ambiguous: it was completed or aborted
                self._upload_id = upload_id
                raise

    async def _start(self) -> None:
        if self._upload_id is None:
            call = self._call("create_multipart_upload")
            # With a checksum of the whole, not of the parts' checksums, downloads can be verified.
            checked = {"x-amz-checksum-algorithm": "CRC32", "x-amz-checksum-type": "FULL_OBJECT"}
            headers = described(self._attributes, self._options) | checked

            async def start() -> str:
                answer = await self._connection.ask(call, "POST", self._name, query=[("uploads", "")], headers=headers)
                with understood(call):
                    return fields_of(answer.body)["UploadId"]

            self._upload_id = await self._policy.call(start, subject=self._key)

    async def _part(
        self, operation: str, number: int, headers: dict[str, str], data: memoryview | None = None
    ) -> Answer:
        query = [("partNumber", str(number)), ("uploadId", self._upload_id or "")]
        call = self._call(operation)

        async def attempt() -> Answer:
            return await self._connection.ask(call, "PUT", self._name, query=query, headers=headers, data=data)

        return await self._policy.call(attempt, subject=self._key)

    def _call(self, operation: str) -> Call:
        return Call(operation, self._connection.url, self._key)


class S3Upload(Upload):
    """See `Upload`. A failed `write` took nothing, so that it can be repeated.

    Parameters
    ----------
    put:
        Writes an object that turned out to be small.
    refuse:
        Raises if the mode's condition would not be kept at the completion.
    """

    def __init__(
        self,
        key: str,
        multipart: Multipart,
        *,
        put: Callable[[bytearray], Awaitable[ObjectMeta]],
        refuse: Callable[[], None],
    ) -> None:
        self._key = key
        self._multipart = multipart
        self._put = put
        self._refuse = refuse
        self._buffer = bytearray()
        self._over = False

    async def write(self, data: Data) -> None:
        self._check_open()
        if len(self._buffer) + len(data) < PARALLEL_PARTS * PART_BYTES:
            self._buffer += data
            return
        self._refuse()
        parts, rest = await whole_parts(self._buffer, data, PART_BYTES)
        await self._multipart.send(parts)
        self._buffer = rest

    async def complete(self) -> ObjectMeta:
        self._check_open()
        if not self._multipart.started and len(self._buffer) <= PART_BYTES:
            meta = await self._put(self._buffer)
        else:
            self._refuse()
            if self._buffer:
                await self._multipart.send(parts_of(bytes(self._buffer), PART_BYTES))
                self._buffer = bytearray()
            meta = await self._multipart.complete()
        self._over = True
        return meta

    async def abort(self) -> None:
        self._over = True
        self._buffer = bytearray()
        await self._multipart.abort()

    def _check_open(self) -> None:
        if self._over:
            raise UnsupportedOperationError(f"the upload of {self._key!r} is over: start a new one", key=self._key)


def condition_of(mode: PutMode) -> dict[str, str]:
    """Return the headers of a write under `mode`."""
    if mode.kind == "create":
        return {"if-none-match": "*"}
    return {"if-match": mode.version} if mode.kind == "update" and mode.version is not None else {}


def _joint_etag(parts: list[dict[str, str]]) -> str:
    """Return the ETag of an object in parts as S3 makes it: of the MD5s of the parts, and how many there are."""
    digests = b"".join(bytes.fromhex(unquoted(part["ETag"])) for part in parts)
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"
