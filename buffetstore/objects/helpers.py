"""Conveniences over the object store contract, written once; no store implements them."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from buffetstore.errors import NotFoundError, PreconditionFailedError
from buffetstore.objects.base import DEFAULT_ATTRIBUTES, OVERWRITE, Attributes, ByteRange, ObjectMeta, ObjectStore
from buffetstore.resilience.concurrency import gather
from buffetstore.resilience.threads import in_disk_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from buffetstore.objects.base import PutMode

FILE_CHUNK_BYTES = 4 * 1024 * 1024
DELETE_BATCH = 1000


async def head(store: ObjectStore, key: str) -> ObjectMeta:
    """Return the metadata of `key`, or raise `NotFoundError`."""
    async with await store.get(key, head=True) as result:
        return result.meta


async def exists(store: ObjectStore, key: str) -> bool:
    """Return whether `key` is there."""
    try:
        await head(store, key)
    except NotFoundError:
        return False
    return True


async def get_bytes(
    store: ObjectStore,
    key: str,
    *,
    range: ByteRange | None = None,  # noqa: A002 - the field's own word
    if_match: str | None = None,
) -> bytes:
    """Return the object, or one range of it, whole."""
    return (await read_object(store, key, range=range, if_match=if_match))[1]


async def read_object(
    store: ObjectStore,
    key: str,
    *,
    range: ByteRange | None = None,  # noqa: A002 - the field's own word
    if_match: str | None = None,
) -> tuple[ObjectMeta, bytes]:
    """Return the object's metadata and the bytes of just that version.

    Where a broken download cannot be mended because the object was replaced meanwhile, the new one is read instead.
    """
    while True:
        result = await store.get(key, range=range, if_match=if_match)
        try:
            return result.meta, await result.read()
        except PreconditionFailedError:
            if if_match is not None:
                raise


async def get_many(store: ObjectStore, keys: Sequence[str], *, concurrency: int = 64) -> list[bytes]:
    """Return many objects whole, in the order of `keys`, with at most `concurrency` requests in flight.

    Raises
    ------
    NotFoundError
        Any of them is not there; the other requests are cancelled.
    """
    return await gather([partial(get_bytes, store, key) for key in keys], limit=concurrency)


async def get_text(store: ObjectStore, key: str, *, encoding: str = "utf-8") -> str:
    """Return the object as text."""
    return (await get_bytes(store, key)).decode(encoding)


async def put_text(
    store: ObjectStore,
    key: str,
    text: str,
    *,
    mode: PutMode = OVERWRITE,
    content_type: str = "text/plain; charset=utf-8",
) -> ObjectMeta:
    """Write `text` in UTF-8."""
    return await store.put(key, text.encode(), mode=mode, attributes=Attributes(content_type=content_type))


async def list_all(store: ObjectStore, prefix: str = "", *, after: str = "") -> list[ObjectMeta]:
    """Return every object under `prefix` at once; iterate `list_objects` where there may be millions."""
    return [meta async for meta in store.list_objects(prefix, after=after)]


async def delete_prefix(store: ObjectStore, prefix: str) -> int:
    """Delete every object whose key starts with `prefix`; return how many there were."""
    deleted = 0
    batch: list[str] = []
    async for meta in store.list_objects(prefix):
        batch.append(meta.key)
        if len(batch) == DELETE_BATCH:
            await store.delete(batch)
            deleted += len(batch)
            batch = []
    if batch:
        await store.delete(batch)
    return deleted + len(batch)


async def upload_file(
    store: ObjectStore,
    path: str | os.PathLike[str],
    key: str,
    *,
    mode: PutMode = OVERWRITE,
    attributes: Attributes = DEFAULT_ATTRIBUTES,
    progress: Callable[[int, int], None] | None = None,
) -> ObjectMeta:
    """Write a file of any size to `key`; `progress(done, total)` is told in bytes.

    Raises
    ------
    NotFoundError
        There is no file at `path`.
    """
    try:
        file = await in_disk_thread(open, path, "rb")
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {os.fspath(path)!r} to upload", key=key) from None
    try:
        total = os.fstat(file.fileno()).st_size
        return await _send(store, file, total, key, mode, attributes, progress)
    finally:
        await in_disk_thread(file.close)


async def _send(
    store: ObjectStore,
    file: BinaryIO,
    total: int,
    key: str,
    mode: PutMode,
    attributes: Attributes,
    progress: Callable[[int, int], None] | None,
) -> ObjectMeta:
    if total <= FILE_CHUNK_BYTES:  # one request is cheaper than an upload in parts
        data = await in_disk_thread(file.read)
        meta = await store.put(key, data, mode=mode, attributes=attributes)
        if progress is not None:
            progress(len(data), total)
        return meta
    done = 0
    async with await store.start_upload(key, mode=mode, attributes=attributes) as upload:
        while chunk := await in_disk_thread(file.read, FILE_CHUNK_BYTES):
            await upload.write(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, total)
        return await upload.complete()


async def download_file(
    store: ObjectStore,
    key: str,
    path: str | os.PathLike[str],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> ObjectMeta:
    """Write the object to a file, which is replaced only when every byte has come; `progress(done, total)` in bytes."""
    target = Path(path)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    async with await store.get(key) as result:
        file = await in_disk_thread(part.open, "xb")
        try:
            done = 0
            async for chunk in result:
                await in_disk_thread(file.write, chunk)
                done += len(chunk)
                if progress is not None:
                    progress(done, result.meta.size)
            await in_disk_thread(_finish, file, part, target)
        except BaseException:
            await in_disk_thread(_discard, file, part)
            raise
        return result.meta


def _finish(file: BinaryIO, part: Path, target: Path) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()
    part.replace(target)


def _discard(file: BinaryIO, part: Path) -> None:
    with suppress(OSError):  # the reason of the failure is worth more than that of its cleaning
        file.close()
    part.unlink(missing_ok=True)
