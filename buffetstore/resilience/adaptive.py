"""Permits whose number follows what the service bears."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from buffetstore.errors import UnavailableError
from buffetstore.resilience.permits import ConcurrencyLimit, Permits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FIRST: Final = 64
LEAST: Final = 8
MOST: Final = 256


class AdaptivePermits(Permits):
    """Hands out 64 permits at first, more where they are waited for, fewer where a call fails for want of service.

    Until the first such failure each call that succeeds while others wait adds one, so that the number doubles with
    each round; from then on a whole round adds one. A failure halves it, once for each round that was on its way.

    Attributes
    ----------
    calls:
        How many there are.
    """

    def __init__(self, first: int = FIRST, *, least: int = LEAST, most: int = MOST) -> None:
        super().__init__(ConcurrencyLimit(first))
        self._least = least
        self._most = most
        self._has_failed = False
        self._good = 0  # successes that count for the next permit more
        self._deaf = 0  # calls that were on their way when the number was halved

    @property
    def calls(self) -> int:
        """How many permits there are."""
        return self._limit.calls

    @asynccontextmanager
    async def call(self) -> AsyncIterator[None]:
        """Hold a permit for a call, and learn from how it ends."""
        await self.take()
        try:
            yield
        except UnavailableError:
            self._shrink()
            raise
        else:
            self._grow()
        finally:
            self._deaf = max(0, self._deaf - 1)
            self.give_back()

    def _grow(self) -> None:
        if not self.waiting or self.calls >= self._most:
            return
        self._good += 1
        if self._good >= (self.calls if self._has_failed else 1):
            self._good = 0
            self._limit = replace(self._limit, calls=self.calls + 1)

    def _shrink(self) -> None:
        self._has_failed = True
        if not self._deaf:
            self._good, self._deaf = 0, self.in_use
            self._limit = replace(self._limit, calls=max(self._least, self.calls // 2))
