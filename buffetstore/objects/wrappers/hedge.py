"""Asks a second time for what is slow to come."""

# ruff: noqa: A002, D102 - names and docstrings are those of the contract

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from buffetstore.errors import StorageError
from buffetstore.monitoring.events import Hook, Operation, no_hook
from buffetstore.objects.wrappers.base import StoreWrapper
from buffetstore.resilience.concurrency import unhurried
from buffetstore.resilience.hedge import HedgePolicy, HedgeTracker
from buffetstore.resilience.retry import is_transient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from typing import Any

    from buffetstore.objects.base import ByteRange, GetResult, Listing, ObjectStore

T = TypeVar("T")

DEFAULT_HEDGE = HedgePolicy()


class HedgeStore(StoreWrapper):
    """Sends a read again when it takes longer than nearly all before it did; the first good answer is taken.

    It concerns `get` until its body begins, heads, `get_ranges` and `list_prefixes`, each with latencies of its own.
    The slower request is cancelled, and closed if it answers all the same. A transient error waits for the other
    request; any other error is an answer. Writes are never sent twice from here.

    Parameters
    ----------
    inner:
        The store around.
    policy:
        After what time, and how many.
    hook:
        Told of each second request as `objects.hedge` when it is decided: the seconds are those of the call, and the
        count `won` is 1 where the second one answered first.
    """

    forwards: ClassVar[frozenset[str]] = frozenset(
        {"url", "capabilities", "put", "start_upload", "delete", "list_objects", "copy", "signed_url"}
        | {"list_versions", "get_version", "restore_version", "aclose"}
    )

    def __init__(self, inner: ObjectStore, policy: HedgePolicy = DEFAULT_HEDGE, *, hook: Hook = no_hook) -> None:
        super().__init__(inner)
        self._tracker = HedgeTracker(policy)
        self._clock = policy.clock
        self._hook = hook

    async def get(
        self, key: str, *, range: ByteRange | None = None, if_match: str | None = None, head: bool = False
    ) -> GetResult:
        def call() -> Coroutine[Any, Any, GetResult]:
            return self.inner.get(key, range=range, if_match=if_match, head=head)

        return await self._first("head" if head else "get", key, call, lambda result: result.aclose())

    async def get_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, if_match: str | None = None
    ) -> list[bytes]:
        return await self._first("get_ranges", key, lambda: self.inner.get_ranges(key, ranges, if_match=if_match))

    async def list_prefixes(self, prefix: str = "") -> Listing:
        return await self._first("list_prefixes", prefix, lambda: self.inner.list_prefixes(prefix))

    async def _first(
        self,
        verb: str,
        key: str,
        call: Callable[[], Coroutine[Any, Any, T]],
        close: Callable[[T], Awaitable[None]] | None = None,
    ) -> T:
        started = self._clock()
        delay = self._tracker.delay(verb)
        answer = await (call() if delay is None else self._raced(delay, key, call, close, started))
        self._tracker.observe(verb, self._clock() - started)
        return answer

    async def _raced(
        self,
        delay: float,
        key: str,
        call: Callable[[], Coroutine[Any, Any, T]],
        close: Callable[[T], Awaitable[None]] | None,
        started: float,
    ) -> T:
        race = _Race(call, self._tracker.spend)
        timer = asyncio.get_running_loop().call_later(delay, race.send_second)
        try:
            answer = await race.answer()
        except BaseException:
            await _discard(race.second, close)
            raise
        finally:
            timer.cancel()
            if race.second is not None:
                self._hook(Operation("objects.hedge", self._clock() - started, key, None, {"won": int(race.is_won)}))
        if not race.is_won:
            try:
                await _discard(race.second, close)
            except asyncio.CancelledError:  # the answer has nobody left who would close it
                if close is not None:
                    await close(answer)
                raise
        return answer


class _Race(Generic[T]):
    """The first request in the caller's own task, which costs next to nothing, and perhaps a second one beside it."""

    def __init__(self, call: Callable[[], Coroutine[Any, Any, T]], spend: Callable[[], bool]) -> None:
        self._call = call
        self._spend = spend
        self._cut = asyncio.timeout(None)
        self._is_running = True
        self.second: asyncio.Task[T] | None = None
        self.is_won = False

    def send_second(self) -> None:
        """Send the second request, if it can be paid for."""
        if self._is_running and self._spend():
            self.second = asyncio.get_running_loop().create_task(self._call())
            self.second.add_done_callback(self._end_first)

    async def answer(self) -> T:
        """Return the first good answer; `is_won` tells that it is the second request's."""
        failure: StorageError | None = None
        try:
            async with self._cut:
                return await self._call()
        except StorageError as error:
            if self.second is None or not is_transient(error):
                raise
            failure = error
        except TimeoutError:
            if not self._cut.expired():
                raise
        finally:
            self._is_running = False
        assert self.second is not None, "nothing else cuts the first"
        try:
            found = await self.second
        except StorageError as error:
            if failure is not None and is_transient(error):
                raise failure from None
            raise
        self.is_won = True
        return found

    def _end_first(self, second: asyncio.Task[T]) -> None:
        if self._is_running and not second.cancelled():
            error = second.exception()
            if error is None or not is_transient(error):
                self._cut.reschedule(0)


async def _discard(second: asyncio.Task[T] | None, close: Callable[[T], Awaitable[None]] | None) -> None:
    """End the second request, and close its answer if there is one."""
    if second is None:
        return
    second.cancel()
    await unhurried(_closed(second, close))


async def _closed(second: asyncio.Task[T], close: Callable[[T], Awaitable[None]] | None) -> None:
    await asyncio.wait([second])
    if close is not None and not second.cancelled() and second.exception() is None:
        await close(second.result())
