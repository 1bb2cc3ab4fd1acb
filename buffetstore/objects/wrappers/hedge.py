"""Asks a second time for what is slow to come."""

# ruff: noqa: A002, D102 - names and docstrings are those of the contract

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

from buffetstore.monitoring.events import Hook, Operation, no_hook
from buffetstore.objects.wrappers.base import StoreWrapper
from buffetstore.resilience.concurrency import unhurried
from buffetstore.resilience.hedge import HedgePolicy, HedgeTracker
from buffetstore.resilience.retry import is_transient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from typing import Any, TypeVar

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
        tasks = [asyncio.ensure_future(call())]
        winner: asyncio.Task[T] | None = None
        try:
            await asyncio.wait(tasks, timeout=delay)
            if not tasks[0].done() and self._tracker.spend():
                tasks.append(asyncio.ensure_future(call()))
            winner = await _winner(tasks)
            if len(tasks) > 1:
                await unhurried(_discarded([task for task in tasks if task is not winner], close))
        except BaseException:  # cancelled: the winner, if there is one already, has nobody left to close it
            await unhurried(_discarded(tasks, close))
            raise
        finally:
            if len(tasks) > 1:
                counts = {"won": int(winner is tasks[1])}
                self._hook(Operation("objects.hedge", self._clock() - started, key, None, counts))
        return winner.result()


async def _winner(tasks: Sequence[asyncio.Task[T]]) -> asyncio.Task[T]:
    """Return the task that is first done with a good answer, else the first that was sent."""
    pending: set[asyncio.Task[T]] = set(tasks)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task in done and not _may_be_mended(task):
                return task
    return tasks[0]


def _may_be_mended(task: asyncio.Task[T]) -> bool:
    error = None if task.cancelled() else task.exception()
    return error is not None and is_transient(error)


async def _discarded(losers: Sequence[asyncio.Task[T]], close: Callable[[T], Awaitable[None]] | None) -> None:
    for task in losers:
        task.cancel()
    for answer in await asyncio.gather(*losers, return_exceptions=True):
        if close is not None and not isinstance(answer, BaseException):
            await close(answer)
