"""Whatever call of the store fails: each row that was given is stored, or kept, or the caller is told."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from buffetstore.errors import StorageError, TableNotFoundError
from buffetstore.objects import MemoryStore
from buffetstore.query import DataQuery
from buffetstore.schemas import Record, SchemaManager
from buffetstore.schemas.types import Price, Timestamp  # noqa: TC001 - pydantic evaluates the annotations
from buffetstore.storage import LakeStorage
from buffetstore.testing.faulty import Fault, FaultyStore

if TYPE_CHECKING:
    from collections.abc import Callable


class Tick(Record, data_type="ticks", version="1.0.0", key=("symbol", "timestamp"), revisions="append"):
    symbol: str
    timestamp: Timestamp
    value: Price


ROWS = [
    {"symbol": symbol, "timestamp": datetime(2024, 1, 1, tzinfo=UTC), "value": value}
    for symbol, value in (("A", 1), ("B", "x"), ("C", 3), ("D", None))
]
WHENS = ("before", "after")


class FailsOnce:
    """Lets the n-th call fail."""

    def __init__(self, number: int, when: Any) -> None:
        self.left = number
        self.fault = Fault(when, ambiguous=True)
        self.struck = False

    def __call__(self, _verb: str) -> Fault | None:
        self.left -= 1
        if self.left == 0:
            self.struck = True
            return self.fault
        return None


def lake_of(store: Any) -> LakeStorage:
    return LakeStorage(store, SchemaManager([Tick]))


async def symbols(lake: LakeStorage, data_type: str) -> list[str]:
    with suppress(TableNotFoundError):
        found = await lake.retrieve_data(DataQuery(data_type, revisions="all", columns=["symbol"]))
        return sorted(found.table["symbol"].to_pylist())
    return []


async def settle(work: Callable[[LakeStorage], Any], store: MemoryStore, fails: FailsOnce) -> bool:
    """Do the work on a store that fails once; return whether it was told to have been done."""
    async with lake_of(FaultyStore(store, source=fails)) as lake:
        try:
            await work(lake)
        except StorageError:
            return False
        return True


@pytest.mark.parametrize("when", WHENS)
@pytest.mark.parametrize("first", [True, False], ids=["no table yet", "tables are there"])
async def test_no_row_is_lost_at_any_call(when: str, first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("buffetstore.tables.commit._FIRST_WAIT", 0.001)

    async def put(lake: LakeStorage) -> None:
        await lake.store_data("ticks", ROWS, on_invalid="quarantine", idempotency_key="a")

    acknowledged = 0
    for number in count(1):
        store = MemoryStore()
        if not first:
            async with lake_of(store) as lake:
                before = [row | {"symbol": f"{row['symbol']}0"} for row in ROWS]
                await lake.store_data("ticks", before, on_invalid="quarantine")
        fails = FailsOnce(number, when)
        done = await settle(put, store, fails)
        async with lake_of(store) as lake:
            good, bad = await symbols(lake, "ticks"), await symbols(lake, "ticks_quarantine")
            if "A" in good or done:
                assert {"B", "D"} <= set(bad), f"call {number}: good rows were stored before bad ones were kept"
            if done:
                acknowledged += 1
                assert {"A", "C"} <= set(good)
            await put(lake)
            old = [] if first else ["0"]
            assert await symbols(lake, "ticks") == sorted(f"{s}{o}" for s in "AC" for o in ("", *old)), number
            assert await symbols(lake, "ticks_quarantine") == sorted(f"{s}{o}" for s in "BD" for o in ("", *old))
        if not fails.struck:
            break
    assert number > 10
    assert acknowledged, "the last run had no fault"


@pytest.mark.parametrize("when", WHENS)
async def test_a_replay_stores_once_whatever_call_fails(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("buffetstore.tables.commit._FIRST_WAIT", 0.001)

    async def replay(lake: LakeStorage) -> None:
        await lake.quarantine.replay("ticks", filters={}, fix={"value": 7})

    for number in count(1):
        store = MemoryStore()
        async with lake_of(store) as lake:
            await lake.store_data("ticks", ROWS, on_invalid="quarantine")
        fails = FailsOnce(number, when)
        done = await settle(replay, store, fails)
        async with lake_of(store) as lake:
            if done:
                assert await symbols(lake, "ticks") == ["A", "B", "C", "D"]
            await replay(lake)
            assert await symbols(lake, "ticks") == ["A", "B", "C", "D"], number
            assert [(each.open, each.replayed) for each in await lake.quarantine.list()] == [(0, 2)]
        if not fails.struck:
            break
    assert number > 10


async def test_a_call_that_is_cancelled_can_be_sent_again() -> None:
    for steps in range(0, 120, 3):
        store = MemoryStore()
        async with lake_of(store) as lake:
            task = asyncio.create_task(lake.store_data("ticks", ROWS, on_invalid="quarantine", idempotency_key="a"))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            if "A" in await symbols(lake, "ticks"):
                assert await symbols(lake, "ticks_quarantine") == ["B", "D"]
            await lake.store_data("ticks", ROWS, on_invalid="quarantine", idempotency_key="a")
            assert await symbols(lake, "ticks") == ["A", "C"]
            assert await symbols(lake, "ticks_quarantine") == ["B", "D"]
