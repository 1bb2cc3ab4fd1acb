"""All objects from one store to another: resumable, verified, and safe for tables."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from buffetstore.errors import (
    AlreadyExistsError,
    AuthenticationError,
    BucketNotFoundError,
    CircuitOpenError,
    ConflictError,
    InvalidInputError,
    PreconditionFailedError,
    StorageError,
    StorageFullError,
)
from buffetstore.objects.base import CREATE, OVERWRITE, ObjectMeta, ObjectStore
from buffetstore.objects.copier import ObjectCopier
from buffetstore.objects.helpers import exists, head
from buffetstore.resilience.concurrency import gather

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from buffetstore.objects.copier import Verify

CONCURRENCY = 16
_LARGE_BYTES = 8 * 1024 * 1024
_DELETE_BATCH = 1000
_LOG = "_delta_log/"
_COMMIT = re.compile(r"\d{20}\.json")
# What every further object would meet too.
_HOPELESS = (BucketNotFoundError, AuthenticationError, StorageFullError, CircuitOpenError)


@dataclass(frozen=True, slots=True)
class CopyFailure:
    """An object that was not copied, and why."""

    key: str
    error: StorageError


@dataclass(frozen=True, slots=True)
class CopyReport:
    """What `copy_store` did.

    Parameters
    ----------
    copied, skipped, deleted:
        Objects: written to the target, found there already, and taken away there.
    bytes:
        Of the objects copied.
    failed:
        Objects that are not at the target as they are at the source.
    tables:
        Where logs of tables were found, each empty or ending with `/`.
    """

    copied: int
    skipped: int
    deleted: int
    bytes: int
    failed: tuple[CopyFailure, ...] = ()
    tables: tuple[str, ...] = ()

    def raise_for_failures(self) -> None:
        """Raise `StorageError`, naming the first of them, if anything failed."""
        if self.failed:
            first = self.failed[0]
            many = f"{len(self.failed)} objects were" if len(self.failed) > 1 else "1 object was"
            message = f"{many} not copied, {self.copied} were: {first.key!r}: {first.error}; run it again"
            raise StorageError(message, key=first.key) from first.error


async def copy_store(
    source: ObjectStore,
    target: ObjectStore,
    prefix: str = "",
    *,
    concurrency: int = CONCURRENCY,
    verify: Verify = True,
    delete_extra: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> CopyReport:
    """Copy every object under `prefix` to the same key of another store, of any kind.

    Run it again to go on: an object that the target holds already is skipped (same size, and same checksum, or the
    recorded version of the source, or the same bytes). Attributes are kept where the target has them; a storage class
    only within one service. Copies say in their metadata, as `source-version`, what they were made of.

    A Delta table can be read at the target at any time: its log is copied after its files, in the order of versions,
    as it was when the copy began. A commit at the target is never overwritten: where it is another one, the rest of
    that log is left out and reported. Where a file failed, so is the log of its table.

    Parameters
    ----------
    concurrency:
        Objects on their way at once; a quarter of it where they are large.
    verify:
        True compares checksums, reading back where the target gives none; `"read"` always reads back; False compares
        sizes.
    delete_extra:
        Take away what is under `prefix` at the target but not at the source, once everything else went well.
    progress:
        Told ``(done, total)`` in bytes; what is skipped counts as done.

    Returns
    -------
    CopyReport
        One object's failure does not stop the others: look at `failed`, or call `raise_for_failures()`.

    Raises
    ------
    BucketNotFoundError, AuthenticationError, StorageFullError, CircuitOpenError
        What every object would meet: the copy stopped there. So it does where a listing fails.
    """
    if concurrency < 1:
        raise InvalidInputError(f"concurrency is {concurrency}: at least 1 is needed")
    mirror = Mirror(source, target, prefix, concurrency=concurrency, verify=verify, progress=progress)
    return await mirror.run(delete_extra=delete_extra)


class Mirror:
    """One run of a copy.

    Parameters
    ----------
    overwrite_log:
        Let the source's commits replace others at the target: for a replica, which has no history of its own.
    """

    def __init__(
        self,
        source: ObjectStore,
        target: ObjectStore,
        prefix: str = "",
        *,
        concurrency: int = CONCURRENCY,
        verify: Verify = True,
        progress: Callable[[int, int], None] | None = None,
        overwrite_log: bool = False,
    ) -> None:
        self._source = source
        self._target = target
        self._prefix = prefix
        self._concurrency = concurrency
        self._large = asyncio.Semaphore(max(1, concurrency // 4))
        self._copier = ObjectCopier(source, target, verify=verify)
        self._progress = progress
        self._overwrite_log = overwrite_log
        self._copied = self._skipped = self._bytes = self._done = self._total = 0
        self._failed: list[CopyFailure] = []
        self._extra: list[str] = []
        self._held_log: dict[str, ObjectMeta] = {}

    async def run(self, *, delete_extra: bool = False) -> CopyReport:
        """Do it."""
        # The logs are listed before the files: whatever an entry names then is there when the files are listed.
        logs: dict[str, list[ObjectMeta]] = defaultdict(list)
        async for meta in self._source.list_objects(self._prefix):
            self._total += meta.size
            if (table := table_of(meta.key)) is not None:
                logs[table].append(meta)
        await self._copy_files()
        await gather([partial(self._copy_log, table, logs[table]) for table in logs], limit=self._concurrency)
        deleted = await self._delete_extra() if delete_extra and not self._failed else 0
        return CopyReport(self._copied, self._skipped, deleted, self._bytes, tuple(self._failed), tuple(logs))

    async def _copy_files(self) -> None:
        permits = asyncio.Semaphore(self._concurrency)

        async def copy(ours: ObjectMeta, theirs: ObjectMeta | None) -> None:
            try:
                await self._copy_file(ours, theirs)
            finally:
                permits.release()

        pairs = side_by_side(self._source.list_objects(self._prefix), self._target.list_objects(self._prefix))
        try:
            async with asyncio.TaskGroup() as group:
                async for ours, theirs in pairs:
                    if ours is None or table_of(ours.key) is not None:
                        self._note(ours, theirs)
                        continue
                    await permits.acquire()
                    group.create_task(copy(ours, theirs))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None

    def _note(self, ours: ObjectMeta | None, theirs: ObjectMeta | None) -> None:
        """Remember what the target holds beside the files of the source."""
        if theirs is None:
            return
        if ours is None:
            self._extra.append(theirs.key)
        if table_of(theirs.key) is not None:
            self._held_log[theirs.key] = theirs

    async def _copy_file(self, ours: ObjectMeta, theirs: ObjectMeta | None) -> None:
        try:
            if theirs is not None and await self._copier.are_same(ours, theirs):
                self._skip(ours)
            elif ours.size > _LARGE_BYTES:
                async with self._large:
                    await self._copy(ours)
            else:
                await self._copy(ours)
        except _HOPELESS:
            raise
        except StorageError as error:
            self._failed.append(CopyFailure(ours.key, error))

    async def _copy(self, ours: ObjectMeta, mode: str = "overwrite", if_match: str | None = None) -> None:
        meta = await self._copier.copy(
            ours.key, mode=CREATE if mode == "create" else OVERWRITE, if_match=if_match, passed=self._pass
        )
        self._copied += 1
        self._bytes += meta.size
        if meta.size == 0:
            self._pass(0)

    def _skip(self, ours: ObjectMeta) -> None:
        self._skipped += 1
        self._pass(ours.size)

    def _pass(self, count: int) -> None:
        self._done += count
        if self._progress is not None:
            self._progress(self._done, max(self._total, self._done))

    async def _copy_log(self, table: str, entries: Sequence[ObjectMeta]) -> None:
        broken = sum(1 for failure in self._failed if failure.key.startswith(table))
        if broken:
            message = f"the log of table {table!r} was not copied, as {broken} of its files were not"
            self._failed.append(CopyFailure(f"{table}{_LOG}", StorageError(message, key=f"{table}{_LOG}")))
            return
        for meta in sorted(entries, key=_log_order):
            try:
                await self._copy_entry(meta)
            except _HOPELESS:
                raise
            except StorageError as error:
                self._failed.append(CopyFailure(meta.key, error))
                return  # a later entry would leave a gap

    async def _copy_entry(self, meta: ObjectMeta) -> None:
        name = meta.key.rpartition("/")[2]
        theirs = self._held_log.get(meta.key)
        if theirs is not None and await self._copier.are_same(meta, theirs):
            self._skip(meta)
        elif name == "_last_checkpoint":
            try:
                await self._copy(meta, if_match=meta.version)
            except PreconditionFailedError:  # it names a checkpoint that came after this copy began
                self._skip(meta)
        elif self._overwrite_log or not _COMMIT.fullmatch(name):
            await self._copy(meta)
        elif theirs is not None:
            raise _other_table(meta)
        else:
            await self._create(meta)

    async def _create(self, meta: ObjectMeta) -> None:
        try:
            await self._copy(meta, "create" if self._target.capabilities.conditional_create else "overwrite")
        except AlreadyExistsError:
            if not await self._copier.are_same(meta, await head(self._target, meta.key)):
                raise _other_table(meta) from None
            self._skip(meta)

    async def _delete_extra(self) -> int:
        async def is_extra(key: str) -> bool:
            return not await exists(self._source, key)

        # Logs go first and from their ends, so that no entry names a file that is gone.
        keys = sorted(self._extra, reverse=True)
        still = await gather([partial(is_extra, key) for key in keys], limit=self._concurrency)
        gone = [key for key, extra in zip(keys, still, strict=True) if extra]
        entries = [key for key in gone if table_of(key) is not None]
        for key in entries:
            await self._target.delete([key])
        files = [key for key in gone if table_of(key) is None]
        for at in range(0, len(files), _DELETE_BATCH):
            await self._target.delete(files[at : at + _DELETE_BATCH])
        return len(gone)


async def side_by_side(
    ours: AsyncIterator[ObjectMeta], theirs: AsyncIterator[ObjectMeta]
) -> AsyncIterator[tuple[ObjectMeta | None, ObjectMeta | None]]:
    """Yield the objects of two listings in order of key, those of one key together."""
    mine, other = await anext(ours, None), await anext(theirs, None)
    while mine is not None or other is not None:
        if other is None or (mine is not None and mine.key.encode() < other.key.encode()):
            yield mine, None
            mine = await anext(ours, None)
        elif mine is None or other.key.encode() < mine.key.encode():
            yield None, other
            other = await anext(theirs, None)
        else:
            yield mine, other
            mine, other = await anext(ours, None), await anext(theirs, None)


def table_of(key: str) -> str | None:
    """Return the root of the table (empty, or ending with `/`) whose log the key belongs to; None for other keys."""
    if key.startswith(_LOG):
        return ""
    root, found, _ = key.partition(f"/{_LOG}")
    return f"{root}/" if found else None


def _log_order(meta: ObjectMeta) -> tuple[int, int, bool, str]:
    """Order a log: what entries point to, then commits by version, each before its checkpoint, then the hint."""
    name = meta.key.partition(_LOG)[2] if meta.key.startswith(_LOG) else meta.key.partition(f"/{_LOG}")[2]
    if name == "_last_checkpoint":
        return 2, 0, False, name
    version = name[:20]
    if not version.isdigit():
        return 0, 0, False, name
    return 1, int(version), not _COMMIT.fullmatch(name), name


def _other_table(meta: ObjectMeta) -> ConflictError:
    return ConflictError(
        f"{meta.key!r} at the target is another commit: it was left as it is, and so was the rest of its log. Copy to "
        "an empty place, or delete the table there first",
        key=meta.key,
    )
