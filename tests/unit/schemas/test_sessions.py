"""A daily bar is known at the close of its session, however it is stamped."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from buffetstore import DataQuery, StorageManager
from buffetstore.schemas import sessions
from buffetstore.schemas.availability import availability
from buffetstore.schemas.market_data import MarketData
from buffetstore.schemas.record import contract_of
from buffetstore.schemas.sessions import next_close

CONTRACT = contract_of(MarketData)
LOADED = datetime(2025, 1, 1, tzinfo=UTC)


def at(*moments: str) -> np.ndarray:
    return np.array(moments, "datetime64[us]")


@pytest.mark.parametrize(
    ("mic", "stamped", "close"),
    [
        ("XNAS", "2024-01-02T00:00", "2024-01-02T21:00"),  # midnight UTC
        ("XNAS", "2024-01-02T05:00", "2024-01-02T21:00"),  # midnight in New York
        ("XNAS", "2024-01-02T14:30", "2024-01-02T21:00"),  # the open
        ("XNAS", "2024-01-02T21:00", "2024-01-02T21:00"),  # the close
        ("XNAS", "2024-07-03T04:00", "2024-07-03T17:00"),  # an early close, in summer time
        ("XTKS", "2024-01-03T15:00", "2024-01-04T06:00"),  # midnight in Tokyo is the day before in UTC
        ("XLON", "2023-12-29T00:00", "2023-12-29T12:30"),
    ],
)
def test_the_next_close_ends_the_session(mic, stamped, close):
    pytest.importorskip("exchange_calendars")
    assert next_close(mic, at(stamped)).tolist() == at(close).tolist()


def test_where_the_calendar_does_not_reach_there_is_none():
    pytest.importorskip("exchange_calendars")
    assert np.isnat(next_close("XNAS", at("1970-01-02T00:00", "2200-01-01T00:00"))).all()
    assert next_close("no exchange", at("2024-01-02T00:00")) is None


def rows(**changes):
    row = {
        "symbol": "A",
        "timestamp": datetime(2024, 1, 2, 5, tzinfo=UTC),
        "interval": "1d",
        "exchange": "XNAS",
        "created_at": LOADED,
        "available_at": None,
    } | changes
    columns = {name: [value] for name, value in row.items()}
    return pa.table(columns, schema=pa.schema([CONTRACT.schema.field(name) for name in columns]))


@pytest.mark.parametrize(
    ("changes", "known"),
    [
        ({}, datetime(2024, 1, 2, 21, tzinfo=UTC)),
        ({"exchange": None}, datetime(2024, 1, 3, tzinfo=UTC)),
        ({"exchange": "??"}, datetime(2024, 1, 3, tzinfo=UTC)),
        ({"interval": "1h"}, datetime(2024, 1, 2, 6, tzinfo=UTC)),
        ({"available_at": datetime(2024, 1, 5, tzinfo=UTC)}, datetime(2024, 1, 5, tzinfo=UTC)),
    ],
)
def test_availability_of_a_bar(changes, known):
    pytest.importorskip("exchange_calendars")
    assert availability(rows(**changes), CONTRACT).to_pylist() == [known]


def test_without_the_package_the_day_in_utc_counts(monkeypatch):
    monkeypatch.setattr(sessions, "find_spec", lambda name: None)
    sessions._closes.cache_clear()
    try:
        assert availability(rows(), CONTRACT).to_pylist() == [datetime(2024, 1, 3, tzinfo=UTC)]
    finally:
        sessions._closes.cache_clear()


async def test_known_at_shows_a_bar_from_its_close_on():
    pytest.importorskip("exchange_calendars")
    bar = {"symbol": "A", "timestamp": "2024-01-02T05:00Z", "price": 1, "volume": 1, "exchange": "XNAS"}
    async with StorageManager.open("memory://") as storage:
        await storage.store_data("market_data", [bar], data_source="tests")
        for minute, seen in ((59, 0), (0, 1)):
            moment = datetime(2024, 1, 2, 20 if minute else 21, minute, tzinfo=UTC)
            assert (await storage.retrieve_data(DataQuery("market_data", known_at=moment))).rows == seen
