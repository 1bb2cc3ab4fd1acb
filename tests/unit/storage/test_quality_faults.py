"""Each check finds exactly the fault that was planted, and nothing in clean rows."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
import pytest

from buffetstore.errors import ConfigurationError, MissingDependencyError
from buffetstore.schemas import (
    CrossedQuotes,
    Duplicates,
    Freshness,
    Gaps,
    InRange,
    MarketData,
    NullRate,
    Outliers,
    Quote,
    Record,
    RowsPerDay,
    Sensitivity,
    ServiceLevels,
    StalePrices,
    VolumeSpikes,
    contract_of,
    sessions,
)
from buffetstore.schemas.sessions import sessions_of
from buffetstore.schemas.types import Price, Timestamp  # noqa: TC001 - pydantic evaluates the annotations
from buffetstore.storage.quality.tallies import secret_columns, tally_of
from buffetstore.storage.quality.window import WITHHELD, Window

if TYPE_CHECKING:
    from buffetstore.schemas import QualityCheck
    from buffetstore.schemas.contract import Contract
    from buffetstore.storage.quality.tally import Tally

BARS, QUOTES = contract_of(MarketData), contract_of(Quote)
NOW = datetime(2024, 7, 1, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def window(rows: list[dict[str, Any]], contract: Contract = BARS) -> Window:
    names = [name for name in contract.schema.names if any(name in row for row in rows)]
    schema = pa.schema([contract.schema.field(name).with_nullable(True) for name in names])
    return Window(pa.Table.from_pylist(rows, schema=schema), contract, secret_columns(contract))


def judged(
    check: QualityCheck, rows: list[dict[str, Any]], contract: Contract = BARS, now: datetime = NOW
) -> Tally[Any]:
    tally = tally_of(check, contract, now)
    if rows:
        tally.observe(window(rows, contract))
    tally.finish()
    return tally


def bar(when: str | datetime, **changes: Any) -> dict[str, Any]:
    stamp = at(when) if isinstance(when, str) else when
    row = {"symbol": "A", "timestamp": stamp, "interval": "1d", "data_source": "x", "exchange": "XNAS"}
    return row | {"price": Decimal(100), "volume": 10} | changes


def daily(count: int, first: date = date(2024, 1, 1), **changes: Any) -> list[dict[str, Any]]:
    midnight = datetime(first.year, first.month, first.day, tzinfo=UTC)
    return [bar(midnight + timedelta(days=day), price=Decimal(100 + day % 2), **changes) for day in range(count)]


def quote(second: int, bid: Any, ask: Any) -> dict[str, Any]:
    stamp = at("2024-01-02T15:00:00") + timedelta(seconds=second)
    return {"symbol": "A", "timestamp": stamp, "sequence": second, "data_source": "x", "bid": bid, "ask": ask}


ROW_CHECKS = [
    Gaps("1d", calendar="XNAS"),
    *(Duplicates(), Outliers("price"), StalePrices("price"), VolumeSpikes("volume"), NullRate("price")),
    *(InRange("price", low=0), RowsPerDay()),
]


@pytest.mark.parametrize("check", ROW_CHECKS, ids=lambda check: check.label)
@pytest.mark.parametrize("count", [0, 1])
def test_of_no_row_nothing_can_be_told_and_one_row_is_no_fault(check: QualityCheck, count: int) -> None:
    if isinstance(check, Gaps):
        pytest.importorskip("exchange_calendars")
    tally = judged(check, daily(count, date(2024, 1, 2)))
    assert tally.failed == 0
    assert tally.status == ("passed" if tally.rows else "unknown")
    assert count or tally.status == "unknown"
    assert tally.message


@pytest.mark.parametrize("check", ROW_CHECKS[1:], ids=lambda check: check.label)
def test_clean_rows_pass(check: QualityCheck) -> None:
    tally = judged(check, daily(90))
    assert (tally.status, tally.failed) == ("passed", 0)
    assert tally.rows > 50


# Crossed quotes


@pytest.mark.parametrize(
    ("bid", "ask", "rows", "failed"),
    [
        ("10.1", "10.0", 1, 1),
        ("10", "10", 1, 0),  # locked, not crossed
        (None, "10", 0, 0),
        ("10", None, 0, 0),
        ("1234567890.12345679", "1234567890.12345678", 1, 1),  # nearer than floats can tell
    ],
)
def test_crossed_quotes(bid: str | None, ask: str | None, rows: int, failed: int) -> None:
    given = quote(0, None if bid is None else Decimal(bid), None if ask is None else Decimal(ask))
    tally = judged(CrossedQuotes(), [given], QUOTES)
    assert (tally.rows, tally.failed) == (rows, failed)


def test_the_bound_is_a_share_that_may_fail() -> None:
    quotes = [quote(second, Decimal(2 if second == 3 else 1), Decimal(1)) for second in range(10)]
    assert judged(CrossedQuotes(bound=0.1), quotes, QUOTES).status == "passed"
    tally = judged(CrossedQuotes(bound=0.0999), quotes, QUOTES)
    assert (tally.status, tally.first) == ("failed", 3)
    assert tally.message == "1 of 10 rows (10.0000%), at most 9.9900%"
    assert tally.examples == [
        {"symbol": "A", "timestamp": "2024-01-02T15:00:03+00:00", "sequence": 3, "data_source": "x"}
    ]


# Nulls and ranges


def test_nan_is_null() -> None:
    rows = [bar("2024-01-02", rsi=value) for value in (None, float("nan"), 50.0, 0.0)]
    assert (judged(NullRate("rsi"), rows).failed, judged(NullRate("rsi"), rows).rows) == (2, 4)
    assert (judged(InRange("rsi", low=0, high=50), rows).failed, judged(InRange("rsi", low=0), rows).rows) == (0, 2)
    assert judged(InRange("rsi", low=0.1), rows).failed == 1


def test_a_day_with_far_more_nulls_than_before_is_drift() -> None:
    rows = [row | {"rsi": None if day == 20 else 50.0} for day, row in enumerate(daily(30))]
    assert judged(NullRate("rsi", bound=0.5), rows).status == "passed"
    tally = judged(NullRate("rsi", bound=0.5, drift=0.3), rows)
    assert tally.status == "failed"
    assert "on 2024-01-21 100.00% of rsi is null, 0.00% before (1 such days)" in tally.message


# Along a series


def test_one_bad_level_is_one_outlier() -> None:
    rows = daily(60)
    rows[40]["price"] = Decimal(300)
    tally = judged(Outliers("price", on="levels"), rows)
    assert (tally.failed, [each["timestamp"] for each in tally.examples]) == (1, ["2024-02-10T00:00:00+00:00"])


def test_one_bad_price_goes_and_comes_back_in_returns() -> None:
    rows = daily(60)
    rows[40]["price"] = Decimal(300)
    assert [each["timestamp"][:10] for each in judged(Outliers("price"), rows).examples] == ["2024-02-10", "2024-02-11"]


def test_series_are_not_mixed() -> None:
    high = [row | {"symbol": "B", "price": row["price"] * 1000} for row in daily(60)]
    mixed = [row for pair in zip(daily(60), high, strict=True) for row in pair]
    assert judged(Outliers("price", on="levels"), mixed).failed == 0
    assert judged(StalePrices("price"), mixed).failed == 0


def test_a_flat_price_that_moves_by_a_cent_is_no_outlier() -> None:
    rows = [row | {"price": Decimal("100.01" if day == 40 else 100)} for day, row in enumerate(daily(60))]
    assert judged(Outliers("price"), rows).failed == 0


@pytest.mark.parametrize(("equal", "failed"), [(4, 0), (5, 5), (6, 6)])
def test_stale_prices_count_from_the_bound_on(equal: int, failed: int) -> None:
    rows = daily(30)
    for row in rows[10 : 10 + equal]:
        row["price"] = Decimal(7)
    tally = judged(StalePrices("price", rows=5), rows)
    assert tally.failed == failed
    if failed:
        assert [example["timestamp"] for example in tally.examples] == ["2024-01-11T00:00:00+00:00"]


@pytest.mark.parametrize("volume", [0, None])
def test_a_price_that_does_not_trade_is_not_stale(volume: int | None) -> None:
    assert judged(StalePrices("price"), daily(30, volume=volume)).status == "unknown"
    rows = [bar(at("2024-01-02") + timedelta(days=day)) for day in range(8)]
    rows[4]["volume"] = volume
    assert judged(StalePrices("price"), rows).failed == 0


@pytest.mark.parametrize(("volume", "failed"), [(200, 0), (201, 1)])
def test_a_volume_spike_is_above_the_factor(volume: int, failed: int) -> None:
    rows = daily(30)
    rows[20]["volume"] = volume
    assert judged(VolumeSpikes("volume", factor=20), rows).failed == failed


# Sets and days


def test_every_further_row_of_a_key_is_a_duplicate() -> None:
    rows = daily(5)
    tally = judged(Duplicates(), [*rows, rows[2], rows[2]])
    assert (tally.rows, tally.failed) == (7, 2)
    assert {example["timestamp"] for example in tally.examples} == {"2024-01-03T00:00:00+00:00"}


def test_a_day_with_half_of_its_rows_is_found_and_today_is_not_judged() -> None:
    rows = [row | {"symbol": symbol} for row in daily(20) for symbol in "ABCD"]
    rows = [row for row in rows if row["timestamp"] != at("2024-01-15") or row["symbol"] == "A"]
    tally = judged(RowsPerDay(), rows)
    assert tally.examples == [{"day": "2024-01-15", "rows": 1, "before": 4.0}]
    assert judged(RowsPerDay(), rows, now=at("2024-01-15T12:00:00")).failed == 0


# Calendars


def missing(check: Gaps, stamps: list[datetime], **changes: Any) -> tuple[int, int, list[str]]:
    tally = judged(check, [bar(stamp, **changes) for stamp in stamps])
    return tally.rows, tally.failed, [example["timestamp"] for example in tally.examples]


def stamps(first: str, last: str, how: str, mic: str = "XNAS") -> list[datetime]:
    """Return a stamp for each session."""
    found, low, high = sessions_of(mic), date.fromisoformat(first), date.fromisoformat(last)
    wanted = [number for number, day in enumerate(found.days.tolist()) if low <= day <= high]
    days = [datetime(day.year, day.month, day.day, tzinfo=UTC) for day in found.days[wanted].tolist()]
    moments = {"close": found.closes, "open": found.opens}
    if how in moments:
        return [moment.replace(tzinfo=UTC) for moment in moments[how][wanted].tolist()]
    return days


@pytest.mark.parametrize(
    ("mic", "how"),
    [
        *((mic, how) for mic in ("XNAS", "XTKS", "XLON") for how in ("midnight", "open", "close")),
        ("24/7", "midnight"),  # the close of a day is the open of the next
    ],
)
def test_a_year_without_a_gap_has_none_through_holidays_half_days_and_summer_time(mic: str, how: str) -> None:
    pytest.importorskip("exchange_calendars")
    found = stamps("2024-01-01", "2024-12-31", how, mic)
    assert missing(Gaps("1d", calendar=mic), found) == (len(found), 0, [])


@pytest.mark.parametrize("hour", [16, 0])
def test_stamps_at_the_usual_close_fit_half_days(hour: int) -> None:
    pytest.importorskip("exchange_calendars")
    from zoneinfo import ZoneInfo

    days = stamps("2024-11-20", "2024-12-10", "midnight")  # the 29th closes at 13:00
    local = [day.replace(hour=hour, tzinfo=ZoneInfo("America/New_York")) for day in days]
    assert missing(Gaps("1d", calendar="XNAS"), [stamp.astimezone(UTC) for stamp in local])[1] == 0


def test_sessions_that_are_not_there_are_found_and_other_days_are_not_asked_for() -> None:
    pytest.importorskip("exchange_calendars")
    found = stamps("2024-01-02", "2024-01-31", "midnight")
    left = [stamp for stamp in found if stamp.day not in {9, 10, 16, 31}]  # the 15th is a holiday, the 31st the last
    assert missing(Gaps("1d", calendar="XNAS"), left) == (
        20,
        3,
        ["2024-01-09T00:00:00+00:00", "2024-01-16T00:00:00+00:00"],
    )
    weekend = [*left, at("2024-01-13"), at("2024-01-14")]
    assert missing(Gaps("1d", calendar="XNAS"), weekend)[:2] == (20, 3)


def test_minutes_are_expected_from_open_to_close_without_the_break() -> None:
    pytest.importorskip("exchange_calendars")
    open_, close = at("2024-07-03T13:30:00"), at("2024-07-03T17:00:00")  # a half day
    minutes = [open_ + timedelta(minutes=number) for number in range(210)]
    assert minutes[-1] == close - timedelta(minutes=1)
    check = Gaps("1m", calendar="XNAS")
    next_open = at("2024-07-05T13:30:00")  # over a holiday
    assert missing(check, [*minutes, next_open], interval="1m") == (211, 0, [])
    assert missing(check, [*minutes[:50], *minutes[53:], close], interval="1m") == (210, 3, [minutes[50].isoformat()])
    tokyo = [at("2024-01-04T00:00:00") + timedelta(minutes=number) for number in (*range(150), *range(210, 360))]
    assert missing(Gaps("1m", calendar="XTKS"), tokyo, interval="1m") == (300, 0, [])
    assert missing(Gaps("1m", calendar="XTKS"), tokyo[:149] + tokyo[151:], interval="1m") == (
        300,
        2,
        [tokyo[149].isoformat()],
    )


def test_bars_of_another_length_do_not_count() -> None:
    pytest.importorskip("exchange_calendars")
    rows = [bar("2024-01-02"), bar("2024-01-04"), bar("2024-01-03", interval="1m")]
    assert judged(Gaps("1d"), rows).failed == 1


def test_the_calendar_is_what_rows_state() -> None:
    pytest.importorskip("exchange_calendars")
    stated = [bar(day, exchange=mic, symbol=mic) for mic in ("XNAS", "XLON") for day in ("2024-01-12", "2024-01-16")]
    tally = judged(Gaps("1d"), stated)  # the 15th is a holiday in New York alone
    assert (tally.rows, tally.failed, tally.examples[0]["symbol"]) == (5, 1, "XLON")
    assert judged(Gaps("1d"), [bar("2024-01-12", exchange=None)]).status == "unknown"
    assert "Gaps(calendar='XNAS')" in judged(Gaps("1d"), [bar("2024-01-12", exchange=None)]).message
    assert "'????'" in judged(Gaps("1d"), [bar("2024-01-12", exchange="????")]).message
    assert "no column 'exchange'" in judged(Gaps("1d"), [], contract_of(Secret)).message


def test_completeness_of_the_contract_is_the_bound() -> None:
    pytest.importorskip("exchange_calendars")

    class Bars(MarketData, service_levels=ServiceLevels(completeness=0.5)):
        """Half of them."""

    rows = [bar("2024-01-02"), bar("2024-01-04")]
    assert judged(Gaps("1d"), rows, contract_of(Bars)).status == "passed"
    assert judged(Gaps("1d"), rows).status == "failed"


def test_without_the_package_a_named_calendar_is_an_error_and_a_stated_one_cannot_be_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sessions, "find_spec", lambda name: None)
    sessions_of.cache_clear()
    with pytest.raises(MissingDependencyError, match=r"buffetstore\[calendars\]"):
        judged(Gaps("1d", calendar="XNAS"), [])
    tally = judged(Gaps("1d"), [bar("2024-01-02")])
    assert (tally.status, "buffetstore[calendars]" in tally.message) == ("unknown", True)


def test_an_exchange_that_there_is_not() -> None:
    pytest.importorskip("exchange_calendars")
    for check in (Gaps("1d", calendar="NOPE"), Freshness(within=timedelta(1), calendar="NOPE")):
        with pytest.raises(ConfigurationError, match="'NOPE'"):
            judged(check, [])


# Freshness


@pytest.mark.parametrize(
    ("newest", "now", "calendar", "hours"),
    [
        ("2024-06-28", "2024-07-01T20:00:00", "XNAS", 24),  # Friday's close to Monday's: a weekend is no age
        ("2024-06-28", "2024-06-30T23:00:00", "XNAS", 4),  # on Sunday Friday is as new as it can be
        ("2024-07-03", "2024-07-05T17:00:00", "XNAS", 24),  # the 4th is a holiday, the 3rd a half day
        ("2024-06-28", "2024-07-01T20:00:00", None, 68),
        ("2024-06-28", "2024-06-28T12:00:00", "XNAS", 0),  # the bar has not ended yet
    ],
)
def test_the_age_of_the_newest_bar(newest: str, now: str, calendar: str | None, hours: float) -> None:
    pytest.importorskip("exchange_calendars")
    exchange = calendar and "XNAS"
    rows = [bar("2024-01-02", exchange=exchange), bar(newest, exchange=exchange)]
    tally = judged(Freshness(within=timedelta(hours=24)), rows, now=at(now))
    assert tally.measured == hours * 3600
    assert tally.status == ("passed" if hours <= 24 else "failed")


def test_freshness_is_what_the_contract_promises() -> None:
    class Bars(MarketData, service_levels=ServiceLevels(freshness=timedelta(minutes=5))):
        """Fresh."""

    row = bar("2024-07-01T00:00:00", interval="1m", exchange=None)
    now = at("2024-07-01T00:06:00")
    assert judged(Freshness(), [row], contract_of(Bars), now).status == "passed"
    late = judged(Freshness(), [row], contract_of(Bars), now + timedelta(microseconds=1))
    assert (late.status, late.failed, late.examples[0]["symbol"]) == ("failed", 1, "A")
    assert judged(Freshness(), [row]).status == "unknown"
    assert "promises no freshness" in judged(Freshness(), [row]).message


# Confidential values


class Secret(Record, data_type="secrets", version="1.0.0", key=("account", "timestamp"), symbol=None):
    account: Annotated[str, Sensitivity.CONFIDENTIAL]
    timestamp: Timestamp
    price: Price


def test_keys_leave_confidential_values_out() -> None:
    row = {"account": "12345", "timestamp": at("2024-01-02"), "price": Decimal(1)}
    tally = judged(Duplicates(), [row, row], contract_of(Secret))
    assert tally.examples == [{"account": WITHHELD, "timestamp": "2024-01-02T00:00:00+00:00"}]
    stale = judged(StalePrices("price", volume="price", rows=2), [row, row], contract_of(Secret))
    assert "12345" not in str(stale.examples)
    assert stale.failed == 2
