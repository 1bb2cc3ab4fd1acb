"""Nothing is seen before it could be known: bars are stamped at their start, and known at their end."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buffetstore.expressions import col, count
from buffetstore.objects import MemoryStore
from buffetstore.query import DataQuery
from buffetstore.schemas import Record, SchemaManager
from buffetstore.schemas.types import Timestamp  # noqa: TC001 - pydantic evaluates the annotations
from buffetstore.storage import LakeStorage

if TYPE_CHECKING:
    Row = dict[str, Any]

calendars = pytest.importorskip("exchange_calendars", reason="needs the extra: calendars")

ZONES = {"XNAS": "America/New_York", "XLON": "Europe/London", "XTKS": "Asia/Tokyo"}
# Clock changes, half days, and ordinary ones.
DAYS = [date(2024, *day) for day in ((3, 8), (3, 11), (7, 3), (10, 28), (11, 4), (11, 29), (12, 24), (12, 23))]
pytestmark = pytest.mark.timeout(1800)  # many examples, where they are asked for
FEW = settings(max_examples=max(8, settings.default.max_examples // 4))


class Signal(Record, data_type="signals", version="1.0.0", key=("symbol", "timestamp", "n")):
    symbol: str
    timestamp: Timestamp
    n: int


class Restated(Record, data_type="restated", version="1.0.0", key=("symbol", "timestamp"), revisions="keep"):
    symbol: str
    timestamp: Timestamp
    value: int
    available_at: Timestamp | None = None


SCHEMAS = SchemaManager([Signal, Restated])


def sessions() -> dict[tuple[str, date], tuple[datetime, datetime]]:
    """Return the open and the close of each exchange's sessions, as its calendar says."""
    found = {}
    for mic in ZONES:
        calendar = calendars.get_calendar(mic, start="2024-01-01", end="2024-12-31")
        for day in DAYS:
            if calendar.is_session(str(day)):
                moments = calendar.session_open(str(day)), calendar.session_close(str(day))
                found[mic, day] = tuple(moment.to_pydatetime().astimezone(UTC) for moment in moments)
    return found


SESSIONS = sessions()


@st.composite
def bars(draw: Any) -> tuple[Row, datetime]:
    """A bar, and when it could be known."""
    symbol = draw(st.sampled_from(["A", "B"]))
    interval = draw(st.sampled_from(["1m", "1h", "1d", "1d", "1d"]))
    exchange, day = draw(st.sampled_from(sorted(SESSIONS)))
    opened, closed = SESSIONS[exchange, day]
    midnight = datetime.combine(day, time(), UTC)
    if interval == "1d":
        is_known = draw(st.booleans())
        local = datetime.combine(day, time(), ZoneInfo(ZONES[exchange])).astimezone(UTC)
        start = draw(st.sampled_from([midnight, local, opened] if is_known else [midnight, opened]))
        exchange = exchange if is_known else draw(st.sampled_from([None, "XXXX"]))
        known = closed if is_known else datetime.combine(start.date() + timedelta(days=1), time(), UTC)
    else:
        length = timedelta(minutes=1) if interval == "1m" else timedelta(hours=1)
        start = midnight + draw(st.integers(0, 23)) * length
        known = start + length
    row = {
        "symbol": symbol,
        "timestamp": start,
        "interval": interval,
        "exchange": exchange,
        "price": draw(st.integers(1, 9)),
        "volume": 1,
        "data_source": "test",
    }
    if draw(st.integers(0, 5)) == 0:
        known = row["available_at"] = start + timedelta(minutes=draw(st.integers(0, 5000)))
    return row, known


def key_of(row: Row) -> tuple[Any, ...]:
    return row["symbol"], row["timestamp"], row["interval"]


histories = st.lists(bars(), min_size=1, max_size=12, unique_by=lambda pair: key_of(pair[0]))
NEAR = [timedelta(0), timedelta(microseconds=-1), timedelta(microseconds=1), timedelta(hours=-3), timedelta(days=1)]


@st.composite
def looked_at(draw: Any) -> tuple[list[tuple[Row, datetime]], list[datetime]]:
    """Bars, and moments around those at which they became known."""
    found = draw(histories)
    moments = [known + draw(st.sampled_from(NEAR)) for _, known in found][:3]
    return found, [*moments, found[0][0]["timestamp"]]


async def stored(lake: LakeStorage, found: list[tuple[Row, datetime]], parts: int) -> None:
    for at in range(parts):
        rows = [row for row, _ in found[at::parts]]
        if rows:
            await lake.store_data("market_data", rows)


@FEW
@given(case=looked_at(), parts=st.integers(1, 3), compacted=st.booleans())
async def test_known_at_shows_what_had_ended_and_all_of_it(case: Any, parts: int, compacted: bool) -> None:
    found, moments = case
    async with MemoryStore() as store, LakeStorage(store, SCHEMAS) as lake:
        await stored(lake, found, parts)
        if compacted:
            await lake.compact("market_data")
        for moment in moments:
            seen = [row for row, known in found if known <= moment]
            options: dict[str, Any] = {"known_at": moment}
            every = (await lake.retrieve_data(DataQuery("market_data", **options))).to_pylist()
            assert sorted(map(key_of, every)) == sorted(map(key_of, seen))
            scanned = [row async for part in lake.scan(DataQuery("market_data", **options)) for row in part.to_pylist()]
            assert sorted(map(key_of, scanned)) == sorted(map(key_of, seen))
            # What is made of rows is made of those alone: a maximum would tell of the future, too.
            (made,) = (
                await lake.retrieve_data(
                    DataQuery("market_data", aggregates={"n": count(), "high": col("price").max()}, **options)
                )
            ).to_pylist()
            assert (made["n"], made["high"]) == (len(seen), max((row["price"] for row in seen), default=None))
            last = (await lake.retrieve_data(DataQuery("market_data", latest=["symbol"], **options))).to_pylist()
            wanted = {symbol: [row["timestamp"] for row in seen if row["symbol"] == symbol] for symbol in ("A", "B")}
            assert {row["symbol"]: row["timestamp"] for row in last} == {
                symbol: max(times) for symbol, times in wanted.items() if times
            }
            assert (await lake.retrieve_data(DataQuery("market_data", columns=["symbol"], **options))).rows == len(seen)
            top = DataQuery("market_data", order_by="-timestamp", limit=1, **options)
            newest = (await lake.retrieve_data(top)).to_pylist()
            assert [row["timestamp"] for row in newest] == sorted(row["timestamp"] for row in seen)[-1:]


@FEW
@given(case=looked_at(), parts=st.integers(1, 3))
async def test_a_join_never_looks_ahead_and_never_looks_away(case: Any, parts: int) -> None:
    found, moments = case
    known = {key_of(row): at for row, at in found}
    signals = [{"symbol": "A", "timestamp": moment, "n": n} for n, moment in enumerate(moments)]
    async with MemoryStore() as store, LakeStorage(store, SCHEMAS) as lake:
        await stored(lake, found, parts)
        await lake.store_data("signals", signals)
        answer = await lake.join_asof(
            DataQuery("signals", columns=["symbol", "timestamp"]),
            DataQuery("market_data", columns=["timestamp", "interval", "price"]),
        )
    assert answer.rows == len(moments)
    for row in answer.to_pylist():
        seen = [key for key, at in known.items() if key[0] == "A" and at <= row["timestamp"]]
        if not seen:
            assert row["timestamp_right"] is None
            continue
        taken = ("A", row["timestamp_right"], row["interval"])
        assert known[taken] <= row["timestamp"]
        assert taken[1] == max(key[1] for key in seen)


revisions = st.lists(
    st.tuples(st.sampled_from(["A", "B"]), st.integers(0, 2), st.integers(0, 9), st.integers(0, 48)),
    min_size=1,
    max_size=8,
)


@FEW
@given(given_=revisions, hour=st.integers(0, 50), compacted=st.booleans())
async def test_of_revisions_the_last_that_was_known(given_: Any, hour: int, compacted: bool) -> None:
    first = datetime(2024, 1, 1, tzinfo=UTC)
    moment = first + timedelta(hours=hour)
    expected: dict[Any, int] = {}
    stored_now: dict[Any, Any] = {}
    async with MemoryStore() as store, LakeStorage(store, SCHEMAS) as lake:
        for symbol, day, value, known in given_:
            at = first + timedelta(days=day - 5)
            told = {"symbol": symbol, "timestamp": at, "value": value, "available_at": first + timedelta(hours=known)}
            await lake.store_data("restated", [told])
            is_new = stored_now.get((symbol, at)) != (value, known)
            stored_now[symbol, at] = value, known
            if is_new and known <= hour:
                expected[symbol, at] = value
        if compacted:
            await lake.compact("restated")
        answer = await lake.retrieve_data(DataQuery("restated", known_at=moment))
    assert {(row["symbol"], row["timestamp"]): row["value"] for row in answer.to_pylist()} == expected
