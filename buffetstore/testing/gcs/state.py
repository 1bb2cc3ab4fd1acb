"""Buckets and objects in memory: generations, preconditions, listings. Knows nothing of HTTP.

Every method that changes something runs without awaiting, so concurrent requests see it whole or not at all.
Noncurrent generations are kept in buckets with object versioning; soft delete and holds are not part of this emulator.
"""

from __future__ import annotations

import base64
import bisect
import hashlib
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import google_crc32c

from buffetstore.testing.gcs.errors import ApiError, condition_failed, no_bucket, no_object

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MAX_COMPOSE = 32


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes with their checksums, base64 as the API shows them. Composed objects have no MD5."""

    data: bytes
    crc32c: str
    md5: str | None


def content_of(data: bytes, *, with_md5: bool = True) -> Content:
    """Return `data` with its checksums; costs CPU for large data."""
    crc32c = base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()
    md5 = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode() if with_md5 else None
    return Content(data, crc32c, md5)


@dataclass(frozen=True, slots=True)
class Conditions:
    """Preconditions of a request; None where one is not given."""

    generation_match: int | None = None
    generation_not_match: int | None = None
    metageneration_match: int | None = None
    metageneration_not_match: int | None = None

    def check(self, current: StoredObject | None, *, reading: bool = False) -> None:
        """Raise 412, or 304 when reading and a not-match fails, unless all hold for `current`."""
        generation = current.generation if current else 0
        metageneration = current.metageneration if current else 0
        if self.generation_match not in {None, generation} or self.metageneration_match not in {None, metageneration}:
            raise condition_failed()
        if generation == self.generation_not_match or metageneration == self.metageneration_not_match:
            raise ApiError(304, "Not modified") if reading else condition_failed()


NO_CONDITIONS = Conditions()


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One generation of an object; `deleted` says since when it is not current.

    `fields` are the writable properties, named as in the JSON API.
    """

    bucket: str
    name: str
    generation: int
    metageneration: int
    content: Content
    created: datetime
    updated: datetime
    fields: Mapping[str, Any] = field(default_factory=dict)
    component_count: int | None = None
    deleted: datetime | None = None

    @property
    def size(self) -> int:
        """The stored size in bytes."""
        return len(self.content.data)

    @property
    def etag(self) -> str:
        """The entity tag of the JSON API, which changes with the metadata too."""
        return base64.b64encode(f"{self.generation}/{self.metageneration}".encode()).decode()

    @property
    def xml_etag(self) -> str:
        """The entity tag of the XML API: the MD5 in hex where there is one."""
        if self.content.md5 is not None:
            return f'"{base64.b64decode(self.content.md5).hex()}"'
        return f'"-{self.etag}"'


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a listing."""

    objects: Sequence[StoredObject]
    prefixes: Sequence[str]
    next_token: str | None


@dataclass(slots=True)
class Bucket:
    """A bucket: its properties, and its objects with their names in order."""

    name: str
    created: datetime
    fields: dict[str, Any] = field(default_factory=dict)
    metageneration: int = 1
    objects: dict[str, StoredObject] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    noncurrent: dict[str, list[StoredObject]] = field(default_factory=dict)

    @property
    def keeps_versions(self) -> bool:
        """Whether object versioning is on."""
        return bool((self.fields.get("versioning") or {}).get("enabled"))

    def generation(self, name: str, number: int | None) -> StoredObject | None:
        """Return the live generation, or the one of this number."""
        live = self.objects.get(name)
        if number is None or (live is not None and live.generation == number):
            return live
        return next((each for each in self.noncurrent.get(name, []) if each.generation == number), None)

    def retire(self, name: str, now: datetime) -> None:
        """Make the live generation, if there is one, noncurrent where versions are kept; else forget it."""
        live = self.objects.pop(name, None)
        if live is not None and self.keeps_versions:
            self.noncurrent.setdefault(name, []).append(replace(live, deleted=now))

    def forget(self, name: str, number: int) -> None:
        """Drop a noncurrent generation for good."""
        left = [each for each in self.noncurrent.pop(name, []) if each.generation != number]
        if left:
            self.noncurrent[name] = left


# What a caller may set on an object; anything else in a request's metadata is ignored, as Google does.
WRITABLE = frozenset(
    {"cacheControl", "contentDisposition", "contentEncoding", "contentLanguage", "contentType", "customTime"}
    | {"metadata", "storageClass", "kmsKeyName", "temporaryHold", "eventBasedHold"}
)


class State:
    """All buckets of the server.

    Parameters
    ----------
    clock:
        Seconds since the epoch; generations are derived from it.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._last_generation = 0
        self.buckets: dict[str, Bucket] = {}

    def now(self) -> datetime:
        """Return the server's time."""
        return datetime.fromtimestamp(self._clock(), UTC)

    def create_bucket(self, name: str, fields: Mapping[str, Any] | None = None) -> Bucket:
        """Make an empty bucket; 409 when the name is taken."""
        if name in self.buckets:
            raise ApiError(409, "Your previous request to create the named bucket succeeded and you already own it.")
        bucket = self.buckets[name] = Bucket(name, self.now(), dict(fields or {}))
        return bucket

    def bucket(self, name: str) -> Bucket:
        """Return the bucket, or 404."""
        try:
            return self.buckets[name]
        except KeyError:
            raise no_bucket() from None

    def delete_bucket(self, name: str) -> None:
        """Remove an empty bucket; 409 when it is not."""
        if self.bucket(name).objects or self.bucket(name).noncurrent:
            raise ApiError(409, "The bucket you tried to delete is not empty.", xml_code="BucketNotEmpty")
        del self.buckets[name]

    def get(
        self, bucket: str, name: str, *, generation: int | None = None, conditions: Conditions = NO_CONDITIONS
    ) -> StoredObject:
        """Return the object; 404 when it, or that generation of it, is not there."""
        found = self.bucket(bucket).generation(name, generation)
        if found is None:
            raise no_object(bucket, name)
        conditions.check(found, reading=True)
        return found

    def check(self, bucket: str, name: str, conditions: Conditions) -> None:
        """Raise unless a write under `conditions` may begin."""
        conditions.check(self.bucket(bucket).objects.get(name))

    def put(
        self,
        bucket: str,
        name: str,
        content: Content,
        fields: Mapping[str, Any],
        conditions: Conditions = NO_CONDITIONS,
        *,
        component_count: int | None = None,
    ) -> StoredObject:
        """Make `content` the live generation."""
        if not 0 < len(name.encode()) <= 1024:
            raise ApiError(400, "The specified object name is not valid.", xml_code="InvalidObjectName")
        home = self.bucket(bucket)
        current = home.objects.get(name)
        conditions.check(current)
        now = self.now()
        kept = {key: value for key, value in fields.items() if key in WRITABLE and value is not None}
        kept.setdefault("storageClass", home.fields.get("storageClass", "STANDARD"))
        stored = StoredObject(bucket, name, self._generation(), 1, content, now, now, kept, component_count)
        home.retire(name, now)
        home.objects[name] = stored
        if current is None:
            bisect.insort(home.names, name)
        return stored

    def delete(
        self, bucket: str, name: str, *, generation: int | None = None, conditions: Conditions = NO_CONDITIONS
    ) -> None:
        """Remove the object, or one generation of it for good; 404 when it is not there."""
        home = self.bucket(bucket)
        found = home.generation(name, generation)
        if found is None:
            raise no_object(bucket, name)
        conditions.check(found)
        if found.deleted is not None:
            home.forget(name, found.generation)
            return
        if generation is None:
            home.retire(name, self.now())
        else:
            del home.objects[name]
        home.names.pop(bisect.bisect_left(home.names, name))

    def patch(
        self,
        bucket: str,
        name: str,
        changes: Mapping[str, Any],
        *,
        generation: int | None = None,
        conditions: Conditions = NO_CONDITIONS,
        replace_all: bool = False,
    ) -> StoredObject:
        """Change properties; a None removes one. With `replace_all` what is not given is removed."""
        found = self.get(bucket, name, generation=generation)
        conditions.check(found)
        fields: dict[str, Any] = {"storageClass": found.fields["storageClass"]} if replace_all else dict(found.fields)
        for key, value in changes.items():
            if key not in WRITABLE:
                continue
            if key == "metadata" and isinstance(value, dict):
                merged = {**fields.get("metadata", {}), **value}
                fields["metadata"] = {name: text for name, text in merged.items() if text is not None}
            elif value is None:
                fields.pop(key, None)
            else:
                fields[key] = value
        patched = replace(found, metageneration=found.metageneration + 1, updated=self.now(), fields=fields)
        home = self.bucket(bucket)
        if patched.deleted is None:
            home.objects[name] = patched
        else:
            old = home.noncurrent[name]
            old[old.index(found)] = patched
        return patched

    def copy(
        self,
        source: StoredObject,
        bucket: str,
        name: str,
        changes: Mapping[str, Any],
        conditions: Conditions = NO_CONDITIONS,
    ) -> StoredObject:
        """Copy an object; the properties given replace the source's."""
        fields = {**source.fields, **changes}
        return self.put(bucket, name, source.content, fields, conditions, component_count=source.component_count)

    def list(
        self,
        bucket: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        start: str = "",
        after: str = "",
        end: str = "",
        limit: int = 1000,
        trailing_delimiter: bool = False,
    ) -> Page:
        """Return the names from `start` on, or after `after`, and before `end`, in order of their UTF-8 bytes."""
        home = self.bucket(bucket)
        low = bisect.bisect_left(home.names, max(start, prefix))
        if after:
            low = max(low, bisect.bisect_right(home.names, after))
        objects: list[StoredObject] = []
        prefixes: list[str] = []
        last = ""
        while low < len(home.names):
            name = home.names[low]
            if not name.startswith(prefix) or (end and name >= end):
                break
            cut = name.find(delimiter, len(prefix)) if delimiter else -1
            folder = name[: cut + len(delimiter)] if cut >= 0 else ""
            if folder and folder == after:
                low = bisect.bisect_left(home.names, _past(folder))  # told on an earlier page
                continue
            if len(objects) + len(prefixes) == limit:
                return Page(objects, prefixes, last)
            if folder:
                prefixes.append(folder)
                if trailing_delimiter and name == folder:
                    objects.append(home.objects[name])
                low = bisect.bisect_left(home.names, _past(folder))
                last = folder
            else:
                objects.append(home.objects[name])
                low += 1
                last = name
        return Page(objects, prefixes, None)

    def list_versions(
        self, bucket: str, *, prefix: str = "", start: str = "", after: str = "", end: str = "", limit: int = 1000
    ) -> Page:
        """Return all generations, in order of name and number; `after` is a token of the page before."""
        home = self.bucket(bucket)
        name, _, number = after.partition("\0")
        past = (name, int(number or 0))
        found = [
            each
            for each in [*home.objects.values(), *(old for kept in home.noncurrent.values() for old in kept)]
            if each.name.startswith(prefix) and each.name >= start and (not end or each.name < end)
        ]
        found.sort(key=lambda each: (each.name, each.generation))
        found = [each for each in found if (each.name, each.generation) > past]
        token = f"{found[limit - 1].name}\0{found[limit - 1].generation}" if len(found) > limit else None
        return Page(found[:limit], [], token)

    def _generation(self) -> int:
        self._last_generation = max(self._last_generation + 1, int(self._clock() * 1_000_000))
        return self._last_generation


def _past(prefix: str) -> str:
    """Return the least string that sorts after everything that starts with `prefix`."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)
