"""Writing blobs: one request, or blocks that a list makes a blob of."""

# ruff: noqa: D102 - the docstrings of an upload are those of the contract

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from functools import partial
from typing import TYPE_CHECKING

from buffetstore.errors import (
    AlreadyExistsError,
    ChecksumMismatchError,
    ConflictError,
    NotFoundError,
    PreconditionFailedError,
    StorageError,
    UnavailableError,
    UnsupportedOperationError,
)
from buffetstore.objects.azure.errors import Call, LostBlocksError
from buffetstore.objects.azure.wire import INLINE_BYTES, condition_of, described, md5_of, written
from buffetstore.objects.base import Upload
from buffetstore.objects.parts import parts_of, whole_parts
from buffetstore.resilience.concurrency import gather
from buffetstore.resilience.retry import RetryPolicy
from buffetstore.resilience.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from buffetstore.objects.azure.client import AzureClient
    from buffetstore.objects.base import Attributes, Data, ObjectMeta, PutMode

PARALLEL_PARTS = 4
MOST_PARTS = 50_000

# The retry wrapper leaves parts to the store, which alone knows which of them arrived.
PART_POLICY = RetryPolicy(attempts=5)


class Writer:
    """Sends whole blobs, and the blocks and lists of large ones."""

    def __init__(self, client: AzureClient) -> None:
        self._client = client
        scope = client.options.encryption_scope
        self.part_bytes = client.options.part_bytes
        self._encrypted = {} if scope is None else {"x-ms-encryption-scope": scope}

    async def put(self, key: str, data: Data, mode: PutMode, attributes: Attributes) -> ObjectMeta:
        """Write a blob in one request, whose MD5 the service checks and keeps."""
        call = Call("put_blob", self._client.place.url, key, mode, write=True)
        md5 = md5_of(data) if len(data) <= INLINE_BYTES else await in_thread(md5_of, data)
        headers = {
            "x-ms-blob-type": "BlockBlob",
            "content-md5": md5,
            **described(attributes),
            **condition_of(mode, key),
            **self._encrypted,
        }
        answer, _ = await self._client.request(call, "PUT", self._client.path(key), headers=headers, data=data)
        return written(answer, key, len(data), attributes, call, md5)

    async def stage(self, key: str, block_id: str, data: Data, md5: str) -> None:
        """Send one block; it is seen by nobody before a list names it."""
        # Not a write that could be ambiguous: the same block again is the same block.
        call = Call("put_block", self._client.place.url, key)
        await self._client.request(
            call,
            "PUT",
            self._client.path(key),
            query={"comp": "block", "blockid": block_id},
            headers={"content-md5": md5, **self._encrypted},
            data=data,
        )

    async def has_blocks(self, key: str, block_ids: list[str]) -> bool:
        """Return whether the service still holds all of these blocks."""
        call = Call("get_block_list", self._client.place.url, key)
        query = {"comp": "blocklist", "blocklisttype": "all"}
        try:
            _, body = await self._client.request(call, "GET", self._client.path(key), query=query)
        except NotFoundError:
            return False
        return set(block_ids) <= set(re.findall(r"<Name>(.*?)</Name>", body.decode()))

    async def commit(
        self, key: str, block_ids: list[str], size: int, md5: str, mode: PutMode, attributes: Attributes
    ) -> ObjectMeta:
        """Make a blob of the blocks."""
        call = Call("put_block_list", self._client.place.url, key, mode, write=True)
        # Latest, not Uncommitted: said again after a lost answer, it names the same bytes.
        listed = "".join(f"<Latest>{block_id}</Latest>" for block_id in block_ids)
        body = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{listed}</BlockList>'.encode()
        headers = {
            "content-md5": md5_of(body),
            "x-ms-blob-content-md5": md5,
            **described(attributes),
            **condition_of(mode, key),
            **self._encrypted,
        }
        answer, _ = await self._client.request(
            call, "PUT", self._client.path(key), query={"comp": "blocklist"}, headers=headers, data=body
        )
        return written(answer, key, size, attributes, call, md5)


class BlockUpload(Upload):
    """See `Upload`. A failed `write` took nothing, so that it can be repeated; blocks that arrived are not sent again.

    Uncommitted blocks of a blob are dropped by the service when anything else is written to its key: completing then
    raises a conflict. Those of an upload that was left are dropped after a week; there is no request that does it.
    """

    def __init__(
        self,
        writer: Writer,
        key: str,
        mode: PutMode,
        attributes: Attributes,
        *,
        policy: RetryPolicy = PART_POLICY,
    ) -> None:
        self._writer = writer
        self._part_bytes = writer.part_bytes
        self._key = key
        self._mode = mode
        self._attributes = attributes
        self._policy = policy
        self._writer_id = secrets.token_hex(16)  # all ids of a blob have one length, and none is another writer's
        self._buffer = bytearray()
        self._staged: list[str] = []
        self._arrived: dict[str, str] = {}  # block ids and what they hold, also of a write that failed
        self._size = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._unclear = False
        self._over = False
        described(attributes)  # what cannot be stored is refused before anything is sent

    async def write(self, data: Data) -> None:
        self._check_open()
        if len(self._buffer) + len(data) < PARALLEL_PARTS * self._part_bytes:
            self._buffer += data
            return
        parts, rest = await whole_parts(self._buffer, data, self._part_bytes)
        await self._send(parts)
        self._buffer = rest

    async def complete(self) -> ObjectMeta:
        self._check_open()
        if not self._staged and len(self._buffer) <= self._part_bytes:
            meta = await self._writer.put(self._key, await owned(self._buffer), self._mode, self._attributes)
        else:
            if self._buffer:
                await self._send(parts_of(await owned(self._buffer), self._part_bytes))
                self._buffer = bytearray()
            meta = await self._commit()
        self._over = True
        return meta

    async def abort(self) -> None:
        self._over = True
        self._buffer = bytearray()

    async def _send(self, parts: list[memoryview]) -> None:
        """Stage `parts` next, a few at a time; after a failure none of them counts."""
        first = len(self._staged)
        if first + len(parts) > MOST_PARTS:
            raise UnsupportedOperationError(
                f"{self._key!r} has more than {MOST_PARTS} blocks of {self._part_bytes} bytes: write several objects",
                key=self._key,
            )
        running = self._md5.copy()
        block_ids = [self._block_id(number) for number in range(first, first + len(parts))]

        async def sum_all() -> None:
            for part in parts:
                await in_thread(running.update, part)

        calls: list[Callable[[], Awaitable[None]]] = [sum_all]
        calls += [partial(self._stage, block_id, part) for block_id, part in zip(block_ids, parts, strict=True)]
        await gather(calls, limit=1 + PARALLEL_PARTS)
        self._md5 = running
        self._staged += block_ids
        self._size += sum(len(part) for part in parts)

    async def _stage(self, block_id: str, part: memoryview) -> None:
        md5 = await in_thread(md5_of, part)
        if self._arrived.get(block_id) == md5:
            return
        await self._policy.call(lambda: self._writer.stage(self._key, block_id, part, md5), subject=self._key)
        self._arrived[block_id] = md5

    async def _commit(self) -> ObjectMeta:
        """Make the object visible if the mode's condition holds; may be tried again after an unclear answer.

        A conflict after an unclear answer is `ambiguous`: it may be with what this upload itself wrote.
        """
        md5 = base64.b64encode(self._md5.digest()).decode()
        try:
            return await self._writer.commit(self._key, self._staged, self._size, md5, self._mode, self._attributes)
        except LostBlocksError as error:
            raise await self._dropped(error) from error
        except ConflictError as error:
            error.ambiguous = self._unclear
            raise
        except StorageError as error:
            self._unclear |= error.ambiguous
            raise

    async def _dropped(self, error: LostBlocksError) -> StorageError:
        if self._unclear:
            # Ours may have been committed, and replaced since.
            return UnavailableError(error.message, key=self._key, ambiguous=True)
        if await self._writer.has_blocks(self._key, self._staged):
            # The list was not what we sent: not every service checks its MD5.
            return ChecksumMismatchError(error.message, key=self._key)
        if self._mode.kind == "create":
            return AlreadyExistsError(error.message, key=self._key)
        if self._mode.kind == "update":
            return PreconditionFailedError(error.message, key=self._key)
        return ConflictError(error.message, key=self._key)

    def _block_id(self, number: int) -> str:
        return base64.b64encode(f"{self._writer_id}-{number:08}".encode()).decode()

    def _check_open(self) -> None:
        if self._over:
            raise UnsupportedOperationError(f"the upload of {self._key!r} is over: start a new one", key=self._key)


async def owned(data: Data) -> bytes:
    """Return the bytes as they are now: a caller may go on to change its buffer while it is sent."""
    if isinstance(data, bytes):
        return data
    return bytes(data) if len(data) <= INLINE_BYTES else await in_thread(bytes, data)
