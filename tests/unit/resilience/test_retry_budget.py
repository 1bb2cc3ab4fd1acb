from __future__ import annotations

import asyncio

import pytest

from buffetstore.errors import CircuitOpenError, ConfigurationError, DeadlineExceededError, UnavailableError
from buffetstore.resilience.budget import RetryBudget
from buffetstore.resilience.retry import Retries, RetryPolicy


async def no_sleep(_seconds: float) -> None:
    """Wait not at all."""


class Service:
    """Fails by a rule; counts what it was asked."""

    def __init__(self, fails) -> None:
        self.fails = fails
        self.requests = 0

    async def __call__(self) -> str:
        self.requests += 1
        if self.fails(self.requests):
            raise UnavailableError("503", key="k")
        return "answer"


def retries(**options) -> Retries:
    return Retries(RetryPolicy(sleep=no_sleep, **options))


async def ask(retries: Retries, service: Service, times: int) -> int:
    answered = 0
    for _ in range(times):
        try:
            await retries.call(service, "k")
        except UnavailableError:
            continue
        answered += 1
    return answered


async def test_an_outage_is_not_amplified():
    service = Service(lambda _request: True)
    assert await ask(retries(attempts=5, budget=20), service, 1000) == 0
    assert service.requests == 1000 + 20


async def test_failures_now_and_then_are_always_retried():
    service = Service(lambda request: request % 6 == 0)
    one = retries(attempts=3, budget=10)
    assert await ask(one, service, 1000) == 1000
    assert one.budget.tokens == 10


async def test_success_fills_the_budget_again():
    state = {"down": True}
    service = Service(lambda _request: state["down"])
    one = retries(attempts=2, budget=3, budget_refill=0.5)
    await ask(one, service, 10)
    assert one.budget.tokens == 0
    state["down"] = False
    assert await ask(one, service, 4) == 4
    assert one.budget.tokens == 2


async def test_an_empty_budget_is_named():
    one = retries(attempts=3, budget=1)
    with pytest.raises(UnavailableError, match=r"^503 \(after 2 attempts, the retry budget is used up\)$"):
        await one.call(Service(lambda _request: True), "k")
    with pytest.raises(UnavailableError, match=r"^503 \(after 1 attempt, the retry budget is used up\)$"):
        await one.call(Service(lambda _request: True), "k")


async def test_no_bound_is_no_bound():
    budget = RetryBudget(None, 0.1)
    assert all(budget.spend() for _ in range(1000))
    budget.succeeded()
    assert budget.tokens is None


async def test_a_policy_alone_has_no_budget():
    service = Service(lambda request: request < 200)
    assert await RetryPolicy(attempts=300, budget=1, sleep=no_sleep).call(service) == "answer"


async def test_an_open_circuit_is_not_asked_again():
    async def refuse() -> None:
        raise CircuitOpenError("open", retry_after=5)

    one = retries(budget=10)
    with pytest.raises(CircuitOpenError, match=r"^open$"):
        await one.call(refuse, "k")
    assert one.budget.tokens == 10


class TestCallSeconds:
    async def test_a_running_attempt_is_cut(self):
        cancelled = []

        async def hang() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(True)
                raise

        with pytest.raises(DeadlineExceededError, match=r"'k' was cut after 1e-06 s \(call_seconds\)") as failure:
            await retries(call_seconds=1e-6).call(hang, "k")
        assert (failure.value.key, failure.value.ambiguous, cancelled) == ("k", False, [True])
        with pytest.raises(DeadlineExceededError) as failure:
            await retries(call_seconds=1e-6).call(hang, "k", writes=True)
        assert failure.value.ambiguous

    async def test_a_time_out_of_the_work_itself_stays_what_it_is(self):
        error = DeadlineExceededError("the connection was silent")

        async def silent() -> None:
            raise error

        with pytest.raises(DeadlineExceededError) as failure:
            await retries(call_seconds=60, attempts=1).call(silent, "k")
        assert failure.value is error

    async def test_no_wait_is_begun_that_would_be_cut(self):
        slept = []

        async def sleep(seconds: float) -> None:
            slept.append(seconds)

        policy = RetryPolicy(
            call_seconds=5, base_seconds=4, attempts=9, sleep=sleep, random=lambda: 0.99, clock=lambda: 0
        )
        with pytest.raises(UnavailableError, match="after 2 attempts"):
            await Retries(policy).call(Service(lambda _request: True), "k")
        assert slept == [3.96]

    async def test_the_callers_own_cancellation_passes(self):
        task = asyncio.create_task(retries(call_seconds=60).call(asyncio.Event().wait, "k"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    "options", [{"call_seconds": 0}, {"budget": 0}, {"budget": -1}, {"settle_seconds": -1}, {"budget_refill": -0.1}]
)
def test_senseless_numbers_are_refused(options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        RetryPolicy(**options)
