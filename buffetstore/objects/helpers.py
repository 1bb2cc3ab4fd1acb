"""Conveniences over the object store contract, written once; no store implements them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from buffetstore.errors import NotFoundError, PreconditionFailedError
from buffetstore.objects.base import OVERWRITE, Attributes, ByteRange, ObjectMeta, ObjectStore
from buffetstore.objects.transfers import download_file, get_buffer, put_stream, upload_file
from buffetstore.resilience.concurrency import gather

if TYPE_CHECKING:
    from collections.abc import Sequence

    from buffetstore.objects.base import PutMode

__all__ = [
    "delete_prefix",
    "download_file",
    "exists",
    "get_buffer",
    "get_bytes",
    "get_many",
    "get_text",
    "head",
    "list_all",
    "put_stream",
    "put_text",
    "read_object",
    "upload_file",
]

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
