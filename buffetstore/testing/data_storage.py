"""The contract suite of data storages: subclass it and give it a `storage` fixture.

::

    class TestMine(DataStorageContract):
        @pytest.fixture
        async def storage(self):
            async with MyStorage(...) as storage:
                yield storage

The storage knows the built-in data types and is empty. What only a storage with versions does is asked of a
`VersionedStorage`.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from buffetstore.errors import (
    IdempotencyKeyReusedError,
    InvalidInputError,
    InvalidQueryError,
    SchemaValidationError,
    TableNotFoundError,
    TableVersionNotFoundError,
    UnknownDataTypeError,
    UnknownSchemaVersionError,
)
from buffetstore.query import DataQuery, QueryOptimizer
from buffetstore.storage import VersionedStorage, read_lineage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from buffetstore.storage import DataStorage
    from buffetstore.storage.base import WriteMode

SYMBOLS = ("AAPL", "BTC/USD", "BRK.B", "^GSPC", "ES=F", "..", ".", "日経", "a b%2Fc", "_x", "-")


def bar(symbol: str = "AAPL", day: int = 1, **fields: Any) -> dict[str, Any]:
    """Return a daily bar of January 2024."""
    return {
        "symbol": symbol,
        "timestamp": datetime(2024, 1, day, tzinfo=UTC),
        "price": Decimal("185.25") + day,
        "volume": 1000 + day,
        "data_source": "contract",
    } | fields


def bars(symbols: Iterable[str] = ("AAPL", "MSFT"), days: Iterable[int] = range(1, 6)) -> list[dict[str, Any]]:
    """Return daily bars of January 2024, in order of key."""
    days = tuple(days)
    return [bar(symbol, day) for symbol in symbols for day in days]


def keys(rows: Iterable[dict[str, Any]]) -> list[tuple[str, int]]:
    """Return symbol and day of each row."""
    return [(row["symbol"], row["timestamp"].day) for row in rows]


def with_versions(storage: DataStorage) -> VersionedStorage:
    """Return the storage, or skip the test where it keeps no versions."""
    if not isinstance(storage, VersionedStorage):
        pytest.skip(f"{type(storage).__name__} keeps no versions (it is no VersionedStorage)")
    return storage


@pytest.mark.asyncio
class DataStorageContract:
    """What every `DataStorage` does."""

    @pytest.fixture
    async def storage(self) -> DataStorage:
        """Give an empty storage that no other test uses."""
        pytest.fail(f"{type(self).__name__} must define the fixture `storage`")

    async def test_what_is_stored_is_read_back_in_order_of_key(self, storage: DataStorage) -> None:
        given = bars()
        stored = await storage.store_data("market_data", given[::-1])
        assert (stored.rows, stored.inserted, stored.unchanged) == (10, 10, 0)
        assert stored.file_path == stored.file_paths[0]
        answer = await storage.retrieve_data(DataQuery("market_data"))
        assert keys(answer.to_pylist()) == keys(given)
        assert [row["price"] for row in answer.to_pylist()] == [row["price"] for row in given]
        assert answer.table_version == stored.table_version

    async def test_storing_the_same_again_changes_nothing(self, storage: DataStorage) -> None:
        first = await storage.store_data("market_data", bars())
        again = await storage.store_data("market_data", bars())
        assert (again.inserted, again.updated, again.unchanged) == (0, 0, 10)
        assert again.table_version == first.table_version
        assert again.file_path is None
        assert (await storage.retrieve_data(DataQuery("market_data"))).rows == 10

    async def test_a_key_that_is_stored_again_replaces_its_row(self, storage: DataStorage) -> None:
        first = await storage.store_data("market_data", bars())
        changed = [bar("AAPL", 2, volume=7), bar("AAPL", 3), bar("TSLA", 3)]
        result = await storage.store_data("market_data", changed)
        assert (result.inserted, result.updated, result.unchanged) == (1, 1, 1)
        now = await storage.retrieve_data(DataQuery("market_data", {"symbol": "AAPL", "volume": 7}))
        assert keys(now.to_pylist()) == [("AAPL", 2)]
        before = await storage.retrieve_data(DataQuery("market_data", table_version=first.table_version))
        assert keys(before.to_pylist()) == keys(bars())
        assert 7 not in before.table["volume"].to_pylist()

    async def test_every_filter_finds_its_rows(self, storage: DataStorage) -> None:
        await storage.store_data("market_data", bars())
        await storage.store_data("market_data", [bar("NVDA", 9, exchange="XNAS")])
        questions: list[tuple[dict[str, Any], int]] = [
            ({"symbol": "AAPL"}, 5),
            ({"symbol": ["AAPL", "NVDA"]}, 6),
            ({"symbol": []}, 0),
            ({"volume": {"gte": 1002, "lt": 1004}}, 4),
            ({"volume": {"gt": 1004}, "symbol": {"ne": "NVDA"}}, 2),
            ({"price": {"lte": 186.25}}, 2),
            ({"exchange": None}, 10),
            ({"exchange": {"ne": None}}, 1),
            ({"exchange": "XNAS"}, 1),
            ({"symbol": "ZZZ"}, 0),
        ]
        for filters, rows in questions:
            assert (await storage.retrieve_data(DataQuery("market_data", filters))).rows == rows, filters

    async def test_dates_are_whole_days_and_moments_half_open(self, storage: DataStorage) -> None:
        evening = bar("AAPL", 5, timestamp=datetime(2024, 1, 5, 23, 59, 59, 999_999, UTC))
        await storage.store_data("market_data", [*bars(["AAPL"]), evening])
        questions: list[tuple[dict[str, Any], int]] = [
            ({"start": "2024-01-04", "end": "2024-01-05"}, 3),
            ({"start": "2024-01-05"}, 2),
            ({"end": "2024-01-01"}, 1),
            ({"start": "2024-01-04T00:00:00Z", "end": "2024-01-05T00:00:00Z"}, 1),
            ({"start": datetime(2024, 1, 5, tzinfo=UTC), "end": datetime(2024, 1, 5, tzinfo=UTC)}, 0),
            ({"start": "2031-01-01"}, 0),
        ]
        for date_range, rows in questions:
            answer = await storage.retrieve_data(DataQuery("market_data", date_range=date_range))
            assert answer.rows == rows, date_range

    async def test_columns_and_limit(self, storage: DataStorage) -> None:
        await storage.store_data("market_data", bars())
        answer = await storage.retrieve_data(DataQuery("market_data", columns=["volume", "symbol"], limit=3))
        assert answer.table.column_names == ["volume", "symbol"]
        assert answer.rows == 3
        nothing = await storage.retrieve_data(DataQuery("market_data", limit=0))
        assert nothing.rows == 0
        assert "price" in nothing.table.column_names

    async def test_a_plan_and_its_query_have_one_answer(self, storage: DataStorage) -> None:
        await storage.store_data("market_data", bars())
        query = DataQuery("market_data", {"symbol": ["MSFT", "MSFT"]}, {"start": "2024-01-02"})
        plan = QueryOptimizer().optimize(query)
        assert (await storage.retrieve_data(plan)).table.equals((await storage.retrieve_data(query)).table)

    async def test_what_is_pruned_is_told(self, storage: DataStorage) -> None:
        await storage.store_data("market_data", bars(days=range(1, 11)))
        answer = await storage.retrieve_data(
            DataQuery("market_data", date_range={"start": "2024-01-04", "end": "2024-01-05"})
        )
        assert answer.rows == 4
        assert answer.partitions_scanned <= answer.partitions_total
        assert answer.files_scanned >= 1
        everything = await storage.retrieve_data(DataQuery("market_data"))
        assert everything.files_scanned + everything.files_pruned == answer.files_scanned + answer.files_pruned

    async def test_a_scan_yields_the_same_rows(self, storage: DataStorage) -> None:
        await storage.store_data("market_data", bars())
        query = DataQuery("market_data", {"volume": {"gt": 1002}}, columns=["symbol", "timestamp"])
        rows = [row async for batch in storage.scan(query) for row in batch.to_pylist()]
        expected = (await storage.retrieve_data(query)).to_pylist()
        assert sorted(keys(rows)) == keys(expected)
        limited = [batch.num_rows async for batch in storage.scan(DataQuery("market_data", limit=4))]
        assert sum(limited) == 4

    async def test_symbols_are_data(self, storage: DataStorage) -> None:
        for symbol in SYMBOLS:
            await storage.store_data("market_data", [bar(symbol, 3)])
        await storage.store_data("market_data", bars(SYMBOLS, [4, 5]))
        for symbol in SYMBOLS:
            answer = await storage.retrieve_data(DataQuery("market_data", {"symbol": symbol}))
            assert keys(answer.to_pylist()) == [(symbol, 3), (symbol, 4), (symbol, 5)]
        assert await storage.list_data_types() == ["market_data"]

    async def test_bad_rows_leave_everything_as_it_was(self, storage: DataStorage) -> None:
        await storage.store_data("market_data", bars())
        before = await storage.retrieve_data(DataQuery("market_data"))
        bad = [bar("AAPL", 2, volume=9), bar("AAPL", 3, price=Decimal(-1)), bar("AAPL", 4, volume=-5)]
        with pytest.raises(SchemaValidationError) as caught:
            await storage.store_data("market_data", bad)
        result = caught.value.result
        assert [(found.record_index, found.field) for found in result.errors] == [(1, "price"), (2, "volume")]
        assert list(result.rejected) == [1, 2]
        after = await storage.retrieve_data(DataQuery("market_data"))
        assert after.table_version == before.table_version
        assert after.table.equals(before.table)

    async def test_bad_rows_are_kept_apart_with_their_reasons(self, storage: DataStorage) -> None:
        given = [*bars(), bar("AAPL", 8, price=Decimal(-1)), bar("MSFT", 9, volume="many")]
        for attempt in range(2):
            done = await storage.store_data("market_data", given, on_invalid="quarantine")
            assert (done.rows, done.inserted, done.unchanged) == ((10, 10, 0), (10, 0, 10))[attempt]
            assert (done.rejected, done.quarantined) == (2, 2)
        assert keys((await storage.retrieve_data(DataQuery("market_data"))).to_pylist()) == keys(bars())
        kept = (await storage.retrieve_data(DataQuery("market_data_quarantine"))).to_pylist()
        assert sorted((row["symbol"], row["field"], row["rule"]) for row in kept) == [
            ("AAPL", "price", "greater_than"),
            ("MSFT", "volume", "int_parsing"),
        ]
        some = await storage.retrieve_data(DataQuery("market_data_quarantine", {"symbol": "MSFT", "status": "open"}))
        assert ['"volume": "many"' in row["record"] for row in some.to_pylist()] == [True]

    async def test_bad_rows_alone_are_kept_too(self, storage: DataStorage) -> None:
        done = await storage.store_data("market_data", [bar(price=Decimal(-1))], on_invalid="quarantine")
        assert (done.rows, done.rejected, done.quarantined) == (0, 1, 1)
        assert await storage.list_data_types() == ["market_data_quarantine"]
        with pytest.raises(TableNotFoundError):
            await storage.retrieve_data(DataQuery("market_data"))

    async def test_bad_rows_are_left_out_or_let_in(self, storage: DataStorage) -> None:
        given = [*bars(), bar("AAPL", 8, price=Decimal(-1))]
        dropped = await storage.store_data("market_data", given, on_invalid="drop")
        assert (dropped.rows, dropped.rejected, dropped.quarantined) == (10, 1, 0)
        warned = await storage.store_data("market_data", given, on_invalid="warn")
        assert (warned.rows, warned.inserted, warned.rejected, len(warned.warnings)) == (11, 1, 0, 1)
        with pytest.raises(SchemaValidationError, match="many"):
            await storage.store_data("market_data", [bar(volume="many")], on_invalid="warn")
        with pytest.raises(InvalidInputError, match="'ignore' is none of 'raise', 'quarantine', 'drop', 'warn'"):
            await storage.store_data("market_data", given, on_invalid="ignore")  # type: ignore[arg-type]
        assert (await storage.retrieve_data(DataQuery("market_data"))).rows == 11

    async def test_a_verdict_is_used_again(self, storage: DataStorage) -> None:
        check = await storage.validate(bars(), "market_data")
        assert check.is_valid
        assert (await storage.store_data("market_data", check)).rows == 10
        with pytest.raises(InvalidInputError, match="validated as market_data"):
            await storage.store_data("forecasts", check)
        bad = await storage.validate([bar(price=-1)], "market_data")
        with pytest.raises(SchemaValidationError):
            await storage.store_data("market_data", bad)

    async def test_older_rows_fit_the_newer_table(self, storage: DataStorage) -> None:
        await storage.store_data("market_data", [bar("AAPL", 1)], version="1.0.0")
        await storage.store_data("market_data", [bar("AAPL", 2, rsi=55.5)], version="1.2.0")
        await storage.store_data("market_data", [bar("AAPL", 3, pe_ratio=20.0)], version="1.1.0")
        rows = (await storage.retrieve_data(DataQuery("market_data"))).to_pylist()
        assert [(row["version"], row["rsi"], row["pe_ratio"]) for row in rows] == [
            ("1.0.0", None, None),
            ("1.2.0", 55.5, None),
            ("1.1.0", None, 20.0),
        ]
        old = await storage.retrieve_data(DataQuery("market_data", version="1.0.0"))
        assert "rsi" not in old.table.column_names
        assert old.rows == 3

    async def test_what_was_known_at_a_moment(self, storage: DataStorage) -> None:
        await storage.store_data("market_data", bars(["AAPL"]))
        close = datetime(2024, 1, 3, tzinfo=UTC)
        seen = await storage.retrieve_data(DataQuery("market_data", known_at=close))
        assert keys(seen.to_pylist()) == [("AAPL", 1), ("AAPL", 2)], "a daily bar is known when its day is over"
        assert any("no revisions" in note for note in seen.notes)
        nothing = await storage.retrieve_data(DataQuery("market_data", known_at=close - timedelta(days=9)))
        assert nothing.rows == 0
        assert any("available_at=" in note for note in nothing.notes)

    async def test_deleting(self, storage: DataStorage) -> None:
        await storage.store_data("market_data", bars())
        some = await storage.delete_data("market_data", filters={"symbol": "AAPL"}, date_range={"end": "2024-01-02"})
        assert some.rows == 2
        assert (await storage.delete_data("market_data", filters={"symbol": "ZZZ"})).rows == 0
        assert (await storage.retrieve_data(DataQuery("market_data"))).rows == 8
        with pytest.raises(InvalidQueryError, match="does not say which"):
            await storage.delete_data("market_data")
        assert (await storage.delete_data("market_data", filters={})).rows == 8
        assert (await storage.retrieve_data(DataQuery("market_data"))).rows == 0

    async def test_listing_and_describing(self, storage: DataStorage) -> None:
        assert await storage.list_data_types() == []
        await storage.store_data("market_data", bars())
        assert await storage.list_data_types() == ["market_data"]
        found = await storage.describe("market_data")
        assert (found.rows, found.data_type, found.schema_version) == (10, "market_data", "1.2.0")
        assert (found.start, found.end) == (datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 5, tzinfo=UTC))
        assert found.key == ("symbol", "timestamp", "interval", "data_source")
        assert found.bytes > 0

    async def test_what_is_not_there(self, storage: DataStorage) -> None:
        with pytest.raises(UnknownDataTypeError, match="did you mean 'market_data'"):
            await storage.retrieve_data(DataQuery("market_dta"))
        with pytest.raises(UnknownDataTypeError):
            await storage.store_data("weather", bars())
        with pytest.raises(UnknownSchemaVersionError, match=r"9\.9\.9"):
            await storage.store_data("market_data", bars(), version="9.9.9")
        with pytest.raises(TableNotFoundError, match="nothing is stored yet"):
            await storage.retrieve_data(DataQuery("market_data"))
        await storage.store_data("market_data", bars())
        for ask in (storage.retrieve_data(DataQuery("forecasts")), storage.describe("forecasts")):
            with pytest.raises(TableNotFoundError, match="market_data"):
                await ask
        with pytest.raises(TableVersionNotFoundError):
            await storage.retrieve_data(DataQuery("market_data", table_version=99))

    @pytest.mark.parametrize(
        ("filters", "shown"),
        [
            ({"prise": 1}, "did you mean 'price'"),
            ({"price": "cheap"}, "'cheap' is a str"),
            ({"timestamp": datetime(2024, 1, 1)}, "time zone"),  # noqa: DTZ001
            ({"symbol": 5}, "give a string"),
        ],
    )
    async def test_a_filter_that_cannot_be_right(self, storage: DataStorage, filters: Any, shown: str) -> None:
        await storage.store_data("market_data", bars())
        with pytest.raises(InvalidQueryError, match=shown):
            await storage.retrieve_data(DataQuery("market_data", filters))
        with pytest.raises(InvalidQueryError, match="no column 'prise'"):
            await storage.retrieve_data(DataQuery("market_data", columns=["prise"]))

    async def test_many_writers_at_once_lose_nothing(self, storage: DataStorage) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(8):
                group.create_task(storage.store_data("market_data", bars([f"S{number}", "SHARED"])))
        rows = (await storage.retrieve_data(DataQuery("market_data"))).to_pylist()
        expected = bars([*(f"S{number}" for number in range(8)), "SHARED"])
        assert sorted(keys(rows)) == sorted(keys(expected))

    @pytest.mark.parametrize("mode", [None, "upsert", "append", "overwrite"])
    async def test_a_write_that_is_sent_twice_lands_once(self, storage: DataStorage, mode: WriteMode | None) -> None:
        first = await storage.store_data("market_data", bars(), mode=mode, idempotency_key="monday")
        assert (first.rows, first.inserted, first.done_before) == (10, 10, False)
        again = await storage.store_data("market_data", bars(), mode=mode, idempotency_key="monday")
        assert (again.rows, again.unchanged, again.done_before) == (10, 10, True)
        assert again.table_version == first.table_version
        with pytest.raises(IdempotencyKeyReusedError, match="monday"):
            await storage.store_data("market_data", bars(["TSLA"]), mode=mode, idempotency_key="monday")
        rows = (await storage.retrieve_data(DataQuery("market_data"))).to_pylist()
        assert keys(rows) == keys(bars())

    async def test_a_source_that_counts_its_writes(self, storage: DataStorage) -> None:
        for number in (0, 1, 1, 0):
            await storage.store_data(
                "market_data", [bar(day=1 + number)], mode="append", idempotency_key=("feed", number)
            )
        assert (await storage.retrieve_data(DataQuery("market_data"))).rows == 2

    async def test_the_modes_of_writing(self, storage: DataStorage) -> None:
        await storage.store_data("market_data", bars(), mode="append")
        changed = await storage.store_data("market_data", [bar("AAPL", 2, volume=7), bar("TSLA")], mode="upsert")
        assert (changed.inserted, changed.updated) == (1, 1)
        await storage.store_data("market_data", bars(["NVDA"]), mode="overwrite")
        assert keys((await storage.retrieve_data(DataQuery("market_data"))).to_pylist()) == keys(bars(["NVDA"]))
        with pytest.raises(InvalidInputError, match="'replace' is none of 'upsert', 'append', 'overwrite'"):
            await storage.store_data("market_data", bars(), mode="replace")  # type: ignore[arg-type]

    async def test_history_and_going_back(self, storage: DataStorage) -> None:
        versioned = with_versions(storage)
        first = await versioned.store_data("market_data", bars(), inputs=["bars.csv"], code_version="9f2c")
        await versioned.delete_data("market_data", filters={"symbol": "AAPL"})
        newest, before, *_ = await versioned.history("market_data")
        assert newest.version == before.version + 1
        (told,) = read_lineage(before.user_metadata)
        assert (told.inputs, told.code_version) == (("bars.csv",), "9f2c")
        done = await versioned.restore("market_data", first.table_version)
        assert done.restored_version == first.table_version
        rows = (await versioned.retrieve_data(DataQuery("market_data"))).to_pylist()
        assert keys(rows) == keys(bars())
        with pytest.raises(TableVersionNotFoundError):
            await versioned.restore("market_data", 99)

    async def test_upkeep_changes_no_row(self, storage: DataStorage) -> None:
        versioned = with_versions(storage)
        await versioned.store_data("market_data", bars())
        before = await versioned.retrieve_data(DataQuery("market_data"))
        done = await versioned.compact("market_data")
        assert (done.files_removed > done.files_added > 0, done.rows) == (True, 10)
        assert (await versioned.vacuum("market_data")).files == 0
        assert (await versioned.verify("market_data", deep=True)).ok
        assert not (await versioned.repair("market_data", dry_run=False)).removed
        assert (await versioned.retrieve_data(DataQuery("market_data"))).table.equals(before.table)
        files = await versioned.list_files("market_data")
        assert sum(file.rows or 0 for file in files) == 10

    async def test_following_what_changes(self, storage: DataStorage) -> None:
        versioned = with_versions(storage)
        stored = await versioned.store_data("market_data", bars())
        told = [change async for change in versioned.changes("market_data")]
        assert sum(change.rows.num_rows for change in told) == 10
        assert [change async for change in versioned.changes("market_data", stored.table_version)] == []
        assert [change async for change in versioned.changes("market_data", str(told[-1].cursor))] == []

    async def test_closing_twice_is_safe(self, storage: DataStorage) -> None:
        await storage.store_data("market_data", bars())
        await storage.aclose()
        await storage.aclose()
