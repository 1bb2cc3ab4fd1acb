from __future__ import annotations

import asyncio

import pytest

from buffetstore.errors import (
    ConfigurationError,
    DeadlineExceededError,
    NotFoundError,
    RateLimitedError,
    StorageError,
    UnavailableError,
)
from buffetstore.resilience.retry import RetryPolicy


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sleeps: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds

    def policy(self, random: float = 0.999, **options) -> RetryPolicy:
        return RetryPolicy(sleep=self.sleep, clock=self, random=lambda: random, **options)


class Failing:
    """Fails with `errors` in turn, then answers."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_success_waits_not(clock):
    function = Failing()
    assert await clock.policy().call(function) == "answer"
    assert (function.calls, clock.sleeps) == (1, [])


async def test_a_transient_error_is_retried(clock):
    function = Failing(UnavailableError("503"), DeadlineExceededError("slow"))
    assert await clock.policy().call(function) == "answer"
    assert function.calls == 3


async def test_the_last_error_keeps_its_type_and_tells_the_attempts(clock):
    errors = [UnavailableError("one"), UnavailableError("two"), DeadlineExceededError("three", key="k")]
    function = Failing(*errors)
    with pytest.raises(DeadlineExceededError) as failure:
        await clock.policy().call(function)
    assert failure.value is errors[2]
    assert str(failure.value) == "three (after 3 attempts)"
    assert failure.value.args == ("three (after 3 attempts)",)
    assert failure.value.key == "k"


@pytest.mark.parametrize("error", [NotFoundError("gone"), StorageError("?"), RuntimeError("bug")])
async def test_other_errors_are_not_retried(clock, error):
    function = Failing(error)
    with pytest.raises(type(error)) as failure:
        await clock.policy().call(function)
    assert failure.value is error
    assert "attempt" not in str(error)
    assert function.calls == 1


async def test_an_error_for_good_ends_the_retries(clock):
    function = Failing(UnavailableError("503"), NotFoundError("gone"))
    with pytest.raises(NotFoundError, match=r"^gone$"):
        await clock.policy().call(function)
    assert function.calls == 2


async def test_waits_grow_with_full_jitter_up_to_the_largest(clock):
    policy = clock.policy(random=0.5, attempts=7, base_seconds=1, max_seconds=8)
    await policy.call(Failing(*[UnavailableError("x") for _ in range(6)]))
    assert clock.sleeps == [0.5, 1, 2, 4, 4, 4]


async def test_many_attempts_do_not_overflow(clock):
    policy = clock.policy(attempts=2000, base_seconds=1, max_seconds=0)
    assert await policy.call(Failing(*[UnavailableError("x") for _ in range(1999)])) == "answer"


async def test_the_service_is_given_the_time_it_asks_for(clock):
    await clock.policy().call(Failing(RateLimitedError("429", retry_after=7)))
    assert clock.sleeps == [7]


async def test_no_attempt_begins_after_the_deadline(clock):
    policy = clock.policy(attempts=100, base_seconds=4, max_seconds=4, deadline_seconds=10)
    function = Failing(*[UnavailableError("x") for _ in range(100)])
    with pytest.raises(UnavailableError, match="after 3 attempts"):
        await policy.call(function)
    assert sum(clock.sleeps) < 10


async def test_a_wait_beyond_the_deadline_is_not_begun(clock):
    with pytest.raises(RateLimitedError, match=r"after 1 attempt\)"):
        await clock.policy().call(Failing(RateLimitedError("429", retry_after=3600)))
    assert clock.sleeps == []


async def test_one_attempt_never_retries(clock):
    with pytest.raises(UnavailableError, match=r"^x$"):
        await clock.policy(attempts=1).call(Failing(UnavailableError("x")))


async def test_the_hook_is_told_of_each_retry(clock):
    told = []
    policy = clock.policy(random=0.5, base_seconds=1)
    await policy.call(Failing(UnavailableError("x"), RateLimitedError("y")), hook=told.append, subject="k")
    assert [(o.name, o.subject, o.error, o.seconds) for o in told] == [
        ("objects.retry", "k", "unavailable", 0.5),
        ("objects.retry", "k", "rate_limited", 1.0),
    ]


async def test_what_is_retried_can_be_narrowed(clock):
    def never(_error: BaseException) -> bool:
        return False

    function = Failing(UnavailableError("x"))
    with pytest.raises(UnavailableError):
        await clock.policy().call(function, retry_if=never)
    assert function.calls == 1


async def test_resume_counts_the_error_it_is_given(clock):
    function = Failing(UnavailableError("two"))
    assert await clock.policy().resume(UnavailableError("one"), function) == "answer"
    assert function.calls == 2
    function = Failing(UnavailableError("two"), UnavailableError("three"))
    with pytest.raises(UnavailableError, match=r"three .after 3 attempts"):
        await clock.policy().resume(UnavailableError("one"), function)
    with pytest.raises(UnavailableError, match=r"one .after 1 attempt"):
        await clock.policy(attempts=1).resume(UnavailableError("one"), function)


async def test_cancellation_is_not_retried():
    policy = RetryPolicy(base_seconds=1000, max_seconds=1000, random=lambda: 0.04)
    function = Failing(UnavailableError("x"))
    task = asyncio.create_task(policy.call(function))
    for _ in range(20):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert function.calls == 1


@pytest.mark.parametrize(
    "options", [{"attempts": 0}, {"base_seconds": -1}, {"max_seconds": -0.1}, {"deadline_seconds": float("nan")}]
)
def test_a_senseless_policy_is_refused(options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        RetryPolicy(**options)
