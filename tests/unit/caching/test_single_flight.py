from __future__ import annotations

import asyncio

import pytest

from buffetstore.caching import SingleFlight
from buffetstore.errors import NotFoundError, UnavailableError


class Fetch:
    """A fetch that waits to be let through, and counts how often it began and was cancelled."""

    def __init__(self) -> None:
        self.started = 0
        self.cancelled = 0
        self.gate = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> int:
        self.started += 1
        number = self.started
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return number


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_many_waiters_share_one_fetch_and_the_next_fetches_anew() -> None:
    flights: SingleFlight[int] = SingleFlight()
    fetch = Fetch()
    async with asyncio.TaskGroup() as group:
        waiters = [group.create_task(flights.run("key", fetch)) for _ in range(20)]
        await turn()
        assert fetch.started == 1
        fetch.gate.set()
    assert {waiter.result() for waiter in waiters} == {1}
    assert await flights.run("key", fetch) == 2
    assert len(flights) == 0


async def test_keys_do_not_share() -> None:
    flights: SingleFlight[int] = SingleFlight()
    fetch = Fetch()
    fetch.gate.set()
    assert await asyncio.gather(flights.run("a", fetch), flights.run("b", fetch)) == [1, 2]


async def test_an_error_reaches_all_and_is_not_remembered() -> None:
    flights: SingleFlight[int] = SingleFlight()
    fetch = Fetch()
    fetch.error = NotFoundError("not there")
    waiters = [asyncio.create_task(flights.run("key", fetch)) for _ in range(3)]
    await turn()
    fetch.gate.set()
    outcomes = await asyncio.gather(*waiters, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [NotFoundError] * 3
    fetch.error = None
    assert await flights.run("key", fetch) == 2


@pytest.mark.parametrize("leaver", [0, 1])
async def test_a_cancelled_waiter_leaves_the_others_waiting(leaver: int) -> None:
    flights: SingleFlight[int] = SingleFlight()
    fetch = Fetch()
    waiters = [asyncio.create_task(flights.run("key", fetch)) for _ in range(2)]
    await turn()
    waiters[leaver].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiters[leaver]
    assert fetch.cancelled == 0
    fetch.gate.set()
    assert await waiters[1 - leaver] == 1


async def test_when_the_last_waiter_goes_the_fetch_ends_too() -> None:
    flights: SingleFlight[int] = SingleFlight()
    fetch = Fetch()
    before = asyncio.all_tasks()
    waiter = asyncio.create_task(flights.run("key", fetch))
    await turn()
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert (fetch.cancelled, len(flights)) == (1, 0)
    assert asyncio.all_tasks() == before


async def test_whoever_comes_while_a_fetch_is_being_abandoned_gets_their_own() -> None:
    flights: SingleFlight[str] = SingleFlight()
    clearing_up, cleared = asyncio.Event(), asyncio.Event()

    async def slow_to_stop() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            clearing_up.set()
            await cleared.wait()
        return "never"

    async def quick() -> str:
        return "own"

    first = asyncio.create_task(flights.run("key", slow_to_stop))
    await turn()
    first.cancel()
    await clearing_up.wait()
    assert await flights.run("key", quick) == "own"
    assert not first.done()  # it awaits what it started
    first.cancel()
    await turn()
    assert not first.done()
    cleared.set()
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_closing_ends_what_is_on_its_way_and_says_so_to_the_waiters() -> None:
    flights: SingleFlight[int] = SingleFlight()
    fetch = Fetch()
    waiters = [asyncio.create_task(flights.run("key", fetch)) for _ in range(2)]
    await turn()
    await flights.aclose()
    await flights.aclose()
    outcomes = await asyncio.gather(*waiters, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [UnavailableError] * 2
    assert fetch.cancelled == 1
