from __future__ import annotations

import asyncio

import pytest

from buffetstore.errors import NotFoundError, UnavailableError
from buffetstore.resilience.adaptive import AdaptivePermits


async def rounds(permits: AdaptivePermits, calls: int, *, failing: frozenset[int] = frozenset()) -> int:
    """Make so many calls at once, some of which fail, and return how many were on their way together at most."""
    running = most = 0

    async def call(number: int) -> None:
        nonlocal running, most
        async with permits.call():
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1
            if number in failing:
                raise UnavailableError("overloaded")

    await asyncio.gather(*(call(number) for number in range(calls)), return_exceptions=True)
    assert (permits.in_use, permits.waiting) == (0, 0)
    return most


async def test_there_are_more_where_they_are_waited_for() -> None:
    permits = AdaptivePermits(4, least=2, most=16)
    assert await rounds(permits, 4) == 4
    assert permits.calls == 4, "nobody waited"
    assert await rounds(permits, 100) == 16
    assert permits.calls == 16


async def test_a_failure_halves_them_once_for_those_on_their_way() -> None:
    permits = AdaptivePermits(16, least=2, most=64)
    await rounds(permits, 16, failing=frozenset(range(16)))
    assert permits.calls == 8
    for left in (4, 2, 2):
        await rounds(permits, 1, failing=frozenset([0]))
        assert permits.calls == left


async def test_after_a_failure_they_come_back_slowly() -> None:
    permits = AdaptivePermits(8, least=2, most=64)
    await rounds(permits, 1, failing=frozenset([0]))
    assert permits.calls == 4
    await rounds(permits, 30)
    assert 4 < permits.calls < 12


async def test_other_errors_and_cancellation_say_nothing_of_the_service() -> None:
    permits = AdaptivePermits(2, least=1, most=4)
    with pytest.raises(NotFoundError):
        async with permits.call():
            raise NotFoundError("gone")

    async def hold() -> None:
        async with permits.call():
            await asyncio.Event().wait()

    held = [asyncio.create_task(hold()) for _ in range(3)]
    await asyncio.sleep(0)
    assert (permits.in_use, permits.waiting) == (2, 1)
    for task in held:
        task.cancel()
    await asyncio.gather(*held, return_exceptions=True)
    assert (permits.in_use, permits.waiting, permits.calls) == (0, 0, 2)
