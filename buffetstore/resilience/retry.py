"""When to try again, how long to wait before it, and when to give up."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from tenacity import AsyncRetrying

from buffetstore.errors import ConfigurationError, StorageError
from buffetstore.monitoring.events import Operation, error_code, no_hook

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tenacity import RetryCallState

    from buffetstore.monitoring.events import Hook

T = TypeVar("T")


def is_transient(error: BaseException) -> bool:
    """Return whether the same call may succeed later."""
    return isinstance(error, StorageError) and error.transient


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential back-off with full jitter, for calls that may be repeated.

    The n-th wait is drawn evenly from [0, min(max_seconds, base_seconds * 2**(n-1))], and is never shorter than the
    `retry_after` that the service asked for. (M. Brooker, "Exponential Backoff And Jitter", AWS, 2015.)

    Parameters
    ----------
    attempts:
        Calls in all, the first included; 1 never retries.
    base_seconds, max_seconds:
        The first and the largest upper bound of a wait.
    deadline_seconds:
        No attempt begins later than this after the first one; an attempt that has begun is not cut short.
    sleep, random, clock:
        For tests: how to wait, evenly drawn numbers in [0, 1), and monotonic seconds.

    Raises
    ------
    ConfigurationError
        A number is out of its range.
    """

    attempts: int = 3
    base_seconds: float = 0.1
    max_seconds: float = 10.0
    deadline_seconds: float = 60.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    random: Callable[[], float] = random.random
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ConfigurationError(f"attempts is {self.attempts}: at least 1 is needed")
        for name in ("base_seconds", "max_seconds", "deadline_seconds"):
            if not getattr(self, name) >= 0:
                raise ConfigurationError(f"{name} is {getattr(self, name)}: it cannot be negative")

    async def call(
        self,
        function: Callable[[], Awaitable[T]],
        *,
        hook: Hook = no_hook,
        subject: str = "",
        retry_if: Callable[[BaseException], bool] = is_transient,
    ) -> T:
        """Call `function` until it returns, fails for good, or the policy gives up.

        Each retry tells `hook` an `objects.retry` whose seconds are the wait. The last error is raised as it is, with
        the number of attempts added to its message.
        """
        started = self.clock()
        try:
            return await function()  # nearly every call ends here, so the machinery of retries is not built before
        except StorageError as error:
            if self.attempts == 1 or not retry_if(error):
                raise
            first = error
        return await self._again(first, function, started, hook, subject, retry_if)

    async def resume(
        self,
        error: StorageError,
        function: Callable[[], Awaitable[T]],
        *,
        hook: Hook = no_hook,
        subject: str = "",
        retry_if: Callable[[BaseException], bool] = is_transient,
    ) -> T:
        """Go on after `error`, which counts as the first attempt: wait, then call `function`, as `call` does."""
        return await self._again(error, function, self.clock(), hook, subject, retry_if)

    async def _again(
        self,
        first: StorageError,
        function: Callable[[], Awaitable[T]],
        started: float,
        hook: Hook,
        subject: str,
        retry_if: Callable[[BaseException], bool],
    ) -> T:
        calls = 0

        async def attempt() -> T:
            nonlocal calls
            calls += 1
            if calls == 1:
                raise first
            return await function()

        def note(state: RetryCallState) -> None:
            hook(Operation("objects.retry", state.upcoming_sleep, subject, error_code(_failure(state))))

        retrying = AsyncRetrying(
            sleep=self.sleep,
            stop=lambda state: self._gives_up(state, started),
            wait=self._wait,
            retry=lambda state: state.outcome is not None and state.outcome.failed and retry_if(_failure(state)),
            before_sleep=note,
            reraise=True,
        )
        try:
            return await retrying(attempt)
        except StorageError as error:
            if retry_if(error):
                error.message = f"{error.message} (after {calls} attempt{'s' if calls > 1 else ''})"
                error.args = (error.message, *error.args[1:])
            raise

    def _gives_up(self, state: RetryCallState, started: float) -> bool:
        late = self.clock() - started + state.upcoming_sleep > self.deadline_seconds
        return late or state.attempt_number >= self.attempts

    def _wait(self, state: RetryCallState) -> float:
        bound = min(self.max_seconds, self.base_seconds * 2.0 ** min(state.attempt_number - 1, 64))
        return max(self.random() * bound, getattr(_failure(state), "retry_after", None) or 0.0)


def _failure(state: RetryCallState) -> BaseException:
    error = state.outcome.exception() if state.outcome is not None else None
    assert error is not None, "asked only after a failed attempt"
    return error
