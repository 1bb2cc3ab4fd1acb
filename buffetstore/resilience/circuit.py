"""A circuit breaker: a service that mostly fails is left alone for a while."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from buffetstore.errors import CircuitOpenError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

State = Literal["closed", "open", "half_open"]
Ticket = tuple[int, float]  # the era in which a call was let in, and when
_SLICES = 10


@dataclass(frozen=True, slots=True)
class CircuitPolicy:
    """When a circuit opens, and how it closes again.

    Parameters
    ----------
    failure_ratio:
        It opens when this share of the calls in the window has failed, of at least `minimum_calls`.
    minimum_calls:
        Fewer calls prove nothing.
    window_seconds:
        How far back calls are counted, to a tenth of it.
    open_seconds:
        How long nobody is let through; drawn evenly from half to one and a half times it, so that many clients do not
        come back together.
    probes:
        Calls that are let through then, at most so many at once. When as many have succeeded it closes; the first
        that fails opens it again.
    silent_seconds:
        A call that is cancelled after so long without an answer counts as failed, as whoever cut it had waited enough;
        one that is cancelled sooner counts for nothing.
    random, clock:
        For tests: evenly drawn numbers in [0, 1), and monotonic seconds.

    Raises
    ------
    ConfigurationError
        A number is out of its range.

    Notes
    -----
    M. Nygard, "Release It!" (2007), chapter 5.2.
    """

    failure_ratio: float = 0.5
    minimum_calls: int = 20
    window_seconds: float = 30.0
    open_seconds: float = 10.0
    probes: int = 1
    silent_seconds: float = 5.0
    random: Callable[[], float] = random.random
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        if not 0 < self.failure_ratio <= 1:
            raise ConfigurationError(f"failure_ratio is {self.failure_ratio}: it must be above 0 and at most 1")
        for name in ("minimum_calls", "probes"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} is {getattr(self, name)}: at least 1 is needed")
        for name in ("window_seconds", "open_seconds", "silent_seconds"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"{name} is {getattr(self, name)}: it must be positive")


class CircuitBreaker:
    """Counts calls that succeed and fail, and refuses further ones while too many fail.

    Each call is let in by `enter`, and its ticket then given to one of `succeeded`, `failed`, `cut` and `left`. A
    ticket from before the last change of state counts no more: what began before an outage says nothing about its end.

    Parameters
    ----------
    policy:
        When to open and close.
    changed:
        Told of each change: the state that was, the state that is, and the seconds that the former lasted.
    """

    def __init__(
        self, policy: CircuitPolicy, changed: Callable[[State, State, float], None] = lambda _was, _is, _seconds: None
    ) -> None:
        self._policy = policy
        self._changed = changed
        self._state: State = "closed"
        self._since = policy.clock()
        self._reopens = self._since
        self._era = 0
        self._probing = 0
        self._proved = 0
        self._place = 0
        self._forget()

    @property
    def state(self) -> State:
        """Whether calls pass (`closed`), are refused (`open`), or a few are tried (`half_open`)."""
        if self._state == "open" and self._policy.clock() >= self._reopens:
            return "half_open"
        return self._state

    def enter(self) -> Ticket:
        """Let a call in and return its ticket.

        Raises
        ------
        CircuitOpenError
            It may not pass; `retry_after` says when to come again.
        """
        now = self._policy.clock()
        if self._state == "closed":
            return self._era, now
        if self._state == "open":
            if now < self._reopens:
                raise self._refusal(self._reopens - now)
            self._turn("half_open")
        if self._probing >= self._policy.probes:
            raise self._refusal(self._policy.open_seconds)
        self._probing += 1
        return self._era, now

    def succeeded(self, ticket: Ticket) -> None:
        """Count a call that was answered."""
        if ticket[0] != self._era:
            return
        if self._state == "closed":
            self._count(0)
            return
        self._probing -= 1
        self._proved += 1
        if self._proved >= self._policy.probes:
            self._turn("closed")

    def failed(self, ticket: Ticket) -> None:
        """Count a call that was not answered."""
        if ticket[0] != self._era:
            return
        if self._state == "half_open":
            self._open()
            return
        self._count(1)
        policy = self._policy
        if self._calls >= policy.minimum_calls and self._failures >= policy.failure_ratio * self._calls:
            self._open()

    def left(self, ticket: Ticket) -> None:
        """Forget a call that never reached the service."""
        if ticket[0] == self._era and self._state == "half_open":
            self._probing -= 1

    def cut(self, ticket: Ticket) -> None:
        """Count a call that was cancelled as failed if it had been silent for long, else forget it."""
        if self._policy.clock() - ticket[1] >= self._policy.silent_seconds:
            self.failed(ticket)
        else:
            self.left(ticket)

    def note(self, *, is_failure: bool) -> None:
        """Count what was not asked for by `enter`: a part of a call that was let in long ago."""
        if self._state == "closed":
            (self.failed if is_failure else self.succeeded)((self._era, 0.0))

    def _count(self, failures: int) -> None:
        policy = self._policy
        place = int(policy.clock() * _SLICES / policy.window_seconds)
        if place != self._place:
            self._advance(place)
        at = place % _SLICES
        self._called[at] += 1
        self._calls += 1
        if failures:
            self._missed[at] += 1
            self._failures += 1

    def _advance(self, place: int) -> None:
        """Drop what has gone out of the window."""
        for gone in range(self._place + 1, min(place, self._place + _SLICES) + 1):
            at = gone % _SLICES
            self._calls -= self._called[at]
            self._failures -= self._missed[at]
            self._called[at] = self._missed[at] = 0
        self._place = place

    def _forget(self) -> None:
        self._called, self._missed = [0] * _SLICES, [0] * _SLICES
        self._calls = self._failures = 0
        self._place = int(self._policy.clock() * _SLICES / self._policy.window_seconds)

    def _open(self) -> None:
        policy = self._policy
        self._reopens = policy.clock() + policy.open_seconds * (0.5 + policy.random())
        self._turn("open")

    def _turn(self, state: State) -> None:
        was, now = self._state, self._policy.clock()
        self._state = state
        lasted, self._since = now - self._since, now
        self._era += 1
        self._probing = self._proved = 0
        if state == "closed":
            self._forget()
        self._changed(was, state, lasted)

    def _refusal(self, seconds: float) -> CircuitOpenError:
        message = f"the circuit is open, as the service failed too often: come again in {seconds:.1f} s"
        return CircuitOpenError(message, retry_after=seconds)
