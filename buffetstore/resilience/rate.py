"""A rate that is kept: so much per second, and a burst."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from buffetstore.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How much a store may be asked for.

    Parameters
    ----------
    requests_per_second, bytes_per_second:
        On average, bytes in both directions together; None is no bound.
    burst_seconds:
        What was not used of so many seconds may be used at once.
    sleep, clock:
        For tests: how to wait, and monotonic seconds.

    Raises
    ------
    ConfigurationError
        A number is out of its range.
    """

    requests_per_second: float | None = None
    bytes_per_second: float | None = None
    burst_seconds: float = 1.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        for name in ("requests_per_second", "bytes_per_second"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ConfigurationError(f"{name} is {getattr(self, name)}: it must be positive, or None for no bound")
        if not self.burst_seconds >= 0:
            raise ConfigurationError(f"burst_seconds is {self.burst_seconds}: it cannot be negative")


class TokenBucket:
    """Tokens that come at a steady rate, up to a burst, and may be owed.

    Whoever takes tokens has them at once and waits until they have come. As everybody owes only what was taken up to
    then, waits end in the order in which tokens were taken: a large take holds up the later ones, never the earlier.

    Parameters
    ----------
    rate:
        Tokens per second; None is no bound.
    burst:
        Tokens at most, and at first.
    clock:
        Monotonic seconds.
    """

    __slots__ = ("_burst", "_clock", "_rate", "_stamp", "_tokens")

    def __init__(self, rate: float | None, burst: float, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._clock = clock
        self._stamp = clock()

    def take(self, amount: float) -> float:
        """Take `amount`; return the seconds to wait before it may be used."""
        if self._rate is None:
            return 0.0
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._stamp) * self._rate) - amount
        self._stamp = now
        return 0.0 if self._tokens >= 0 else -self._tokens / self._rate

    def give_back(self, amount: float) -> None:
        """Return what was taken and not used, by a caller that was cancelled while it waited."""
        self._tokens = min(self._burst, self._tokens + amount)
