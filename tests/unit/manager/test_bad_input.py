"""Bad input, end to end: a typed error that says what, where and what to do, and a table that is as it was."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pytest

from buffetstore import (
    DataQuery,
    InvalidInputError,
    InvalidQueryError,
    SchemaValidationError,
    StorageManager,
    UnknownDataTypeError,
    UnknownSchemaVersionError,
)
from buffetstore.testing.data_storage import bar, bars

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def storage() -> AsyncIterator[StorageManager]:
    async with StorageManager.open("memory://") as storage:
        await storage.store_data("market_data", bars())
        yield storage


def without(name: str) -> dict[str, Any]:
    return {field: value for field, value in bar("TSLA").items() if field != name}


FRAME = pd.DataFrame([bar("TSLA")]).assign(price=[float("nan")])


@pytest.mark.parametrize(
    ("row", "field", "shown"),
    [
        (without("price"), "price", "required|missing"),
        (without("symbol"), "symbol", "required|missing"),
        (bar("TSLA", price="cheap"), "price", "cheap"),
        (bar("TSLA", volume=1.5), "volume", r"1\.5"),
        (bar("TSLA", volume="many"), "volume", "many"),
        (bar("TSLA", price=float("nan")), "price", "required"),
        (bar("TSLA", price=float("inf")), "price", "(?i)inf"),
        (bar("TSLA", price=Decimal("NaN")), "price", "required"),
        (bar("TSLA", price=0), "price", "greater than 0"),
        (bar("TSLA", price=Decimal("1.123456789")), "price", r"1\.123456789"),
        (bar("TSLA", timestamp=datetime(2024, 1, 1)), "timestamp", "tz="),  # noqa: DTZ001
        (bar("TSLA", timestamp="2024-01-01T00:00:00"), "timestamp", "tz="),
        (bar("TSLA", timestamp="yesterday"), "timestamp", "yesterday"),
        (bar("TSLA", prise=5), "prise", "price"),
        (bar(""), "symbol", "symbol|empty|character"),
        (bar("TSLA", low=10, high=5), "low", "above high"),
        (FRAME, "price", "required"),
    ],
)
async def test_a_row_that_breaks_its_contract(storage: StorageManager, row: Any, field: str, shown: str) -> None:
    before = await storage.retrieve_data(DataQuery("market_data"))
    with pytest.raises(SchemaValidationError, match=field) as caught:
        await storage.store_data("market_data", row if isinstance(row, pd.DataFrame) else [bar("NEW"), row])
    error = caught.value
    assert error.code == "schema_validation"
    assert error.key == "market_data"
    assert not error.result.is_valid
    finding = next(found for found in error.result.errors if found.field == field)
    assert re.search(shown, finding.message), finding.message
    assert finding.record_index == (0 if isinstance(row, pd.DataFrame) else 1)
    after = await storage.retrieve_data(DataQuery("market_data"))
    assert after.table_version == before.table_version
    assert after.table.equals(before.table)


async def test_a_key_twice_in_a_batch(storage: StorageManager) -> None:
    with pytest.raises(SchemaValidationError, match=r"symbol='NEW'.* repeats row 0") as caught:
        await storage.store_data("market_data", [bar("NEW"), bar("TSLA"), bar("NEW", volume=5)])
    assert 2 in caught.value.result.rejected
    assert (await storage.retrieve_data(DataQuery("market_data"))).rows == 10


@pytest.mark.parametrize("empty", [[], pa.table({}), pd.DataFrame(), None, 5, "rows"])
async def test_no_data(storage: StorageManager, empty: Any) -> None:
    with pytest.raises(InvalidInputError):
        await storage.store_data("market_data", empty)
    assert (await storage.describe("market_data")).table_version == 1


async def test_unknown_names(storage: StorageManager) -> None:
    with pytest.raises(UnknownDataTypeError, match=r"'marketdata'.*did you mean 'market_data'"):
        await storage.store_data("marketdata", bars())
    with pytest.raises(UnknownSchemaVersionError, match=r"'2\.0\.0'.*1\.2\.0"):
        await storage.store_data("market_data", bars(), version="2.0.0")
    with pytest.raises(UnknownSchemaVersionError, match=r"'2\.0\.0'"):
        await storage.retrieve_data(DataQuery("market_data", version="2.0.0"))
    with pytest.raises(UnknownDataTypeError):
        await storage.describe("../market_data")


async def test_a_question_that_cannot_be_right(storage: StorageManager) -> None:
    with pytest.raises(InvalidQueryError, match="did you mean 'volume'"):
        await storage.retrieve_data(DataQuery("market_data", {"volum": 5}))
    with pytest.raises(InvalidQueryError, match="after it ends"):
        DataQuery("market_data", date_range={"start": "2024-02-01", "end": "2024-01-01"})
    with pytest.raises(InvalidQueryError, match="did you mean 'rsi'"):
        async for _ in storage.scan(DataQuery("market_data", columns=["rsi_"])):
            pass
    with pytest.raises(InvalidQueryError, match="no column 'colour'"):
        await storage.delete_data("market_data", filters={"colour": "red"})


async def test_stray_columns_may_be_ignored(storage: StorageManager) -> None:
    result = await storage.store_data("market_data", [bar("TSLA", colour="red")], extra="ignore")
    assert result.inserted == 1


async def test_local_times_with_their_zone(storage: StorageManager) -> None:
    row = bar("TSLA", timestamp=datetime(2024, 1, 2, 9, 30))  # noqa: DTZ001
    await storage.store_data("market_data", [row], tz="America/New_York")
    answer = await storage.retrieve_data(DataQuery("market_data", {"symbol": "TSLA"}))
    assert answer.to_pylist()[0]["timestamp"] == datetime(2024, 1, 2, 14, 30, tzinfo=UTC)
