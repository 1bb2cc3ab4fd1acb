from __future__ import annotations

import asyncio
from contextlib import aclosing
from functools import partial
from itertools import count

import pytest

from buffetstore.resilience.concurrency import ordered


async def test_answers_come_in_order_while_later_calls_run() -> None:
    started = []

    async def call(number: int) -> int:
        started.append(number)
        await asyncio.sleep(0.001 * (3 - number % 3))
        return number

    found = [each async for each in ordered([partial(call, n) for n in range(10)], [1] * 10, limit=4)]
    assert found == started == list(range(10))


async def test_calls_are_made_as_they_are_begun() -> None:
    made = []

    async def call(number: int) -> int:
        return number

    def calls():
        for number in count():
            made.append(number)
            yield partial(call, number)

    def sizes():
        while True:
            yield 10

    async with aclosing(ordered(calls(), sizes(), bytes_in_flight=50)) as answers:
        async for answer in answers:
            if answer == 20:
                break
    assert len(made) <= 20 + 1 + 50 // 10 + 1


async def test_a_call_larger_than_the_budget_goes_alone() -> None:
    running, most = 0, 0

    async def call() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    async for _ in ordered([call] * 5, [100] * 5, bytes_in_flight=1):
        pass
    assert most == 1


async def test_as_many_sizes_as_calls() -> None:
    async def call() -> None:
        return None

    with pytest.raises(ValueError, match="shorter"):
        async for _ in ordered([call, call], [1]):
            pass


async def test_what_runs_is_cancelled_when_it_is_left() -> None:
    cancelled = []

    async def call(number: int) -> int:
        try:
            await asyncio.sleep(0 if number == 0 else 60)
        except asyncio.CancelledError:
            cancelled.append(number)
            raise
        return number

    async with aclosing(ordered((partial(call, n) for n in range(4)), [1] * 4)) as answers:
        async for _ in answers:
            break
    assert cancelled == [1, 2, 3]
