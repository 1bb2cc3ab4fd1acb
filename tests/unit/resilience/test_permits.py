from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffetstore.errors import ConfigurationError
from buffetstore.resilience.permits import ConcurrencyLimit, Permits


async def test_first_come_first_served():
    permits = Permits(ConcurrencyLimit(calls=1))
    order = []

    async def work(number: int) -> None:
        await permits.take()
        order.append(number)
        await asyncio.sleep(0)
        permits.give_back()

    await asyncio.gather(*(work(number) for number in range(10)))
    assert order == list(range(10))
    assert (permits.in_use, permits.waiting) == (0, 0)


async def test_nobody_overtakes_those_who_wait():
    permits = Permits(ConcurrencyLimit(calls=2))
    assert permits.take_now()
    assert permits.take_now()
    waiter = asyncio.create_task(permits.take())
    await asyncio.sleep(0)
    permits.give_back()
    assert not permits.take_now()
    await waiter


async def test_bytes_are_bounded_but_one_always_passes():
    permits = Permits(ConcurrencyLimit(calls=10, bytes_in_flight=100))
    assert permits.take_now(1000)
    assert not permits.take_now(1)
    assert permits.take_now(0)  # a read holds none
    permits.give_back(1000)
    assert permits.take_now(60)
    assert not permits.take_now(60)


@pytest.mark.parametrize("options", [{"calls": 0}, {"bytes_in_flight": 0}])
def test_a_senseless_limit_is_refused(options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        ConcurrencyLimit(**options)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(0, 150)),
        st.tuples(st.just("done"), st.integers(0, 20)),
        st.tuples(st.just("cancel"), st.integers(0, 20)),
        st.tuples(st.just("turn"), st.integers(1, 3)),
    ),
    max_size=60,
)


@given(steps)
def test_no_permit_is_lost_or_made(steps):
    """Any history of takers, some of them cancelled at any moment, also when it is their turn already."""

    async def history() -> None:
        permits = Permits(ConcurrencyLimit(calls=3, bytes_in_flight=200))
        held: dict[asyncio.Task[None], asyncio.Event] = {}
        inside: list[int] = []

        async def work(size: int, done: asyncio.Event) -> None:
            await permits.take(size)
            inside.append(size)
            try:
                await done.wait()
            finally:
                inside.remove(size)
                permits.give_back(size)

        def check() -> None:
            assert len(inside) <= permits.in_use <= 3
            assert sum(inside) <= permits.bytes_in_flight <= 200

        for step, number in steps:
            tasks = [task for task in held if not task.done()]
            if step == "take":
                done = asyncio.Event()
                held[asyncio.ensure_future(work(number, done))] = done
            elif step == "turn":
                for _ in range(number):
                    await asyncio.sleep(0)
            elif tasks and step == "done":
                held[tasks[number % len(tasks)]].set()
            elif tasks:
                tasks[number % len(tasks)].cancel()
            check()
        for done in held.values():
            done.set()
        await asyncio.wait_for(asyncio.gather(*held, return_exceptions=True), 10)
        assert (permits.in_use, permits.bytes_in_flight, permits.waiting) == (0, 0, 0)
        assert not any(task.exception() for task in held if not task.cancelled())

    asyncio.run(history())
