"""Leaves a service alone that mostly fails."""

# ruff: noqa: A002, D102 - names and docstrings are those of the contract

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

from buffetstore.errors import (
    CircuitOpenError,
    InvalidInputError,
    RateLimitedError,
    StorageError,
    UnavailableError,
    UnsupportedError,
)
from buffetstore.monitoring.events import Hook, Operation, no_hook
from buffetstore.objects.base import (
    DEFAULT_ATTRIBUTES,
    OVERWRITE,
    Attributes,
    ByteRange,
    Data,
    GetResult,
    Listing,
    ObjectMeta,
    ObjectStore,
    ObjectVersion,
    PutMode,
    Upload,
)
from buffetstore.objects.wrappers.base import StoreWrapper, UploadWrapper
from buffetstore.objects.wrappers.passing import PassingResult
from buffetstore.resilience.circuit import CircuitBreaker, CircuitPolicy, State, Ticket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from typing import TypeVar

    T = TypeVar("T")

DEFAULT_CIRCUIT = CircuitPolicy()


def is_outage(error: BaseException) -> bool:
    """Return whether the service failed to answer; asking for fewer requests (429) is an answer."""
    return isinstance(error, UnavailableError) and not isinstance(error, RateLimitedError | CircuitOpenError)


class CircuitStore(StoreWrapper):
    """Raises `CircuitOpenError` at once, without a request, while the service fails too often.

    Calls count as failed by `UnavailableError` (time-outs and lost connections among it), though not by
    `RateLimitedError`; any other answer, `NotFoundError` or a conflict too, shows that the service works. A call that
    is cancelled counts as failed if it had been silent for `CircuitPolicy.silent_seconds`, as in a black hole, else for
    nothing. A get counts when it opens, and again if its body breaks.

    An upload is refused when it starts and never later, as what had been sent would be lost; its parts and its
    completion are counted all the same.

    Parameters
    ----------
    inner:
        The store around: one circuit for each.
    policy:
        When it opens, and how it closes again.
    hook:
        Told of each change as `objects.circuit`: its seconds are how long the state before lasted, its error is
        `circuit_open` where it opens, and its counts name the new state: `open`, `half_open` or `closed`.
    """

    forwards: ClassVar[frozenset[str]] = frozenset({"url", "capabilities", "signed_url", "aclose"})

    def __init__(self, inner: ObjectStore, policy: CircuitPolicy = DEFAULT_CIRCUIT, *, hook: Hook = no_hook) -> None:
        super().__init__(inner)
        self._hook = hook
        self._breaker = CircuitBreaker(policy, self._tell)

    @property
    def state(self) -> State:
        """Whether calls pass (`closed`), are refused (`open`), or a few are tried (`half_open`)."""
        return self._breaker.state

    async def put(
        self, key: str, data: Data, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> ObjectMeta:
        return await self._guarded(lambda: self.inner.put(key, data, mode=mode, attributes=attributes))

    async def start_upload(
        self, key: str, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> Upload:
        upload = await self._guarded(lambda: self.inner.start_upload(key, mode=mode, attributes=attributes))
        return _GuardedUpload(upload, self._breaker)

    async def get(
        self, key: str, *, range: ByteRange | None = None, if_match: str | None = None, head: bool = False
    ) -> GetResult:
        ticket = self._breaker.enter()
        try:
            result = await self.inner.get(key, range=range, if_match=if_match, head=head)
        except BaseException as error:
            self._judge(ticket, error)
            raise
        self._breaker.succeeded(ticket)
        return _GuardedResult(result, self._breaker)

    async def get_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, if_match: str | None = None
    ) -> list[bytes]:
        return await self._guarded(lambda: self.inner.get_ranges(key, ranges, if_match=if_match))

    async def delete(self, keys: Sequence[str]) -> None:
        await self._guarded(lambda: self.inner.delete(keys))

    def list_objects(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectMeta]:
        return self._listed(self.inner.list_objects(prefix, after=after))

    async def list_prefixes(self, prefix: str = "") -> Listing:
        return await self._guarded(lambda: self.inner.list_prefixes(prefix))

    async def copy(self, source: str, target: str, *, mode: PutMode = OVERWRITE) -> ObjectMeta:
        return await self._guarded(lambda: self.inner.copy(source, target, mode=mode))

    def list_versions(self, prefix: str = "") -> AsyncIterator[ObjectVersion]:
        return self._listed(self.inner.list_versions(prefix))

    async def get_version(self, key: str, version_id: str, *, range: ByteRange | None = None) -> GetResult:
        result = await self._guarded(lambda: self.inner.get_version(key, version_id, range=range))
        return _GuardedResult(result, self._breaker)

    async def restore_version(self, key: str, version_id: str) -> ObjectMeta:
        return await self._guarded(lambda: self.inner.restore_version(key, version_id))

    async def _guarded(self, call: Callable[[], Awaitable[T]]) -> T:
        ticket = self._breaker.enter()
        try:
            answer = await call()
        except BaseException as error:
            self._judge(ticket, error)
            raise
        self._breaker.succeeded(ticket)
        return answer

    async def _listed(self, listing: AsyncIterator[T]) -> AsyncIterator[T]:
        ticket: Ticket | None = self._breaker.enter()
        try:
            async for entry in listing:
                if ticket is not None:
                    self._breaker.succeeded(ticket)
                    ticket = None
                yield entry
        except GeneratorExit:  # the caller has seen enough
            raise
        except BaseException as error:
            if ticket is None:
                self._breaker.note(is_failure=is_outage(error))
            else:
                self._judge(ticket, error)
            raise
        if ticket is not None:
            self._breaker.succeeded(ticket)

    def _judge(self, ticket: Ticket, error: BaseException) -> None:
        if is_outage(error):
            self._breaker.failed(ticket)
        elif isinstance(error, StorageError) and not isinstance(error, InvalidInputError | UnsupportedError):
            self._breaker.succeeded(ticket)
        elif isinstance(error, asyncio.CancelledError):
            self._breaker.cut(ticket)
        else:  # refused before the service was asked
            self._breaker.left(ticket)

    def _tell(self, _was: State, now: State, seconds: float) -> None:
        error = CircuitOpenError.code if now == "open" else None
        self._hook(Operation("objects.circuit", seconds, self.url, error, {now: 1}))


class _GuardedResult(PassingResult):
    def __init__(self, inner: GetResult, breaker: CircuitBreaker) -> None:
        super().__init__(inner, inner.meta)
        self._breaker = breaker

    def _ended(self, error: BaseException | None) -> None:
        if error is not None and is_outage(error):
            self._breaker.note(is_failure=True)


class _GuardedUpload(UploadWrapper):
    def __init__(self, inner: Upload, breaker: CircuitBreaker) -> None:
        super().__init__(inner)
        self._breaker = breaker

    async def write(self, data: Data) -> None:
        try:
            await self.inner.write(data)
        except StorageError as error:
            self._breaker.note(is_failure=is_outage(error))
            raise

    async def complete(self) -> ObjectMeta:
        try:
            meta = await self.inner.complete()
        except StorageError as error:
            self._breaker.note(is_failure=is_outage(error))
            raise
        self._breaker.note(is_failure=False)
        return meta
