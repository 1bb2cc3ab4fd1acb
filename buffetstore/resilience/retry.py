"""When to try again, how long to wait before it, and when to give up."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from tenacity import AsyncRetrying

from buffetstore.errors import ConfigurationError, DeadlineExceededError, StorageError
from buffetstore.monitoring.events import Operation, error_code, no_hook
from buffetstore.resilience.budget import RetryBudget

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
        No attempt begins later than this after the first one; an attempt that has begun is not cut short by it.
    call_seconds:
        A call may last so long with all its attempts, then the running one is cut and `DeadlineExceededError` raised;
        None does not cut, as bytes that keep moving may take their time and a store's own idle time-outs end the rest.
        Of a body it covers each opening, the first and those that resume it, never the reading; of a listing each page.
    settle_seconds:
        How long a conditional write that was cut, by `call_seconds` or by the caller's cancellation, is followed up
        until it is known what became of it; 0 lets go at once.
    budget, budget_refill:
        Retries that the calls of one store may have ahead of their successes, and what a success gives back; see
        `RetryBudget`. None is no bound. Without budget the first error is raised at once, and its message says so.
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
    call_seconds: float | None = None
    settle_seconds: float = 10.0
    budget: float | None = 100.0
    budget_refill: float = 0.1
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    random: Callable[[], float] = random.random
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ConfigurationError(f"attempts is {self.attempts}: at least 1 is needed")
        for name in ("base_seconds", "max_seconds", "deadline_seconds", "settle_seconds", "budget_refill"):
            if not getattr(self, name) >= 0:
                raise ConfigurationError(f"{name} is {getattr(self, name)}: it cannot be negative")
        for name in ("call_seconds", "budget"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ConfigurationError(f"{name} is {getattr(self, name)}: it must be positive, or None for no bound")

    async def call(
        self,
        function: Callable[[], Awaitable[T]],
        *,
        hook: Hook = no_hook,
        subject: str = "",
        retry_if: Callable[[BaseException], bool] = is_transient,
    ) -> T:
        """Call `function` until it returns, fails for good, or the policy gives up; no budget is shared.

        Each retry tells `hook` an `objects.retry` whose seconds are the wait. The last error is raised as it is, with
        the number of attempts added to its message.
        """
        return await Retries(self, hook, RetryBudget(None, 0)).call(function, subject, retry_if=retry_if)

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
        return await Retries(self, hook, RetryBudget(None, 0)).resume(error, function, subject, retry_if=retry_if)


class Retries:
    """The retries of one store: the policy, who is told of them, and the budget that the store's calls share."""

    def __init__(self, policy: RetryPolicy, hook: Hook = no_hook, budget: RetryBudget | None = None) -> None:
        self.policy = policy
        self.hook = hook
        self.budget = RetryBudget(policy.budget, policy.budget_refill) if budget is None else budget

    async def call(
        self,
        function: Callable[[], Awaitable[T]],
        subject: str,
        *,
        retry_if: Callable[[BaseException], bool] = is_transient,
        writes: bool = False,
    ) -> T:
        """Call `function` until it returns, fails for good, or the policy gives up, within `call_seconds` in all.

        Raises
        ------
        DeadlineExceededError
            The call was cut; `ambiguous` where it `writes`, as what was sent may yet be applied.
        """
        if self.policy.call_seconds is not None:
            return await self.within(self._call(function, subject, retry_if), subject, writes=writes)
        return await self._call(function, subject, retry_if)

    async def resume(
        self,
        error: StorageError,
        function: Callable[[], Awaitable[T]],
        subject: str,
        *,
        retry_if: Callable[[BaseException], bool] = is_transient,
    ) -> T:
        """Go on after `error`, which counts as the first attempt; nothing is cut, `function` sees to that itself."""
        latest = self.policy.clock() + self.policy.deadline_seconds
        return await self._again(error, function, latest, subject, retry_if)

    async def within(self, work: Awaitable[T], subject: str, *, writes: bool = False) -> T:
        """Await `work` for at most `call_seconds`, then cancel it and raise `DeadlineExceededError`."""
        seconds = self.policy.call_seconds
        if seconds is None:
            return await work
        cut = asyncio.timeout(seconds)
        try:
            async with cut:
                return await work
        except TimeoutError as error:
            if isinstance(error, StorageError) or not cut.expired():  # the work's own, that of a connection for example
                raise
            message = f"the call for {subject!r} was cut after {seconds:g} s (call_seconds): the service may be slow"
            raise DeadlineExceededError(message, key=subject, ambiguous=writes) from None

    async def _call(
        self, function: Callable[[], Awaitable[T]], subject: str, retry_if: Callable[[BaseException], bool]
    ) -> T:
        policy = self.policy
        started = policy.clock()
        try:
            answer = await function()  # nearly every call ends here: the machinery of retries is not built before
        except StorageError as error:
            if policy.attempts == 1 or not retry_if(error):
                raise
            first = error
        else:
            self.budget.succeeded()
            return answer
        may_last = (
            policy.deadline_seconds
            if policy.call_seconds is None
            else min(policy.deadline_seconds, policy.call_seconds)
        )
        return await self._again(first, function, started + may_last, subject, retry_if)

    async def _again(
        self,
        first: StorageError,
        function: Callable[[], Awaitable[T]],
        latest: float,
        subject: str,
        retry_if: Callable[[BaseException], bool],
    ) -> T:
        calls = 0
        is_broke = False

        async def attempt() -> T:
            nonlocal calls
            calls += 1
            if calls == 1:
                raise first
            return await function()

        def gives_up(state: RetryCallState) -> bool:
            nonlocal is_broke
            is_late = self.policy.clock() + state.upcoming_sleep > latest
            if is_late or state.attempt_number >= self.policy.attempts:
                return True
            is_broke = not self.budget.spend()
            return is_broke

        def note(state: RetryCallState) -> None:
            self.hook(Operation("objects.retry", state.upcoming_sleep, subject, error_code(_failure(state))))

        retrying = AsyncRetrying(
            sleep=self.policy.sleep,
            stop=gives_up,
            wait=self._wait,
            retry=lambda state: state.outcome is not None and state.outcome.failed and retry_if(_failure(state)),
            before_sleep=note,
            reraise=True,
        )
        try:
            answer: T = await retrying(attempt)
        except StorageError as error:
            if retry_if(error):
                tried = f"after {calls} attempt{'s' if calls > 1 else ''}"
                error.message = f"{error.message} ({tried}{', the retry budget is used up' if is_broke else ''})"
                error.args = (error.message, *error.args[1:])
            raise
        self.budget.succeeded(by_retry=True)
        return answer

    def _wait(self, state: RetryCallState) -> float:
        policy = self.policy
        bound = min(policy.max_seconds, policy.base_seconds * 2.0 ** min(state.attempt_number - 1, 64))
        return max(policy.random() * bound, getattr(_failure(state), "retry_after", None) or 0.0)


def _failure(state: RetryCallState) -> BaseException:
    error = state.outcome.exception() if state.outcome is not None else None
    assert error is not None, "asked only after a failed attempt"
    return error
