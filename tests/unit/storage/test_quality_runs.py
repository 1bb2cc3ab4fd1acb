"""Checks run over stored rows: whatever the files, in bounded windows; results are kept, told of, never in the way."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from buffetstore.errors import (
    ConfigurationError,
    InvalidInputError,
    InvalidQueryError,
    TableNotFoundError,
    UnknownDataTypeError,
)
from buffetstore.objects import MemoryStore
from buffetstore.query import DataQuery
from buffetstore.schemas import (
    CrossedQuotes,
    Duplicates,
    Freshness,
    Gaps,
    MarketData,
    NullRate,
    Outliers,
    Quote,
    Record,
    Referential,
    RowsPerDay,
    SchemaManager,
    ServiceLevels,
    StalePrices,
    VolumeSpikes,
)
from buffetstore.schemas.types import Price, Timestamp  # noqa: TC001 - pydantic evaluates the annotations
from buffetstore.storage import LakeStorage
from buffetstore.storage.quality import QualityChecks, on_write
from buffetstore.storage.quality.reading import Pass

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from buffetstore.monitoring import Operation
    from buffetstore.storage.quality import CheckResult, QualityReport

NOW = datetime(2024, 6, 1, tzinfo=UTC)


class Fill(Record, data_type="fills", version="1.0.0", key=("number",), symbol=None, quality=(Duplicates(),)):
    number: int
    timestamp: Timestamp
    price: Price


class Estimate(Record, data_type="estimates", version="1.0.0", key=("symbol", "timestamp"), revisions="keep"):
    symbol: str
    timestamp: Timestamp
    price: Price


class Promised(Quote, data_type="promised", service_levels=ServiceLevels(freshness=timedelta(hours=1))):
    """Quotes that are never older than an hour."""


@pytest.fixture
def told() -> list[Operation]:
    return []


@pytest.fixture
async def lake(told: list[Operation]) -> AsyncIterator[LakeStorage]:
    schemas = SchemaManager([Fill, Estimate, Promised])
    async with MemoryStore() as store, LakeStorage(store, schemas, hook=told.append) as storage:
        yield storage


def bars(days: int = 60, symbols: str = "AB", **changes: Any) -> list[dict[str, Any]]:
    first = datetime(2024, 1, 1, tzinfo=UTC)
    return [
        {
            "symbol": symbol,
            "timestamp": first + timedelta(days=day),
            "price": Decimal(100 + day % 3),
            "volume": 10,
            "data_source": "test",
        }
        | changes
        for day in range(days)
        for symbol in symbols
    ]


def checks_of(lake: LakeStorage, **options: Any) -> QualityChecks:
    async def reach() -> LakeStorage:
        return lake

    return QualityChecks(reach, clock=lambda: NOW, **options)


def by_check(report: QualityReport) -> dict[str, CheckResult]:
    return {result.check: result for result in report.results}


PLANTED = (
    Duplicates(),
    Outliers("price", on="levels", least=5),
    StalePrices("price"),
    VolumeSpikes("volume", least=5),
    NullRate("rsi", bound=1.0),
    RowsPerDay(tolerance=0.4),
)


async def store_with_faults(lake: LakeStorage) -> None:
    """Bars in files that reach across each other: an outlier, a spike, a stale run, a duplicate, a short day."""
    rows = {(row["symbol"], row["timestamp"].timetuple().tm_yday): row for row in bars()}
    rows["A", 30]["price"] = Decimal(900)
    rows["B", 31]["volume"] = 100_000
    for day in range(40, 47):
        rows["A", day]["price"] = Decimal(77)
    del rows["B", 20]
    given = list(rows.values())
    for part in range(3):
        await lake.store_data("market_data", given[part::3], mode="append")
    await lake.store_data("market_data", [rows["B", 50]], mode="append")


@pytest.mark.parametrize("window_rows", [1, 7, 40, 1_000_000])
async def test_planted_faults_are_found_however_few_rows_are_held(lake: LakeStorage, window_rows: int) -> None:
    await store_with_faults(lake)
    report = await checks_of(lake, window_rows=window_rows).run("market_data", PLANTED, store=False)
    found = by_check(report)
    assert {name: result.failed for name, result in found.items()} == {
        "duplicates": 1,
        "outliers_price_levels": 1 + 7,  # the stale run lies off the levels before it, too
        "stale_prices_price": 7,
        "volume_spikes_volume": 1,
        "null_rate_rsi": 120,
        "rows_per_day": 2,  # the short day, and the one with a row twice
    }
    assert found["duplicates"].examples[0]["timestamp"].startswith("2024-02-19")
    assert found["stale_prices_price"].examples == (
        {
            "symbol": "A",
            "interval": "1d",
            "data_source": "test",
            "timestamp": "2024-02-09T00:00:00+00:00",
        },
    )
    assert found["rows_per_day"].examples == (
        {"day": "2024-01-20", "rows": 1, "before": 2.0},
        {"day": "2024-02-19", "rows": 3, "before": 2.0},
    )
    assert (found["duplicates"].start, found["duplicates"].end) == (
        datetime(2024, 1, 1, tzinfo=UTC),
        datetime(2024, 2, 29, tzinfo=UTC),
    )
    assert not report.ok
    assert {result.rows for result in (found["duplicates"], found["null_rate_rsi"])} == {120}


@pytest.mark.parametrize("window_rows", [5, 50])
async def test_no_window_holds_more_than_twice_what_it_may(
    lake: LakeStorage, window_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store_with_faults(lake)
    seen: list[int] = []
    windows = Pass.windows

    async def counting(self: Pass, **options: Any) -> Any:
        async for table in windows(self, **options):
            seen.append(table.num_rows)
            yield table

    monkeypatch.setattr(Pass, "windows", counting)
    await checks_of(lake, window_rows=window_rows).run("market_data", [Duplicates()], store=False)
    assert max(seen) <= 2 * window_rows
    assert sum(seen) == 120


async def test_a_crowd_at_one_moment_is_one_window(lake: LakeStorage) -> None:
    rows = bars(1, "".join(chr(65 + number) for number in range(50)))
    await lake.store_data("market_data", rows)
    report = await checks_of(lake, window_rows=4).run("market_data", [Duplicates()], store=False)
    assert report.results[0].rows == 50


async def test_only_what_is_asked_for_is_judged(lake: LakeStorage) -> None:
    await store_with_faults(lake)
    checks = checks_of(lake)
    ranged = await checks.run("market_data", PLANTED, date_range={"start": "2024-02-01", "end": "2024-02-10"})
    assert by_check(ranged)["duplicates"].rows == 20
    assert ranged.scope == "2024-02-01..2024-02-10"
    single = await checks.run("market_data", ["duplicates"], symbols=["A"])
    assert (single.results[0].rows, single.results[0].status, single.scope) == (60, "passed", "A")
    many = await checks.run("market_data", [Duplicates()], symbols=[*"ABCDEFG"], store=False)
    assert many.scope == "7 symbols"
    nothing = await checks.run("market_data", PLANTED, date_range={"start": "2030-01-01"})
    assert {result.status for result in nothing.results} == {"unknown"}
    assert nothing.ok


async def test_results_are_rows_of_a_data_type_like_any(lake: LakeStorage) -> None:
    await lake.store_data("market_data", bars())
    assert await lake.quality.results() == []
    report = await checks_of(lake).run("market_data", PLANTED)
    later = QualityChecks(lake._self, clock=lambda: NOW + timedelta(days=1))
    await later.run("market_data", [Duplicates()])
    await later.run("market_data", [Duplicates()], store=False)
    kept = await lake.quality.results("market_data")
    assert len(kept) == len(PLANTED) + 1
    assert kept[0].ran_at == NOW + timedelta(days=1)
    assert {result.check: result for result in kept[1:]} == by_check(report)
    assert len(await lake.quality.results(since=NOW + timedelta(hours=1))) == 1
    assert await lake.quality.results("forecasts") == []
    with pytest.raises(InvalidQueryError, match="nonsense"):
        await lake.quality.results(since="nonsense")
    answer = await lake.retrieve_data(DataQuery("quality_results", {"status": "passed", "check": "duplicates"}))
    assert answer.rows == 2
    assert "quality_results" in await lake.list_data_types()


async def test_a_report_in_plain_values(lake: LakeStorage) -> None:
    await store_with_faults(lake)
    summary = (await checks_of(lake).run("market_data", PLANTED)).summary()
    assert (summary["ok"], summary["passed"] + summary["failed"] + summary["unknown"]) == (False, 6)
    assert (summary["table_version"], summary["ran_at"]) == (4, NOW)
    assert summary["bytes_read"] > 0
    assert summary["results"][0]["check"] == "duplicates"


async def test_severity_decides_whether_a_failure_counts(lake: LakeStorage) -> None:
    await store_with_faults(lake)
    report = await checks_of(lake).run("market_data", [Duplicates(severity="warning")], store=False)
    assert (report.ok, len(report.failed)) == (True, 1)


async def test_metrics_are_told_of_every_check(lake: LakeStorage, told: list[Operation]) -> None:
    await store_with_faults(lake)
    await lake.quality.run("market_data", [Duplicates(), NullRate("price"), Gaps("1d")], store=False)
    found = {each.subject: dict(each.counts) for each in told if each.name == "quality.check"}
    assert found == {
        "market_data/duplicates": {"rows": 120, "failed": 1, "status": 1},
        "market_data/null_rate_price": {"rows": 120, "failed": 0, "status": 0},
        "market_data/gaps_1d": {"rows": 0, "failed": 0, "status": 2},
    }


# Kinds of data types


async def test_revisions_are_no_duplicates_unless_one_is_there_twice(lake: LakeStorage) -> None:
    row = {"symbol": "A", "timestamp": datetime(2024, 1, 2, tzinfo=UTC), "price": 1}
    stamp = datetime(2024, 1, 3, tzinfo=UTC)
    await lake.store_data("estimates", [row | {"created_at": stamp}])
    await lake.store_data("estimates", [row | {"price": 2, "created_at": stamp + timedelta(hours=1)}])
    checks = [Duplicates(), NullRate("price")]
    clean = by_check(await lake.quality.run("estimates", checks, store=False))
    assert (clean["duplicates"].rows, clean["duplicates"].failed, clean["null_rate_price"].rows) == (2, 0, 1)
    await lake.store_data("estimates", [row | {"created_at": stamp}], mode="append")
    again = by_check(await lake.quality.run("estimates", checks, store=False))
    assert (again["duplicates"].rows, again["duplicates"].failed, again["null_rate_price"].rows) == (3, 1, 1)


@pytest.mark.parametrize("window_rows", [2, 1_000_000])
async def test_keys_without_a_time_are_compared_over_all_time(lake: LakeStorage, window_rows: int) -> None:
    first = datetime(2024, 1, 2, tzinfo=UTC)
    rows = [{"number": number, "timestamp": first + timedelta(days=number), "price": 1} for number in range(20)]
    await lake.store_data("fills", rows)
    await lake.store_data("fills", [rows[3] | {"timestamp": first + timedelta(days=300)}], mode="append")
    report = await checks_of(lake, window_rows=window_rows).run("fills", store=False)
    assert [(result.rows, result.failed) for result in report.results] == [(21, 1)]
    assert report.results[0].examples[0]["number"] == 3
    with pytest.raises(InvalidQueryError, match="fills has no symbol"):
        await lake.quality.run("fills", symbols=["A"])


async def test_a_column_that_the_table_does_not_have_yet_is_null(lake: LakeStorage) -> None:
    rows = [row | {"version": "1.0.0"} for row in bars(3)]
    await lake.store_data("market_data", rows, version="1.0.0")
    report = await lake.quality.run("market_data", [NullRate("beta")], store=False)
    assert (report.results[0].rows, report.results[0].failed) == (6, 6)


async def test_underlyings_are_looked_up_day_by_day(lake: LakeStorage) -> None:
    option = {"timestamp": "2024-01-02T20:00:00Z", "expiration_date": "2024-03-15", "strike_price": 100}
    option |= {"option_type": "call", "data_source": "test"}
    given = [option | {"underlying_symbol": symbol} for symbol in ("A", "B", "Z")]
    given += [option | {"underlying_symbol": "A", "timestamp": "2024-05-02T20:00:00Z"}]
    await lake.store_data("options_data", given)
    check = Referential("underlying_symbol", "market_data")
    unknown = (await lake.quality.run("options_data", [check], store=False)).results[0]
    assert (unknown.status, unknown.failed, unknown.examples) == ("unknown", 0, ())
    assert "no market_data" in unknown.message
    await lake.store_data("market_data", bars(3))
    found = (await lake.quality.run("options_data", [check], store=False)).results[0]
    assert (found.status, found.rows, found.failed) == ("failed", 4, 2)
    assert found.examples == (
        {"underlying_symbol": "Z", "day": "2024-01-02"},
        {"underlying_symbol": "A", "day": "2024-05-02"},
    )
    nowhere = await lake.quality.run("options_data", [Referential("underlying_symbol", "no_type")], store=False)
    assert (nowhere.results[0].status, "no_type" in nowhere.results[0].message) == ("unknown", True)


# Freshness


@pytest.mark.parametrize("symbols", [None, ["A"], ["C"]])
async def test_freshness_reads_the_newest_rows_alone(lake: LakeStorage, symbols: list[str] | None) -> None:
    for day in (5, 20, 59):
        await lake.store_data("market_data", [row for row in bars() if row["timestamp"].timetuple().tm_yday == day])
    check = Freshness(within=timedelta(days=94))
    result = (await checks_of(lake).run("market_data", [check], symbols=symbols, store=False)).results[0]
    if symbols == ["C"]:
        assert result.status == "unknown"
        return
    assert (result.status, result.measured) == ("passed", timedelta(days=93).total_seconds())
    assert result.rows == (2 if symbols is None else 1)


async def test_promised_freshness_is_held_to_without_a_declared_check(lake: LakeStorage) -> None:
    stamp = NOW - timedelta(hours=2)
    row = {"symbol": "A", "timestamp": stamp, "sequence": 1, "data_source": "x", "bid": 1, "ask": 2}
    await lake.store_data("promised", [row])
    report = await checks_of(lake).run("promised", store=False)
    assert [result.check for result in report.results] == ["freshness", "duplicates", "crossed_quotes"]
    assert (report.results[0].status, report.results[0].measured, report.results[0].bound) == ("failed", 7200, 3600)


# On write


def quotes(crossed: int) -> list[dict[str, Any]]:
    row = {"symbol": "A", "timestamp": "2024-01-02T15:00:00Z", "data_source": "test", "ask": Decimal(2)}
    return [row | {"sequence": number, "bid": Decimal(3 if number < crossed else 1)} for number in range(10)]


async def test_a_batch_is_judged_as_it_is_stored(lake: LakeStorage, told: list[Operation]) -> None:
    clean = await lake.store_data("quotes", quotes(0))
    assert not clean.warnings
    stored = await lake.store_data("promised", quotes(2))
    (finding,) = [each for each in stored.warnings if each.error_type == "quality.crossed_quotes"]
    assert (finding.field, finding.record_index) == ("bid", 0)
    assert finding.message == "crossed_quotes: 2 of 10 rows (20.0000%), at most 0.1000%"
    assert [each.subject for each in told if each.name == "quality.batch"] == ["promised/crossed_quotes"]
    assert (await lake.retrieve_data(DataQuery("promised"))).rows == 10


async def test_spikes_within_a_batch(lake: LakeStorage) -> None:
    rows = bars(30, "A")
    rows[25]["volume"] = 100_000
    stored = await lake.store_data("market_data", rows)
    assert [(each.error_type, each.record_index) for each in stored.warnings] == [("quality.volume_spikes_volume", 25)]


@pytest.mark.parametrize("rows", [10, 11])
async def test_a_batch_that_is_too_small_to_tell_is_not_looked_at(
    lake: LakeStorage, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    findings = on_write._findings
    monkeypatch.setattr(on_write, "_findings", lambda *given: seen.append(given[2].num_rows) or findings(*given))
    batch = bars(rows, "A")
    batch[-1]["volume"] = 100_000
    stored = await lake.store_data("market_data", batch)
    assert (seen, len(stored.warnings)) == (([], 0) if rows == 10 else ([11], 1))


async def test_a_check_that_breaks_does_not_fail_rows_that_are_stored(
    lake: LakeStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("broken")

    monkeypatch.setattr(on_write, "tally_of", broken)
    stored = await lake.store_data("quotes", quotes(0))
    assert [each.message for each in stored.warnings] == [
        "crossed_quotes could not be run on the batch: ZeroDivisionError('broken')"
    ]
    assert (await lake.retrieve_data(DataQuery("quotes"))).rows == 10


# Bad input, cancelling


async def test_what_cannot_be_run(lake: LakeStorage) -> None:
    run = lake.quality.run
    with pytest.raises(UnknownDataTypeError, match="market_dat"):
        await run("market_dat")
    with pytest.raises(TableNotFoundError, match="market_data"):
        await run("market_data")
    await lake.store_data("market_data", bars(3))
    for checks, message in (
        (["duplicats"], "declares no check 'duplicats'; it declares gaps_1d, duplicates"),
        ([NullRate("nothing")], "names 'nothing', which is no column"),
        ([CrossedQuotes()], "'bid'"),
        ([Duplicates(), Duplicates()], "two quality checks are called 'duplicates'"),
        ([7], "not a tuple of checks"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            await run("market_data", checks)
    with pytest.raises(InvalidQueryError, match="date_range"):
        await run("market_data", date_range={"start": "yesterday"})
    with pytest.raises(ConfigurationError, match=r"calendars|NOPE"):
        await run("market_data", [Gaps(calendar="NOPE")])
    assert "quality_results" not in await lake.list_data_types()


async def test_a_run_that_is_cancelled_leaves_nothing(lake: LakeStorage) -> None:
    await store_with_faults(lake)
    for steps in range(1, 40, 3):
        task = asyncio.ensure_future(checks_of(lake, window_rows=10).run("market_data", PLANTED))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(asyncio.all_tasks()) == 1
    assert "quality_results" not in await lake.list_data_types()
    assert len((await lake.quality.run("market_data", PLANTED)).results) == len(PLANTED)


def test_contracts_of_ours_can_be_run() -> None:
    assert [check.label for check in SchemaManager([MarketData]).contract("market_data").quality if check.on_write] == [
        "volume_spikes_volume"
    ]
