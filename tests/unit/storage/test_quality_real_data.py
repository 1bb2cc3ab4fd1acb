"""Checks on data that nobody here wrote: what they count is what plain Python counts in the files."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from buffetstore.objects import MemoryStore
from buffetstore.schemas import CrossedQuotes, Duplicates, Gaps, MarketData, OptionsData, StalePrices, contract_of
from buffetstore.storage import LakeStorage
from buffetstore.storage.quality import QualityChecks

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = Path(__file__).parents[4] / "shared/data"
NEW_YORK = ZoneInfo("America/New_York")


def lines(name: str) -> Iterator[tuple[str, list[str]]]:
    """Yield every line of every member of a zip, with the member's name."""
    if not (DATA / name).is_file():
        pytest.skip(f"needs the real market data in ../shared/data ({name})")
    with ZipFile(DATA / name) as archive:
        for member in archive.namelist():
            with archive.open(member) as file:
                yield from ((member, line) for line in csv.reader(io.TextIOWrapper(file)))


def dollars(text: str) -> Decimal | None:
    return Decimal(text) / 10_000 if text else None


def rows_of(contract: Any, rows: list[dict[str, Any]]) -> pa.Table:
    schema = pa.schema([contract.schema.field(name).with_nullable(True) for name in rows[0]])
    return pa.Table.from_pylist(rows, schema=schema)


def daily(symbol: str) -> list[dict[str, Any]]:
    return [
        {
            "symbol": symbol.upper(),
            "timestamp": datetime.strptime(stamp, "%Y%m%d %H:%M").replace(tzinfo=UTC),
            "price": dollars(close),
            "volume": int(volume),
            "data_source": "lean",
            "exchange": "XNYS",
        }
        for _, (stamp, _, _, _, close, volume) in lines(f"equity_daily_{symbol}.zip")
    ]


@pytest.fixture(scope="module")
def bars() -> list[dict[str, Any]]:
    return [row for symbol in ("aapl", "ibm", "spy") for row in daily(symbol)]


@pytest.fixture(scope="module")
def minutes() -> list[dict[str, Any]]:
    midnight = datetime(2014, 6, 6, tzinfo=NEW_YORK)
    found = [
        {
            "symbol": "AAPL",
            "timestamp": (midnight + timedelta(milliseconds=int(line[0]))).astimezone(UTC),
            "price": dollars(line[4]),
            "volume": int(line[5]),
            "data_source": "lean",
            "interval": "1m",
        }
        for _, line in lines("equity_minute_aapl_20140606_trade.zip")
    ]
    return [row for row in found if "13:30" <= f"{row['timestamp']:%H:%M}" < "20:00"]


@pytest.fixture(scope="module")
def quotes() -> list[dict[str, Any]]:
    midnight = datetime(2015, 12, 23, tzinfo=NEW_YORK)
    found = []
    for member, line in lines("option_minute_goog_20151223_quote.zip"):
        *_, right, strike, expiry = Path(member).stem.split("_")
        found.append(
            {
                "underlying_symbol": "GOOG",
                "contract_symbol": member,
                "expiration_date": datetime.strptime(expiry, "%Y%m%d").replace(tzinfo=UTC).date(),
                "strike_price": dollars(strike),
                "option_type": right,
                "timestamp": (midnight + timedelta(milliseconds=int(line[0]))).astimezone(UTC),
                "data_source": "lean",
                # The best of the minute on either side: these cross where those of one moment do not.
                "bid": dollars(line[2]),
                "ask": dollars(line[8]),
            }
        )
    return found


async def run(data_type: str, rows: pa.Table, *checks: Any, window_rows: int = 4_000) -> dict[str, Any]:
    async with MemoryStore() as store, LakeStorage(store) as lake:
        await lake.store_data(data_type, rows)

        async def reach() -> LakeStorage:
            return lake

        report = await QualityChecks(reach, window_rows=window_rows).run(data_type, checks)
        return {result.check: result for result in report.results}


async def test_crossed_quotes_of_a_day_of_options(quotes: list[dict[str, Any]]) -> None:
    both = [row for row in quotes if row["bid"] is not None and row["ask"] is not None]
    crossed = sum(row["bid"] > row["ask"] for row in both)
    assert 0 < crossed < len(both) < len(quotes)
    rows = rows_of(contract_of(OptionsData), [row | {"contract_symbol": symbol(row)} for row in quotes])
    found = await run("options_data", rows, CrossedQuotes(), Duplicates())
    assert (found["crossed_quotes"].rows, found["crossed_quotes"].failed) == (len(both), crossed)
    assert (found["duplicates"].rows, found["duplicates"].failed) == (len(quotes), 0)


def symbol(row: dict[str, Any]) -> str:
    letter = row["option_type"][0].upper()
    return f"GOOG  {row['expiration_date']:%y%m%d}{letter}{int(row['strike_price'] * 1000):08d}"


async def test_twenty_three_years_of_sessions_are_complete(bars: list[dict[str, Any]]) -> None:
    pytest.importorskip("exchange_calendars")
    found = await run("market_data", rows_of(contract_of(MarketData), bars), Gaps("1d"), Duplicates())
    assert (found["gaps_1d"].rows, found["gaps_1d"].failed) == (len(bars), 0)
    assert found["duplicates"].failed == 0


async def test_sessions_taken_out_of_them_are_found(bars: list[dict[str, Any]]) -> None:
    pytest.importorskip("exchange_calendars")
    gone = {("IBM", "2001-11-23"), ("SPY", "2020-03-16"), ("SPY", "2020-03-17")}
    left = [row for row in bars if (row["symbol"], f"{row['timestamp']:%Y-%m-%d}") not in gone]
    gaps = (await run("market_data", rows_of(contract_of(MarketData), left), Gaps("1d")))["gaps_1d"]
    assert (gaps.rows, gaps.failed) == (len(bars), 3)
    assert {(each["symbol"], each["timestamp"][:10], each["missing"]) for each in gaps.examples} == {
        ("IBM", "2001-11-23", 1),
        ("SPY", "2020-03-16", 2),
    }


async def test_minutes_of_a_session(minutes: list[dict[str, Any]]) -> None:
    pytest.importorskip("exchange_calendars")
    assert len(minutes) == 390
    left = [row for place, row in enumerate(minutes) if place not in {100, 101, 200}]
    rows = rows_of(contract_of(MarketData), left)
    gaps = (await run("market_data", rows, Gaps("1m", calendar="XNAS"), window_rows=50))["gaps_1m"]
    assert (gaps.rows, gaps.failed) == (390, 3)


async def test_prices_that_stay(bars: list[dict[str, Any]]) -> None:
    expected = 0
    for name in ("AAPL", "IBM", "SPY"):
        run_, last = 0, None
        for row in (row for row in bars if row["symbol"] == name):
            run_ = run_ + 1 if row["price"] == last else 1
            last = row["price"]
            expected += {2: 2}.get(run_, run_ > 2)
    found = await run("market_data", rows_of(contract_of(MarketData), bars), StalePrices("price", rows=2))
    assert found["stale_prices_price"].failed == expected > 0
