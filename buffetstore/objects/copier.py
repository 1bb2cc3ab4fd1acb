"""One object from one store to another, verified; and whether two stores hold the same one."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from buffetstore.errors import (
    ChecksumMismatchError,
    NotFoundError,
    PreconditionFailedError,
    StorageError,
    UnavailableError,
)
from buffetstore.objects.base import DEFAULT_ATTRIBUTES, OVERWRITE, Attributes, ObjectMeta, ObjectStore
from buffetstore.objects.checksums import RunningChecksum, check
from buffetstore.objects.helpers import head
from buffetstore.resilience.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from buffetstore.objects.base import Checksum, Data, GetResult, PutMode
    from buffetstore.objects.checksums import Algorithm

    Verify = bool | Literal["read"]

SOURCE_VERSION = "source-version"
WHOLE_BYTES = 4 * 1024 * 1024  # up to here one request is cheaper than an upload in parts
_INLINE_BYTES = 64 * 1024
_ATTEMPTS = 3


def origin(url: str, version: str) -> str:
    """Return what a copy's metadata say of where it is from: the version, and a digest of the store's URL."""
    return f"{version}@{hashlib.sha256(url.encode()).hexdigest()[:16]}"


def origin_of(meta: ObjectMeta) -> str | None:
    """Return the `origin` that a copy carries; None where it carries none."""
    return None if meta.attributes is None else meta.attributes.metadata.get(SOURCE_VERSION)


def without_origin(meta: ObjectMeta) -> ObjectMeta:
    """Return the metadata as they are at the origin."""
    if origin_of(meta) is None or meta.attributes is None:
        return meta
    metadata = {name: value for name, value in meta.attributes.metadata.items() if name != SOURCE_VERSION}
    return replace(meta, attributes=replace(meta.attributes, metadata=metadata))


class Digests:
    """Checksums of bytes that come in pieces, by several algorithms at once."""

    def __init__(self, algorithms: set[Algorithm]) -> None:
        self._running = [RunningChecksum(algorithm) for algorithm in sorted(algorithms)]
        self.size = 0

    async def add(self, data: Data) -> None:
        """Take the next bytes, off the event loop where they are many."""
        self.size += len(data)
        if len(data) <= _INLINE_BYTES:
            self._update(data)
        else:
            await in_thread(self._update, data)

    @property
    def values(self) -> dict[str, Checksum]:
        """The checksums so far, by algorithm."""
        return {running.algorithm: running.value for running in self._running}

    def _update(self, data: Data) -> None:
        for running in self._running:
            running.update(data)


class ObjectCopier:
    """Copies objects from `source` to `target`.

    Parameters
    ----------
    verify:
        True compares checksums: that of the bytes as they passed with the one that the target gives, and where it
        gives none, of the object read back. `"read"` always reads back. False compares sizes.
    """

    def __init__(self, source: ObjectStore, target: ObjectStore, *, verify: Verify = True) -> None:
        self._source = source
        self._target = target
        self._verify = verify
        # What the target is found to compare by is computed from then on; these cost next to nothing.
        self._algorithms: set[Algorithm] = {"crc32c", "crc32"}
        # Classes have names of their own with each service.
        self._same_service = source.url.partition(":")[0] == target.url.partition(":")[0]

    async def copy(
        self,
        key: str,
        *,
        mode: PutMode = OVERWRITE,
        if_match: str | None = None,
        passed: Callable[[int], None] = lambda _count: None,
    ) -> ObjectMeta:
        """Copy one object, with its attributes, and return the target's metadata.

        Parameters
        ----------
        mode:
            Of the write.
        if_match:
            The source's version. Without it the newest is copied, begun anew where it is replaced meanwhile.
        passed:
            Told of bytes as they pass; negative where they will pass again.

        Raises
        ------
        NotFoundError, AlreadyExistsError
        PreconditionFailedError
            The source has another version, or it changed each time.
        ChecksumMismatchError
            What arrived twice was not what had been sent; it was deleted.
        """
        mismatches = 0
        for attempt in range(1, _ATTEMPTS + 1):
            count = 0

            def tell(more: int) -> None:
                nonlocal count
                count += more
                passed(more)

            try:
                return await self._copied(key, mode, if_match, tell)
            except ChecksumMismatchError:
                mismatches += 1
                passed(-count)
                if mismatches == 2:
                    raise
            except PreconditionFailedError:
                passed(-count)
                if if_match is not None or attempt == _ATTEMPTS:
                    raise
        raise UnavailableError(f"{key!r} was not the same for as long as its copy takes", key=key)

    async def are_same(self, ours: ObjectMeta, theirs: ObjectMeta) -> bool:
        """Return whether the target's object is a copy of the source's.

        Decided by size, then by the first that both sides have: checksums of one algorithm, the version that the copy
        was made of, and at last the contents, read from both.
        """
        if ours.size != theirs.size:
            return False
        if (verdict := _by_checksum(ours, theirs)) is not None:
            return verdict
        try:
            theirs = await head(self._target, theirs.key)
            if origin_of(theirs) == origin(self._source.url, ours.version):
                return theirs.size == ours.size
            ours = await head(self._source, ours.key)
            if (verdict := _by_checksum(ours, theirs)) is not None:
                return verdict
            return await self._same_bytes(ours, theirs)
        except (NotFoundError, PreconditionFailedError):  # deleted or replaced while it was looked at
            return False

    async def _same_bytes(self, ours: ObjectMeta, theirs: ObjectMeta) -> bool:
        mine = await self._digests_of(self._source, ours, {"sha256"})
        other = await self._digests_of(self._target, theirs, {"sha256"})
        return (mine.size, mine.values) == (other.size, other.values)

    async def _copied(self, key: str, mode: PutMode, if_match: str | None, passed: Callable[[int], None]) -> ObjectMeta:
        digests = Digests(self._algorithms)
        async with await self._source.get(key, if_match=if_match) as result:
            meta = await self._written(result, mode, digests, passed)
        try:
            await self._check(meta, digests)
        except ChecksumMismatchError:
            with suppress(StorageError):  # that it is wrong is what has to be known
                await self._target.delete([key])
            raise
        return meta

    async def _written(
        self, result: GetResult, mode: PutMode, digests: Digests, passed: Callable[[int], None]
    ) -> ObjectMeta:
        key = result.meta.key
        if result.meta.size <= WHOLE_BYTES:
            data = await result.read()
            await digests.add(data)
            _check_whole(result.meta, digests)
            meta = await self._target.put(key, data, mode=mode, attributes=self._attributes(result.meta))
            passed(len(data))
            return meta
        async with await self._target.start_upload(key, mode=mode, attributes=self._attributes(result.meta)) as upload:
            async for chunk in result:
                await digests.add(chunk)
                await upload.write(chunk)
                passed(len(chunk))
            _check_whole(result.meta, digests)
            return await upload.complete()

    async def _check(self, meta: ObjectMeta, digests: Digests) -> None:
        if meta.size != digests.size:
            message = f"{meta.key!r}: {digests.size} bytes were sent, {meta.size} are stored"
            raise ChecksumMismatchError(message, key=meta.key)
        if not self._verify:
            return
        if self._verify != "read":
            kept = meta.checksum or (await head(self._target, meta.key)).checksum
            if kept is not None and kept.algorithm in digests.values:
                check(digests.values[kept.algorithm], kept, meta.key)
                return
            if kept is not None:
                self._algorithms.add(kept.algorithm)
        stored = await self._digests_of(self._target, meta, {"crc32c"})
        check(stored.values["crc32c"], digests.values["crc32c"], meta.key)

    def _attributes(self, meta: ObjectMeta) -> Attributes:
        kept = meta.attributes or DEFAULT_ATTRIBUTES
        if not self._target.capabilities.metadata:
            return Attributes(kept.content_type)
        metadata = {**kept.metadata, SOURCE_VERSION: origin(self._source.url, meta.version)}
        return Attributes(kept.content_type, metadata, kept.storage_class if self._same_service else None)

    @staticmethod
    async def _digests_of(store: ObjectStore, meta: ObjectMeta, algorithms: set[Algorithm]) -> Digests:
        digests = Digests(algorithms)
        async with await store.get(meta.key, if_match=meta.version) as result:
            async for chunk in result:
                await digests.add(chunk)
        return digests


def _check_whole(meta: ObjectMeta, digests: Digests) -> None:
    """Raise before anything is stored if the body ended early."""
    if digests.size != meta.size:
        raise UnavailableError(
            f"the body of {meta.key!r} ended after {digests.size} of {meta.size} bytes", key=meta.key
        )


def _by_checksum(ours: ObjectMeta, theirs: ObjectMeta) -> bool | None:
    if ours.checksum is None or theirs.checksum is None or ours.checksum.algorithm != theirs.checksum.algorithm:
        return None
    return ours.checksum == theirs.checksum
