"""Is this store fit for tables? Each check says what was tried, what came of it, and how to mend it."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit
from uuid import uuid4

from buffetstore.errors import (
    AlreadyExistsError,
    AuthenticationError,
    BucketNotFoundError,
    PermissionDeniedError,
    StorageError,
    UnavailableError,
)
from buffetstore.objects.base import CREATE
from buffetstore.objects.helpers import get_bytes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from buffetstore.objects.base import ObjectMeta, ObjectStore

PROBES: Final = "metadata/doctor/"
MAX_SKEW_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was tried.

    Parameters
    ----------
    name:
        `list`, `put`, `get`, `conditional put`, `delete` or `clock`.
    outcome:
        `ok`, `failed`, or `skipped` because what it builds on failed.
    detail:
        What was seen.
    mend:
        What to do about it; empty when all is well.
    milliseconds:
        How long it took.
    """

    name: str
    outcome: Literal["ok", "failed", "skipped"]
    detail: str
    mend: str = ""
    milliseconds: float = 0.0


async def check_store(store: ObjectStore, *, now: Callable[[], float] = time.time) -> AsyncIterator[Check]:
    """Yield one `Check` after the other. Writes one small object under `metadata/doctor/` and deletes it.

    Parameters
    ----------
    store:
        Where the tables are, or shall be.
    now:
        Seconds since the epoch, by this machine's clock.
    """
    key, content = f"{PROBES}{uuid4().hex}", b"written by buffetstore doctor; safe to delete"
    yield await _listing(store)
    before = now()
    put, meta = await _put(store, key, content)
    after = now()
    yield put
    if meta is None:
        for name in ("get", "conditional put", "clock", "delete"):
            yield Check(name, "skipped", "nothing could be written")
        return
    try:
        yield await _get(store, key, content)
        yield await _conditional_put(store, key)
        yield _clock(meta.last_modified, before, after)
        yield await _delete(store, key)
    finally:
        with suppress(StorageError):
            await store.delete([key])


async def _listing(store: ObjectStore) -> Check:
    started = time.perf_counter()
    try:
        found = await store.list_prefixes("")
    except StorageError as error:
        return _failed("list", error, store.url, started)
    held = f"{len(found.prefixes)} folders and {len(found.objects)} objects at the top"
    return Check("list", "ok", f"{store.url} answers: {held}", milliseconds=_since(started))


async def _put(store: ObjectStore, key: str, content: bytes) -> tuple[Check, ObjectMeta | None]:
    started = time.perf_counter()
    try:
        meta = await store.put(key, content)
    except StorageError as error:
        return _failed("put", error, store.url, started), None
    return Check("put", "ok", f"wrote {len(content)} bytes to {key}", milliseconds=_since(started)), meta


async def _get(store: ObjectStore, key: str, content: bytes) -> Check:
    started = time.perf_counter()
    try:
        read = await get_bytes(store, key)
    except StorageError as error:
        return _failed("get", error, store.url, started)
    if read != content:
        changed = f"read {len(read)} bytes that are not what was written"
        return Check("get", "failed", changed, "something between changes what passes, such as a proxy: go round it")
    return Check("get", "ok", "the same bytes came back, checksum right", milliseconds=_since(started))


async def _conditional_put(store: ObjectStore, key: str) -> Check:
    started = time.perf_counter()
    name = "conditional put"
    try:
        await store.put(key, b"this must not be written", mode=CREATE)
    except AlreadyExistsError:
        return Check(name, "ok", "an existing object was not overwritten", milliseconds=_since(started))
    except StorageError as error:
        return _failed(name, error, store.url, started)
    return Check(
        name,
        "failed",
        "put-if-absent overwrote an existing object",
        "writers would overwrite each other's commits: use a store, or a newer version of it, that honours "
        "ifGenerationMatch (GCS) or If-None-Match (S3)",
    )


async def _delete(store: ObjectStore, key: str) -> Check:
    started = time.perf_counter()
    try:
        await store.delete([key])
    except StorageError as error:
        return _failed("delete", error, store.url, started)
    return Check("delete", "ok", "the probe is gone again", milliseconds=_since(started))


def _clock(stamped: datetime, before: float, after: float) -> Check:
    # The store stamped the object between the two readings; a second more, for stores that stamp whole seconds.
    at = stamped.timestamp()
    ahead = before - at - 1 if at < before - 1 else after - at if at > after else 0.0
    shown = f"the store's clock says {stamped.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    if abs(ahead) <= MAX_SKEW_SECONDS:
        return Check("clock", "ok", f"{shown}, as this machine's")
    direction = "ahead of" if ahead > 0 else "behind"
    return Check(
        "clock",
        "failed",
        f"{shown}; this machine is {abs(ahead):.0f} s {direction} it",
        "set this machine's clock (timedatectl set-ntp true): signatures expire and availability is judged by it",
    )


def _failed(name: str, error: StorageError, url: str, started: float) -> Check:
    return Check(name, "failed", f"{error.code}: {error}", _mend(name, error, url), _since(started))


def _mend(name: str, error: StorageError, url: str) -> str:
    scheme, bucket = urlsplit(url).scheme, urlsplit(url).netloc
    if isinstance(error, BucketNotFoundError):
        return {
            "gs": f"gcloud storage buckets create gs://{bucket}, or mend the name",
            "s3": f"aws s3 mb s3://{bucket}, or mend the name",
        }.get(scheme, "create the folder, or mend the path")
    if isinstance(error, AuthenticationError):
        return {
            "gs": "gcloud auth application-default login, or point GOOGLE_APPLICATION_CREDENTIALS to a key file",
            "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
        }.get(scheme, "give credentials")
    if isinstance(error, PermissionDeniedError):
        right = "storage.objectViewer" if name in {"list", "get"} else "storage.objectUser"
        return {
            "gs": f"grant roles/{right} on gs://{bucket} to this account",
            "s3": f"allow s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject on {bucket}",
        }.get(scheme, "let this user read and write the folder")
    if isinstance(error, UnavailableError):
        return "check the network, a proxy, and STORAGE_EMULATOR_HOST or AWS_ENDPOINT_URL if one is set"
    return "see the message"


def _since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
