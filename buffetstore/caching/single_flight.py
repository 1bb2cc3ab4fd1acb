"""One fetch for many who ask for the same thing at the same time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from buffetstore.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable

V = TypeVar("V")


@dataclass(slots=True)
class _Flight(Generic[V]):
    task: asyncio.Task[V]
    waiters: int = 0


class SingleFlight(Generic[V]):
    """Fetches each key once at a time, whoever asks.

    The answer, or the error, reaches everybody who waits. Somebody who is cancelled leaves the others waiting; when
    the last one goes, the fetch is cancelled and awaited to its end, so that nothing runs on unseen. Nothing is
    remembered after the fetch: that is a cache's work.
    """

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight[V]] = {}

    async def run(self, key: Hashable, fetch: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """Return what `fetch` returns, or what the fetch of `key` that is on its way returns.

        Raises
        ------
        UnavailableError
            The fetch was cancelled from inside, though its waiters were not.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.create_task(fetch()))
            flight.task.add_done_callback(lambda _done: self._landed(key, flight))
        flight.waiters += 1
        try:
            # Not `await task`: that would pass a waiter's cancellation on to the fetch.
            await asyncio.wait([flight.task])
        finally:
            flight.waiters -= 1
            if flight.waiters == 0 and not flight.task.done():
                await self._abandon(key, flight)
        if flight.task.cancelled():
            raise UnavailableError(f"the fetch of {key!r} was cancelled: try again", key=str(key))
        return flight.task.result()

    async def aclose(self) -> None:
        """Cancel what is being fetched, and await its end. May be called twice."""
        for key, flight in list(self._flights.items()):
            await self._abandon(key, flight)

    def _landed(self, key: Hashable, flight: _Flight[V]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        if not flight.task.cancelled():
            flight.task.exception()  # seen, even when the last waiter has just been cancelled

    async def _abandon(self, key: Hashable, flight: _Flight[V]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]  # whoever asks from now on gets a fetch of their own
        flight.task.cancel()
        cancelled: asyncio.CancelledError | None = None
        while not flight.task.done():
            try:
                await asyncio.wait([flight.task])
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    def __len__(self) -> int:
        return len(self._flights)
