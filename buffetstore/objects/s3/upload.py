"""An object in parts: nothing is sent before there is more than one part of it."""

# ruff: noqa: D102 - the docstrings of an upload are those of the contract

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from buffetstore.errors import ConflictError, NotFoundError, StorageError, UnavailableError, UnsupportedOperationError
from buffetstore.objects.base import Upload
from buffetstore.objects.s3.errors import Call
from buffetstore.objects.s3.transfer import described, outgoing, quoted, written
from buffetstore.resilience.concurrency import gather
from buffetstore.resilience.retry import RetryPolicy
from buffetstore.resilience.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from buffetstore.objects.base import Attributes, Data, ObjectMeta, PutMode
    from buffetstore.objects.s3.connection import S3Connection

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
        key: str,
        name: str,
        mode: PutMode,
        attributes: Attributes,
        *,
        policy: RetryPolicy = PART_POLICY,
    ) -> None:
        self._connection = connection
        self._key = key
        self._name = name
        self._mode = mode
        self._attributes = attributes
        self._policy = policy
        self._upload_id: str | None = None
        self._parts: list[dict[str, Any]] = []
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

        async def send_one(number: int, part: memoryview) -> dict[str, Any]:
            body = await outgoing(part)
            answer = await self._part("upload_part", PartNumber=number, **body)
            return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumCRC32": body["ChecksumCRC32"]}

        sending = [partial(send_one, number, part) for number, part in enumerate(parts, first)]
        self._parts += await gather(sending, limit=PARALLEL_PARTS)
        self._size += sum(len(part) for part in parts)

    async def copied(self, source: dict[str, str], size: int, part_bytes: int, etag: str) -> ObjectMeta:
        """Copy the `size` bytes of `source`, while its ETag is `etag`, and complete."""
        try:
            await self._start()
            spans = [(at, min(at + part_bytes, size)) for at in range(0, size, part_bytes)]
            common = {"CopySource": source, "CopySourceIfMatch": etag}
            # S3 takes no range of a source below 5 MiB, so the only part has none.
            ranges = [{"CopySourceRange": f"bytes={a}-{b - 1}"} if len(spans) > 1 else {} for a, b in spans]
            copying = [partial(self._copy_part, number, common | span) for number, span in enumerate(ranges, 1)]
            self._parts += await gather(copying)
            self._size = size
            return await self.complete()
        except BaseException:
            with suppress(StorageError):
                await self.abort()
            raise

    async def _copy_part(self, number: int, parameters: dict[str, Any]) -> dict[str, Any]:
        answer = await self._part("upload_part_copy", PartNumber=number, **parameters)
        names = ("ETag", "ChecksumCRC32")
        return {"PartNumber": number} | {
            name: value for name, value in answer["CopyPartResult"].items() if name in names
        }

    async def complete(self) -> ObjectMeta:
        """Make the object visible if the mode's condition holds; may be tried again after an unclear answer.

        A conflict after an unclear answer is `ambiguous`: it may be with what this upload itself wrote.
        """
        call = Call("complete_multipart_upload", self._connection.url, self._key, self._mode, write=True)
        try:
            await self._look_before()
            parts = {"Parts": self._parts}
            answer = await self._request(
                call.operation, MultipartUpload=parts, mode=self._mode, **condition_of(self._mode)
            )
            meta = written(answer, self._key, self._size, self._attributes, call)
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
            condition = quoted(self._mode.version)
            await self._connection.call(
                "head_object", key=self._key, mode=self._mode, Key=self._name, IfMatch=condition
            )

    async def abort(self) -> None:
        """Have the parts forgotten."""
        if self._upload_id is None:
            return
        upload_id, self._upload_id = self._upload_id, None
        try:
            await self._connection.call("abort_multipart_upload", key=self._key, UploadId=upload_id, Key=self._name)
        except NotFoundError:
            return
        except UnavailableError as error:
            if not error.ambiguous:  # a NoSuchUpload is ambiguous: it was completed or aborted
                self._upload_id = upload_id
                raise

    async def _start(self) -> None:
        if self._upload_id is None:
            parameters = described(self._attributes) | {"ChecksumAlgorithm": "CRC32"}
            answer = await self._policy.call(
                lambda: self._connection.call("create_multipart_upload", key=self._key, Key=self._name, **parameters),
                subject=self._key,
            )
            self._upload_id = answer["UploadId"]

    async def _part(self, operation: str, **parameters: Any) -> dict[str, Any]:
        async def attempt() -> dict[str, Any]:
            if "Body" in parameters:
                parameters["Body"].seek(0)
            return await self._request(operation, **parameters)

        return await self._policy.call(attempt, subject=self._key)

    async def _request(self, operation: str, *, mode: PutMode | None = None, **parameters: Any) -> dict[str, Any]:
        parameters |= {"UploadId": self._upload_id}
        return await self._connection.call(
            operation, key=self._key, mode=mode, write=mode is not None, Key=self._name, **parameters
        )


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
        view = memoryview(data).cast("B")
        # Only what fills the begun part is copied: the interpreter stands still while bytes are.
        missing = -len(self._buffer) % PART_BYTES
        begun = await in_thread(b"".join, [self._buffer, view[:missing]])
        end = missing + (len(view) - missing) // PART_BYTES * PART_BYTES
        await self._multipart.send(_parts(begun) + _parts(view[missing:end]))
        self._buffer = bytearray(view[end:])

    async def complete(self) -> ObjectMeta:
        self._check_open()
        if not self._multipart.started and len(self._buffer) <= PART_BYTES:
            meta = await self._put(self._buffer)
        else:
            self._refuse()
            if self._buffer:
                await self._multipart.send(_parts(bytes(self._buffer)))
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
    """Return the parameters of a write under `mode`."""
    if mode.kind == "create":
        return {"IfNoneMatch": "*"}
    return {"IfMatch": mode.version} if mode.kind == "update" and mode.version is not None else {}


def _parts(data: Data) -> list[memoryview]:
    view = memoryview(data)
    return [view[at : at + PART_BYTES] for at in range(0, len(view), PART_BYTES)]
