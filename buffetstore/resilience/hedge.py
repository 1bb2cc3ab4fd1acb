"""When a second request is worth its price: after the time that nearly every request takes."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from buffetstore.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

_REFRESH = 16


@dataclass(frozen=True, slots=True)
class HedgePolicy:
    """When a read is asked for a second time.

    Parameters
    ----------
    percentile:
        The second request goes out when the first has taken longer than this share of the latest ones.
    window:
        How many of the latest answers of each verb are looked at.
    minimum_samples:
        Without so many answers nothing is hedged.
    minimum_seconds:
        Nothing is hedged sooner: on a service that answers faster it is not worth its price.
    budget:
        Second requests as a share of the first ones.
    clock:
        For tests: monotonic seconds.

    Raises
    ------
    ConfigurationError
        A number is out of its range.

    Notes
    -----
    J. Dean and L. Barroso, "The Tail at Scale", CACM 56 (2013).
    """

    percentile: float = 0.95
    window: int = 256
    minimum_samples: int = 32
    minimum_seconds: float = 0.005
    budget: float = 0.05
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        for name in ("percentile", "budget"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigurationError(f"{name} is {getattr(self, name)}: it must be above 0 and at most 1")
        if not 1 <= self.minimum_samples <= self.window:
            raise ConfigurationError(
                f"minimum_samples is {self.minimum_samples}: it must be from 1 to the window, {self.window}"
            )
        if not self.minimum_seconds >= 0:
            raise ConfigurationError(f"minimum_seconds is {self.minimum_seconds}: it cannot be negative")


class HedgeTracker:
    """Knows how long answers take, and what may still be spent on second requests."""

    def __init__(self, policy: HedgePolicy) -> None:
        self._policy = policy
        self._verbs: dict[str, _Latencies] = {}
        self._tokens = 1.0

    def observe(self, verb: str, seconds: float) -> None:
        """Take note of how long one answer took; each allows a share of a second request."""
        found = self._verbs.get(verb)
        if found is None:
            found = self._verbs[verb] = _Latencies(self._policy)
        found.add(seconds)
        # No more than for one window is saved, so that a long quiet time does not pay for doubling a storm.
        most = max(1.0, self._policy.budget * self._policy.window)
        self._tokens = min(most, self._tokens + self._policy.budget)

    def delay(self, verb: str) -> float | None:
        """Return after how many seconds a second request is worth it; None while that is not known."""
        found = self._verbs.get(verb)
        if found is None or found.bound is None:
            return None
        return max(self._policy.minimum_seconds, found.bound)

    def spend(self) -> bool:
        """Take the price of a second request; return whether it was there."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class _Latencies:
    """The latest latencies of one verb; their percentile is found anew now and then, not for each call."""

    def __init__(self, policy: HedgePolicy) -> None:
        self._policy = policy
        self._latest: deque[float] = deque(maxlen=policy.window)
        self._count = 0
        self.bound: float | None = None

    def add(self, seconds: float) -> None:
        self._latest.append(seconds)
        self._count += 1
        least = self._policy.minimum_samples
        if self._count >= least and (self._count - least) % _REFRESH == 0:
            ordered = sorted(self._latest)
            self.bound = ordered[min(len(ordered) - 1, int(self._policy.percentile * len(ordered)))]
