"""Calls that run together, with a bound on what is in flight, and work that is carried to its end."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable

T = TypeVar("T")

BYTES_IN_FLIGHT = 256 * 1024 * 1024
REQUESTS_IN_FLIGHT = 64


async def gather(calls: Iterable[Callable[[], Awaitable[T]]], *, limit: int = REQUESTS_IN_FLIGHT) -> list[T]:
    """Return the answers in order; the first failure cancels the other calls and is raised as it is."""
    permits = asyncio.Semaphore(limit)

    async def run(call: Callable[[], Awaitable[T]]) -> T:
        async with permits:
            return await call()

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run(call)) for call in calls]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


async def ordered(
    calls: Iterable[Callable[[], Awaitable[T]]],
    sizes: Iterable[int],
    *,
    bytes_in_flight: int = BYTES_IN_FLIGHT,
    limit: int = REQUESTS_IN_FLIGHT,
) -> AsyncGenerator[T, None]:
    """Yield the answers in order while later calls run already: as many as fit, but always one.

    A call's `size` counts from its start until its answer has been taken. Closing the iterator cancels what runs. Calls
    are taken as they are begun, so that many can be made on the way.
    """

    async def pairs() -> AsyncGenerator[tuple[Callable[[], Awaitable[T]], int], None]:
        for pair in zip(calls, sizes, strict=True):
            yield pair

    async with aclosing(ordered_from(pairs(), bytes_in_flight=bytes_in_flight, limit=limit)) as answers:
        async for answer in answers:
            yield answer


async def ordered_from(
    calls: AsyncGenerator[tuple[Callable[[], Awaitable[T]], int], None],
    *,
    bytes_in_flight: int = BYTES_IN_FLIGHT,
    limit: int = REQUESTS_IN_FLIGHT,
) -> AsyncGenerator[T, None]:
    """Do `ordered` with calls that take a while to make, each with its size; closing closes `calls` too."""
    running: deque[tuple[asyncio.Task[T], int]] = deque()
    held = 0
    async with aclosing(calls):
        following = await anext(calls, None)
        try:
            while following is not None or running:
                while following is not None and (
                    not running or (held + following[1] <= bytes_in_flight and len(running) < limit)
                ):
                    call, size = following
                    running.append((asyncio.ensure_future(call()), size))
                    held += size
                    following = await anext(calls, None)
                task, size = running[0]
                answer = await task
                running.popleft()
                yield answer
                held -= size
        finally:
            for task, _ in running:
                task.cancel()
            await asyncio.gather(*(task for task, _ in running), return_exceptions=True)


async def unhurried(work: Coroutine[Any, Any, T] | asyncio.Future[T]) -> T:
    """Carry `work` to its end even when the caller is cancelled; `CancelledError` is raised after it."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # it has been looked at, so it is not reported as never retrieved
        raise
