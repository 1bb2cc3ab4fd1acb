"""Permits for calls in flight and the bytes that they hold: first come, first served."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from buffetstore.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class ConcurrencyLimit:
    """How much may be in flight.

    Parameters
    ----------
    calls:
        At once.
    bytes_in_flight:
        Given to writes that have not been answered; one larger than that is let through alone. None is no bound.

    Raises
    ------
    ConfigurationError
        A number is out of its range.
    """

    calls: int = 64
    bytes_in_flight: int | None = None

    def __post_init__(self) -> None:
        if self.calls < 1:
            raise ConfigurationError(f"calls is {self.calls}: at least 1 is needed")
        if self.bytes_in_flight is not None and self.bytes_in_flight < 1:
            raise ConfigurationError(f"bytes_in_flight is {self.bytes_in_flight}: it must be positive, or None")


class Permits:
    """Hands out permits for one call each, and the bytes that it holds.

    Stores of one event loop may share one, so that what is in flight is bounded for all of them together.
    """

    def __init__(self, limit: ConcurrencyLimit) -> None:
        self._limit = limit
        self._waiters: deque[tuple[asyncio.Future[None], int]] = deque()
        self.in_use = 0
        self.bytes_in_flight = 0

    @property
    def waiting(self) -> int:
        """Callers that wait for a permit."""
        return len(self._waiters)

    def take_now(self, size: int = 0) -> bool:
        """Take a permit if one is free and nobody waits; return whether it was had."""
        if self._waiters or not self._fits(size):
            return False
        self.in_use += 1
        self.bytes_in_flight += size
        return True

    async def take(self, size: int = 0) -> None:
        """Wait for a permit for a call that holds `size` bytes."""
        if self.take_now(size):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = (turn, size)
        self._waiters.append(waiter)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it was our turn already
                self.give_back(size)
            elif waiter in self._waiters:
                self._waiters.remove(waiter)
                self._let_in()  # those behind may fit where this one did not
            raise

    def give_back(self, size: int = 0) -> None:
        """Return a permit that was taken with this `size`."""
        self.in_use -= 1
        self.bytes_in_flight -= size
        if self._waiters:
            self._let_in()

    def _fits(self, size: int) -> bool:
        if self.in_use >= self._limit.calls:
            return False
        most = self._limit.bytes_in_flight
        return most is None or not self.bytes_in_flight or not size or self.bytes_in_flight + size <= most

    def _let_in(self) -> None:
        while self._waiters and (self._waiters[0][0].cancelled() or self._fits(self._waiters[0][1])):
            turn, size = self._waiters.popleft()
            if turn.cancelled():  # its task has not run yet
                continue
            self.in_use += 1
            self.bytes_in_flight += size
            turn.set_result(None)
