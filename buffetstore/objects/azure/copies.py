"""Copies inside the service."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from itertools import chain, repeat
from typing import TYPE_CHECKING

from buffetstore.errors import NotFoundError, StorageError, UnavailableError
from buffetstore.objects.azure.errors import Call
from buffetstore.objects.azure.wire import condition_of, quoted, written
from buffetstore.objects.base import DEFAULT_ATTRIBUTES
from buffetstore.resilience.concurrency import unhurried

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buffetstore.objects.azure.client import AzureClient
    from buffetstore.objects.base import ObjectMeta, PutMode

_POLL_SECONDS = (0.05, 0.1, 0.2, 0.5)
_LAST_POLL_SECONDS = 1.0


async def copied(
    client: AzureClient, original: ObjectMeta, target: str, mode: PutMode, *, version_id: str | None = None
) -> ObjectMeta:
    """Copy the blob that `original` tells of, and wait until it is whole.

    Within one account the service nearly always copies at once; a target of a copy that goes on is waited for.
    """
    call = Call("copy_blob", client.place.url, target, mode, write=True)
    attributes = original.attributes or DEFAULT_ATTRIBUTES
    query = {} if version_id is None else {"versionid": version_id}
    headers = {
        "x-ms-copy-source": str(client.url(client.path(original.key), query)),
        "x-ms-source-if-match": quoted(original.version, original.key),
        **condition_of(mode, target),
    }
    if attributes.storage_class is not None:
        headers["x-ms-access-tier"] = attributes.storage_class
    try:
        answer, _ = await client.request(call, "PUT", client.path(target), headers=headers)
    except NotFoundError as error:
        error.key = original.key  # the target need not be there
        raise
    meta = written(answer, target, original.size, attributes, call, "")
    if answer.get("x-ms-copy-status", "success") == "pending":
        answer = await _finished(client, call, answer["x-ms-copy-id"])
        meta = written(answer, target, original.size, attributes, call, "")
    return replace(meta, checksum=original.checksum)


async def _finished(client: AzureClient, call: Call, copy_id: str) -> Mapping[str, str]:
    """Return the target's headers when the service has copied; take back a copy that is not awaited to its end."""
    try:
        for seconds in chain(_POLL_SECONDS, repeat(_LAST_POLL_SECONDS)):
            await asyncio.sleep(seconds)
            headers = await _state(client, call, copy_id)
            if headers["x-ms-copy-status"] == "success":
                return headers
    except BaseException:
        with suppress(StorageError):  # what ended the wait is worth more
            await unhurried(_take_back(client, call, copy_id))
        raise
    raise AssertionError("the waits have no end")


async def _state(client: AzureClient, call: Call, copy_id: str) -> Mapping[str, str]:
    headers = await _target(client, call, copy_id)
    if headers.get("x-ms-copy-status") not in {"pending", "success"}:
        said = headers.get("x-ms-copy-status-description", "")
        raise UnavailableError(f"{call.where}: the service gave up copying: {said}", key=call.key)
    return headers


async def _target(client: AzureClient, call: Call, copy_id: str) -> Mapping[str, str]:
    path = client.path(call.key or "")
    headers, _ = await client.request(Call("get_blob", call.url, call.key), "HEAD", path)
    if headers.get("x-ms-copy-id") != copy_id:
        raise UnavailableError(
            f"{call.where}: the target was replaced before the copy was done", key=call.key, ambiguous=True
        )
    return headers


async def _take_back(client: AzureClient, call: Call, copy_id: str) -> None:
    """Stop a copy and delete the half of it that readers could see."""
    path = client.path(call.key or "")
    with suppress(StorageError):  # it may have ended
        query = {"comp": "copy", "copyid": copy_id}
        await client.request(call, "PUT", path, query=query, headers={"x-ms-copy-action": "abort"})
    headers = await _target(client, call, copy_id)
    if headers.get("x-ms-copy-status") != "success":
        await client.request(call, "DELETE", path, headers={"if-match": headers["ETag"]})
