from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffetstore.errors import UnsupportedFeatureError
from buffetstore.objects import MemoryStore, get_bytes
from buffetstore.objects.keys import checked_key
from buffetstore.schemas import Record, SchemaManager, Timestamp
from buffetstore.storage import LakeStorage
from buffetstore.storage.layout import MAX_NAME_BYTES, encoded, time_bucket_layout

SCHEMAS = SchemaManager()
MARKET = SCHEMAS.contract("market_data", "1.0.0")
START = datetime(2024, 1, 15, 1, tzinfo=UTC)


def table(*rows: tuple[str, datetime]) -> pa.Table:
    now = datetime(2024, 6, 1, tzinfo=UTC)
    full = [
        {
            "symbol": symbol,
            "timestamp": time,
            "price": Decimal(1),
            "volume": 1,
            "data_source": "t",
            "interval": "1d",
            "created_at": now,
            "version": "1.0.0",
        }
        for symbol, time in rows
    ]
    return pa.Table.from_pylist(full, MARKET.schema)


def day(number: int, start: datetime = datetime(2024, 1, 15, tzinfo=UTC)) -> datetime:
    return start + timedelta(days=number)


def parts(rows: pa.Table, contract: Any = MARKET, **options: Any) -> list[Any]:
    return time_bucket_layout(contract, **options)(rows)


def test_a_day_of_one_symbol_lands_where_the_documentation_says() -> None:
    time = datetime(2024, 1, 15, 14, 30, 52, tzinfo=UTC)
    (part,) = parts(table(("AAPL", time + timedelta(hours=1)), ("AAPL", time)))
    assert part.directory == "year=2024/month=01/day=15"
    assert part.stem == "AAPL_market_20240115_143052_v1"
    assert part.tags == {"bucket": "2024-01-15"}


def test_rows_are_sorted_as_the_contract_says() -> None:
    rows = table(("AAPL", day(0, START)), ("MSFT", day(0)), ("AAPL", day(0)))
    (part,) = parts(rows, replace(MARKET, sort_by=("timestamp", "symbol")))
    assert part.table.select(["symbol", "timestamp"]).to_pylist() == [
        {"symbol": "AAPL", "timestamp": day(0)},
        {"symbol": "MSFT", "timestamp": day(0)},
        {"symbol": "AAPL", "timestamp": day(0, START)},
    ]
    (unsaid,) = parts(rows, replace(MARKET, sort_by=()))
    assert unsaid.table["symbol"].to_pylist() == ["AAPL", "AAPL", "MSFT"]


def test_several_symbols_leave_the_name_without_one() -> None:
    (part,) = parts(table(("MSFT", day(0)), ("AAPL", day(0))))
    assert part.stem == "market_20240115_000000_v1"
    assert part.table["symbol"].to_pylist() == ["AAPL", "MSFT"], "rows are sorted by key"


@pytest.mark.parametrize(
    ("days", "first", "files"),
    [
        (1, "year=2004/month=01/day=01", 1),
        (32, "year=2004/month=01/day=01", 32),
        (33, "year=2004/month=01", 2),
        (365 * 2, "year=2004/month=01", 24),
        (365 * 20, "year=2004", 20),
        (365 * 50, "year=2004", 50),
    ],
)
def test_the_finest_bucket_that_makes_few_files(days: int, first: str, files: int) -> None:
    start = datetime(2004, 1, 1, tzinfo=UTC)
    found = parts(table(*(("AAPL", day(number, start)) for number in range(days))))
    assert found[0].directory == first
    assert len(found) == files
    assert sum(part.table.num_rows for part in found) == days


def test_moments_before_1970_fall_into_their_own_day() -> None:
    found = parts(
        table(("AAPL", datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC)), ("AAPL", datetime(1970, 1, 1, tzinfo=UTC)))
    )
    assert [part.directory for part in found] == ["year=1969/month=12/day=31", "year=1970/month=01/day=01"]


def test_large_buckets_are_cut_into_even_files() -> None:
    rows = table(*((f"S{number:02}", day(0)) for number in range(10)))
    found = parts(rows, max_file_rows=4)
    assert [part.table.num_rows for part in found] == [4, 4, 2]
    assert pa.concat_tables([part.table for part in found]).equals(rows)


def test_forecasts_are_named_by_their_model() -> None:
    contract = SCHEMAS.contract("forecasts", "1.0.0")
    row = {
        "symbol": "^GSPC",
        "model_name": "drift/1",
        "model_version": "1",
        "timestamp": datetime(2024, 1, 15, 12, tzinfo=UTC),
        "forecast_horizon_days": 5,
        "data_source": "t",
        "predicted_price": 5,
    }
    check = SCHEMAS.validate_data([row], "forecasts", "1.0.0")
    assert check.errors == []
    (part,) = parts(check.accepted, contract)
    assert part.stem == "forecast_%5EGSPC_model-drift%2F1_20240115_120000_v1"


def test_partition_columns_are_a_files_own() -> None:
    contract = replace(MARKET, partition_by=("symbol",))
    found = parts(table(("B/C", day(0)), ("A", day(1)), ("A", day(0))), contract)
    assert {part.partition_values["symbol"]: part.table.num_rows for part in found} == {"A": 2, "B/C": 1}
    assert all("symbol" not in part.table.column_names for part in found)
    assert {part.directory for part in found} == {"symbol=A", "symbol=B%2FC"}


def test_generated_partition_columns_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedFeatureError, match="'date'"):
        time_bucket_layout(replace(MARKET, partition_by=("date",)))


def test_no_rows_make_no_files() -> None:
    assert parts(table()) == []


@given(st.text(max_size=40) | st.sampled_from(["..", ".", "../../etc", "a/b", "CON", "%2e%2e", "_delta_log", "~"]))
def test_a_name_never_leaves_its_folder_and_can_be_read_back(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        return
    text = encoded(name)
    if text is None:
        assert not name or len(name.encode()) * 3 > MAX_NAME_BYTES
        return
    assert "/" not in text
    assert text[0] not in "._"
    assert text.isascii()
    assert checked_key(f"raw/{text}")
    assert unquote(text) == name


class Tape(Record, data_type="tape", version="1.0.0", key=("symbol", "timestamp"), sort_by=("timestamp", "symbol")):
    symbol: str
    timestamp: Timestamp


async def stored_rows(store: MemoryStore, lake: LakeStorage) -> list[tuple[str, datetime]]:
    (file,) = await lake.list_files("tape")
    rows = pq.read_table(pa.BufferReader(await get_bytes(store, file.path)))
    return list(zip(rows["symbol"].to_pylist(), rows["timestamp"].to_pylist(), strict=True))


async def test_files_keep_the_contracts_order_when_written_and_when_compacted() -> None:
    store, hours = MemoryStore(), [day(0) + timedelta(hours=hour) for hour in range(4)]
    async with LakeStorage(store, SchemaManager([Tape])) as lake:
        rows = [{"symbol": symbol, "timestamp": hour} for symbol in ("AAPL", "MSFT") for hour in hours[::2]]
        await lake.store_data("tape", rows)
        assert await stored_rows(store, lake) == [(s, hour) for hour in hours[::2] for s in ("AAPL", "MSFT")]
        await lake.store_data("tape", [{"symbol": "AAPL", "timestamp": hour} for hour in hours[1::2]])
        assert (await lake.compact("tape")).files_added == 1
        found = await stored_rows(store, lake)
        assert [hour for _, hour in found] == sorted(hour for _, hour in found)
        assert len(found) == 6
