"""What a write or a delete is told beside its rows: what it replaces, its name, its origin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from buffetstore.errors import InvalidInputError, InvalidQueryError
from buffetstore.objects import MemoryStore
from buffetstore.query import DataQuery
from buffetstore.schemas import Record, SchemaManager
from buffetstore.schemas.types import Price, Timestamp  # noqa: TC001 - pydantic evaluates the annotations
from buffetstore.storage import LakeStorage, read_lineage
from buffetstore.storage.lineage import lineage_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def bar(symbol: str, day: int, price: float = 10.0) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "timestamp": f"2024-01-{day:02}T00:00:00Z",
        "price": price,
        "volume": 1,
        "data_source": "test",
    }


class Estimate(Record, data_type="estimates", version="1.0.0", key=("symbol", "timestamp"), revisions="keep"):
    symbol: str
    timestamp: Timestamp
    value: Price


def estimate(symbol: str, value: float) -> dict[str, Any]:
    return {"symbol": symbol, "timestamp": "2024-01-02T00:00:00Z", "value": value}


@pytest.fixture
async def lake() -> AsyncIterator[LakeStorage]:
    async with MemoryStore() as store, LakeStorage(store, SchemaManager([Estimate])) as storage:
        yield storage


async def stored(lake: LakeStorage) -> list[tuple[str, int, float]]:
    answer = await lake.retrieve_data(DataQuery("market_data", columns=["symbol", "timestamp", "price"]))
    return [(row["symbol"], row["timestamp"].day, float(row["price"])) for row in answer.to_pylist()]


async def test_an_overwrite_of_some_rows_leaves_the_others(lake: LakeStorage) -> None:
    await lake.store_data("market_data", [bar("AAPL", 2), bar("AAPL", 3), bar("MSFT", 2)])
    done = await lake.store_data(
        "market_data", [bar("AAPL", 4, 12)], mode="overwrite", replace_where={"symbol": "AAPL"}
    )
    assert done.rows == 1
    assert await stored(lake) == [("AAPL", 4, 12.0), ("MSFT", 2, 10.0)]


async def test_an_overwrite_of_some_rows_takes_only_such_rows(lake: LakeStorage) -> None:
    await lake.store_data("market_data", [bar("AAPL", 2)])
    with pytest.raises(InvalidInputError):
        await lake.store_data("market_data", [bar("MSFT", 4)], mode="overwrite", replace_where={"symbol": "AAPL"})
    with pytest.raises(InvalidQueryError, match="symbl"):
        await lake.store_data("market_data", [bar("AAPL", 4)], mode="overwrite", replace_where={"symbl": "AAPL"})
    with pytest.raises(InvalidInputError, match="mode='overwrite'"):
        await lake.store_data("market_data", [bar("AAPL", 4)], replace_where={"symbol": "AAPL"})
    assert await stored(lake) == [("AAPL", 2, 10.0)]


async def test_a_delete_sent_again_deletes_nothing_stored_since(lake: LakeStorage) -> None:
    await lake.store_data("market_data", [bar("AAPL", 2), bar("MSFT", 2)])
    assert (await lake.delete_data("market_data", filters={"symbol": "AAPL"}, idempotency_key="purge")).rows == 1
    await lake.store_data("market_data", [bar("AAPL", 2, 11)])
    assert (await lake.delete_data("market_data", filters={"symbol": "AAPL"}, idempotency_key="purge")).rows == 0
    assert await stored(lake) == [("AAPL", 2, 11.0), ("MSFT", 2, 10.0)]
    with pytest.raises(InvalidInputError, match="purge"):
        await lake.delete_data("market_data", filters={"symbol": "MSFT"}, idempotency_key="purge")


@pytest.mark.parametrize("filters", [{"symbol": "AAPL"}, {"value": 10}])
async def test_a_delete_of_revisions_sent_again(lake: LakeStorage, filters: dict[str, Any]) -> None:
    await lake.store_data("estimates", [estimate("AAPL", 9)])
    await lake.store_data("estimates", [estimate("AAPL", 10)])
    assert (await lake.delete_data("estimates", filters=filters, idempotency_key="k")).rows == 2
    await lake.store_data("estimates", [estimate("AAPL", 10)])
    assert (await lake.delete_data("estimates", filters=filters, idempotency_key="k")).rows == 0
    assert (await lake.retrieve_data(DataQuery("estimates"))).rows == 1


async def test_a_delete_that_finds_nothing_is_known_too(lake: LakeStorage) -> None:
    await lake.store_data("estimates", [estimate("AAPL", 9)])
    assert (await lake.delete_data("estimates", filters={"value": 10}, idempotency_key="k")).rows == 0
    await lake.store_data("estimates", [estimate("MSFT", 10)])
    assert (await lake.delete_data("estimates", filters={"value": 10}, idempotency_key="k")).rows == 0


async def test_a_replaced_part_of_revisions_is_named_by_key(lake: LakeStorage) -> None:
    await lake.store_data("estimates", [estimate("AAPL", 9)])
    with pytest.raises(InvalidQueryError, match="by key alone"):
        await lake.store_data("estimates", [estimate("AAPL", 10)], mode="overwrite", replace_where={"value": 10})


async def test_job_and_parameters_are_kept_with_the_commit(lake: LakeStorage) -> None:
    await lake.store_data(
        "market_data", [bar("AAPL", 2)], inputs=["quotes@3"], job="nightly", parameters={"window": 20, "mode": "fast"}
    )
    (newest, *_) = await lake.history("market_data", 1)
    (told,) = read_lineage(newest.user_metadata)
    assert (told.job, told.parameters, told.inputs) == ("nightly", {"window": 20, "mode": "fast"}, ("quotes@3",))


@pytest.mark.parametrize(
    "wrong",
    [
        {"job": 3},
        {"job": ""},
        {"parameters": [1]},
        {"parameters": {1: 2}},
        {"parameters": {"a": float("nan")}},
        {"parameters": {"a": object()}},
        {"parameters": {"a": "x" * 20_000}},
    ],
)
def test_lineage_that_cannot_be_kept_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        lineage_of("1.0.0", **wrong)
