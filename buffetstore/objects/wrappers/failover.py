"""Reads that other stores answer while the first is unavailable."""

# ruff: noqa: A002, D102 - names and docstrings are those of the contract

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, TypeVar

from buffetstore.errors import (
    AccessError,
    BucketNotFoundError,
    ConfigurationError,
    ConflictError,
    NotFoundError,
    UnavailableError,
)
from buffetstore.monitoring.events import Hook, Operation, error_code, no_hook
from buffetstore.objects.base import ByteRange, GetResult, Listing, ObjectMeta, ObjectStore
from buffetstore.objects.copier import origin, origin_of, without_origin
from buffetstore.objects.helpers import head as head_of
from buffetstore.objects.wrappers.base import StoreWrapper

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from buffetstore.objects.base import Data

    Call = Callable[[ObjectStore, str | None], Awaitable["T"]]

T = TypeVar("T")

_OTHER = re.compile(r"other-(\d+):(.*)", re.DOTALL)


class FailoverStore(StoreWrapper):
    """Asks the stores in order until one is available. See `FallbackStore` and `ReplicateStore`.

    Versions are the first store's. Those of what another answers are marked (`other-1:...`), so that they never pass
    for the first one's: a write on condition of such a version fails, a read by it goes to the store that gave it.
    A read by a version of the first is answered by another only where the copy there says that it was made of it.

    Parameters
    ----------
    stores:
        The first one, and the others in the order in which they are asked.
    hook:
        Told of each answer that is another's, as `objects.fallback`: the error is the first store's, the count
        `answered_by` the number of the other.
    """

    forwards: ClassVar[frozenset[str]] = frozenset(
        {"url", "capabilities", "put", "start_upload", "delete", "copy", "signed_url"}
        | {"list_versions", "get_version", "restore_version"}
    )

    def __init__(self, *stores: ObjectStore, hook: Hook = no_hook) -> None:
        if len(stores) < 2:
            raise ConfigurationError(f"{type(self).__name__} needs another store beside the first")
        super().__init__(stores[0])
        self._stores = stores
        self._hook = hook

    async def get(
        self, key: str, *, range: ByteRange | None = None, if_match: str | None = None, head: bool = False
    ) -> GetResult:
        number, result = await self._answer(
            key, if_match, lambda store, version: store.get(key, range=range, if_match=version, head=head)
        )
        return FailoverResult(self, number, result)

    async def get_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, if_match: str | None = None
    ) -> list[bytes]:
        return (
            await self._answer(key, if_match, lambda store, version: store.get_ranges(key, ranges, if_match=version))
        )[1]

    async def list_objects(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectMeta]:
        async def begin(
            store: ObjectStore, _version: str | None
        ) -> tuple[AsyncIterator[ObjectMeta], ObjectMeta | None]:
            listing = store.list_objects(prefix, after=after)
            return listing, await anext(listing, None)

        # One store's listing is not continued by another's: the two together might be no state that ever was.
        number, (listing, first) = await self._answer(prefix, None, begin)
        if first is not None:
            yield self._shown(number, first)
        async for meta in listing:
            yield self._shown(number, meta)

    async def list_prefixes(self, prefix: str = "") -> Listing:
        number, listing = await self._answer(prefix, None, lambda store, _version: store.list_prefixes(prefix))
        return Listing([self._shown(number, meta) for meta in listing.objects], listing.prefixes)

    async def aclose(self) -> None:
        failure: BaseException | None = None
        for store in self._stores:
            try:
                await store.aclose()
            except BaseException as error:  # noqa: BLE001 - the others are closed all the same
                failure = failure or error
        if failure is not None:
            raise failure

    def store_url(self, number: int) -> str:
        """Return the URL of the store of this number; 0 is the first."""
        return self._stores[number].url

    async def rest_elsewhere(self, meta: ObjectMeta, at: int, end: int, error: UnavailableError) -> GetResult:
        """Open bytes [at, end) of the very object that the first store no longer gives; raise `error` without one."""
        started = time.perf_counter()
        for number, store in enumerate(self._stores[1:], 1):
            try:
                version = await self._copy_of(store, meta.key, meta.version)
                if version is not None:
                    result = await store.get(meta.key, range=ByteRange(at, end), if_match=version)
                    self._tell(number, meta.key, started, error)
                    return result
            except (UnavailableError, AccessError, ConflictError, NotFoundError):
                continue
        raise error

    def _trusts(self, _number: int) -> bool:
        """Return whether that store's word counts that something is not there."""
        return True

    async def _answer(self, key: str, if_match: str | None, call: Call[T]) -> tuple[int, T]:
        """Return the number of the store that answers, and what it says."""
        if if_match is not None and (marked := _OTHER.fullmatch(if_match)) is not None:
            number = int(marked[1])
            if 0 < number < len(self._stores):
                return number, await call(self._stores[number], marked[2])
        started = time.perf_counter()
        try:
            return 0, await call(self.inner, if_match)
        except UnavailableError as error:
            unavailable = error
        for number, store in enumerate(self._stores[1:], 1):
            try:
                version = None if if_match is None else await self._copy_of(store, key, if_match)
                if if_match is not None and version is None:
                    continue
                answer = await call(store, version)
            except NotFoundError as error:
                if if_match is not None or isinstance(error, BucketNotFoundError) or not self._trusts(number):
                    continue
                self._tell(number, key, started, unavailable)
                raise
            except (UnavailableError, AccessError, ConflictError):
                continue
            self._tell(number, key, started, unavailable)
            return number, answer
        raise unavailable

    async def _copy_of(self, store: ObjectStore, key: str, version: str) -> str | None:
        """Return the other store's version of the copy that was made of this version, if it holds that one."""
        meta = await head_of(store, key)
        return meta.version if origin_of(meta) == origin(self.inner.url, version) else None

    def _shown(self, number: int, meta: ObjectMeta) -> ObjectMeta:
        if number == 0:
            return meta
        return replace(without_origin(meta), version=f"other-{number}:{meta.version}")

    def _tell(self, number: int, key: str, started: float, error: UnavailableError) -> None:
        seconds = time.perf_counter() - started
        self._hook(Operation("objects.fallback", seconds, key, error_code(error), {"answered_by": number}))


class FailoverResult(GetResult):
    """A result that says in `answered_by` the URL of the store it is from.

    A body that breaks off goes on from another store where that one holds a copy of the very same version.
    """

    def __init__(self, store: FailoverStore, number: int, inner: GetResult) -> None:
        self.meta = store._shown(number, inner.meta)  # noqa: SLF001 - of this module
        self.range = inner.range
        self.answered_by = store.store_url(number)
        self._store = store
        self._is_first = number == 0
        self._current = inner
        self._at, self._end = inner.range
        self._streamed: AsyncIterator[Data] | None = None

    def __aiter__(self) -> AsyncIterator[Data]:
        if self._streamed is None:
            self._chunks = self._streamed = self._body()
        return self._streamed

    async def read(self) -> bytes:
        if self._at != self.range[0]:
            return await super().read()
        try:
            return await self._current.read()
        except UnavailableError as error:
            await self._change(error)
            return await self._current.read()
        finally:
            await self.aclose()

    async def readinto(self, buffer: memoryview) -> int:
        if self._at != self.range[0]:
            return await super().readinto(buffer)
        try:
            return await self._current.readinto(buffer)
        except UnavailableError as error:
            await self._change(error)
            return await self._current.readinto(buffer)
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        await self._current.aclose()

    async def _body(self) -> AsyncIterator[Data]:
        chunks = aiter(self._current)
        while True:
            try:
                chunk = await anext(chunks, None)
            except UnavailableError as error:
                await self._change(error)
                chunks = aiter(self._current)
                continue
            if chunk is None:
                return
            self._at += len(chunk)
            yield chunk

    async def _change(self, error: UnavailableError) -> None:
        """Go on with the rest from another store; raise `error` where that cannot be."""
        if not self._is_first or self._at >= self._end:
            raise error
        self._is_first = False
        await self._current.aclose()
        self._current = await self._store.rest_elsewhere(self.meta, self._at, self._end, error)
