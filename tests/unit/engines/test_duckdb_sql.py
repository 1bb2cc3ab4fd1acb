"""SQL over data types gives what DuckDB gives over all of their rows, and reads only what it needs."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

duckdb = pytest.importorskip("duckdb", reason="the duckdb extra is not installed")

from buffetstore.engines.duckdb import sql  # noqa: E402
from buffetstore.errors import InvalidQueryError, NotFoundError  # noqa: E402
from buffetstore.objects import MemoryStore  # noqa: E402
from buffetstore.query import DataQuery  # noqa: E402
from buffetstore.storage import LakeStorage  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def bar(symbol: str, day: int, hour: int, *, rsi: float | None) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "timestamp": f"2024-01-{day:02}T{hour:02}:00:00Z",
        "price": Decimal(100 + day) + Decimal(hour) / 8,
        "volume": 10 * day,
        "rsi": rsi,
        "data_source": "test",
        "interval": "1h",
    }


def option(underlying: str, day: int, strike: int) -> dict[str, Any]:
    return {
        "underlying_symbol": underlying,
        "timestamp": f"2024-01-{day:02}T00:00:00Z",
        "expiration_date": "2024-03-15",
        "strike_price": strike,
        "option_type": "call",
        "volume": strike // 10,
        "data_source": "test",
    }


BARS = [
    bar(symbol, day, hour, rsi=None if hour == 4 else 10.0 * day)
    for symbol in ("AAPL", "MSFT", "100%", "a_b")
    for day in range(1, 6)
    for hour in (0, 4, 8)
]
OPTIONS = [option(symbol, day, strike) for symbol in ("AAPL", "TSLA") for day in (1, 2) for strike in (90, 110)]


@pytest.fixture
async def lake() -> AsyncIterator[LakeStorage]:
    async with MemoryStore() as store, LakeStorage(store) as storage:
        for day in range(1, 6):
            await storage.store_data("market_data", [row for row in BARS if f"-{day:02}T" in row["timestamp"]])
        await storage.store_data("options_data", OPTIONS)
        yield storage


async def reference(lake: LakeStorage, statement: str, parameters: Any) -> list[Any]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone='UTC'")
        for name in ("market_data", "options_data"):
            connection.register(name, (await lake.retrieve_data(DataQuery(name))).table)
        return connection.execute(statement, parameters).to_arrow_table().to_pylist()


STATEMENTS = [
    ("SELECT symbol, price FROM market_data WHERE symbol = 'AAPL'", None),
    ("SELECT * FROM market_data WHERE timestamp > '2024-01-03'", None),
    ("SELECT * FROM market_data WHERE timestamp > TIMESTAMP '2024-01-03 04:00:00'", None),
    ("SELECT * FROM market_data WHERE timestamp <= DATE '2024-01-02' AND NOT (symbol = 'MSFT')", None),
    ("SELECT count(*) n FROM market_data WHERE symbol LIKE '100%'", None),
    ("SELECT count(*) n FROM market_data WHERE symbol LIKE 'a_b' OR price < 102", None),
    ("SELECT count(*) n FROM market_data WHERE price BETWEEN 102 AND 103.5", None),
    ("SELECT count(*) n FROM market_data WHERE price >= 103.0000000001", None),
    ("SELECT count(*) n FROM market_data WHERE 103 < price", None),
    ("SELECT count(*) n FROM market_data WHERE rsi IS NULL AND symbol IN ('AAPL', 'MSFT')", None),
    ("SELECT count(*) n FROM market_data WHERE rsi > 20 OR rsi IS NULL", None),
    ("SELECT count(*) n FROM market_data WHERE volume > ? AND symbol = ?", [20, "AAPL"]),
    ("SELECT count(*) n FROM market_data WHERE timestamp >= $start", {"start": datetime(2024, 1, 3, tzinfo=UTC)}),
    ("SELECT count(*) n FROM market_data WHERE timestamp >= $start", {"start": date(2024, 1, 3)}),
    ("SELECT symbol, max(price) m FROM market_data GROUP BY symbol HAVING max(price) > 1 ORDER BY symbol", None),
    (
        (
            "SELECT m.symbol, o.strike_price FROM market_data m "
            "LEFT JOIN options_data o ON m.symbol = o.underlying_symbol "
            "AND o.timestamp = m.timestamp WHERE o.strike_price > 100"
        ),
        None,
    ),
    (
        (
            "SELECT m.symbol, o.strike_price FROM market_data m "
            "LEFT JOIN options_data o ON m.symbol = o.underlying_symbol "
            "AND o.timestamp = m.timestamp WHERE o.strike_price IS NULL"
        ),
        None,
    ),
    (
        (
            "SELECT o.underlying_symbol, m.price FROM options_data o ASOF LEFT JOIN market_data m "
            "ON o.underlying_symbol = m.symbol AND o.timestamp >= m.timestamp WHERE m.price > 101"
        ),
        None,
    ),
    (
        "SELECT a.symbol FROM market_data a JOIN market_data b USING (symbol) WHERE a.volume = 10 AND b.volume = 20",
        None,
    ),
    (
        "SELECT symbol FROM market_data WHERE volume = 10 UNION ALL SELECT symbol FROM market_data WHERE volume = 50",
        None,
    ),
    (
        "WITH market AS (SELECT * FROM market_data WHERE volume = 10) SELECT count(*) n FROM market WHERE price > 1",
        None,
    ),
    (
        "SELECT count(*) n FROM market_data WHERE price > (SELECT avg(price) FROM market_data WHERE symbol = 'AAPL')",
        None,
    ),
    (
        "SELECT 1 FROM market_data m WHERE EXISTS (FROM options_data WHERE underlying_symbol = m.symbol)",
        None,
    ),
    ("FROM market_data WHERE volume = 10", None),
    ("SELECT m FROM market_data m WHERE volume = 10 AND symbol = 'AAPL'", None),
    ("SELECT COLUMNS('^p.*e$') FROM market_data", None),
    ("SELECT 1 AS one", None),
]


@pytest.mark.parametrize(("statement", "parameters"), STATEMENTS, ids=[each[0][:60] for each in STATEMENTS])
async def test_the_answer_is_that_over_all_rows(lake: LakeStorage, statement: str, parameters: Any) -> None:
    found = (await sql(lake, statement, parameters)).to_pylist()
    wanted = await reference(lake, statement, parameters)
    assert sorted(map(repr, found)) == sorted(map(repr, wanted))


class Seen:
    """A storage that notes what it is asked."""

    def __init__(self, lake: LakeStorage) -> None:
        self.lake = lake
        self.queries: list[DataQuery] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.lake, name)

    def scan(self, query: DataQuery) -> Any:
        self.queries.append(query)
        return self.lake.scan(query)


async def test_only_rows_and_columns_that_matter_are_asked_for(lake: LakeStorage) -> None:
    seen = Seen(lake)
    await sql(seen, "SELECT avg(price) FROM market_data WHERE symbol = 'AAPL' AND timestamp >= '2024-01-05'")  # type: ignore[arg-type]
    (query,) = seen.queries
    assert set(query.columns or ()) == {"symbol", "timestamp", "price"}
    answer = await lake.retrieve_data(query)
    assert (answer.rows, answer.files_scanned, answer.files_pruned) == (3, 1, 4)


async def test_it_can_look_back(lake: LakeStorage) -> None:
    before = datetime(2024, 1, 2, 1, tzinfo=UTC)
    found = await sql(lake, "SELECT max(timestamp) AS last FROM market_data", known_at=before)
    assert found.to_pylist() == [{"last": datetime(2024, 1, 2, tzinfo=UTC)}] or found.to_pylist()[0]["last"] <= before


async def test_answers_are_rows_like_any(lake: LakeStorage) -> None:
    found = await sql(lake, "SELECT symbol, price FROM market_data ORDER BY price DESC, symbol LIMIT 1")
    assert (found.rows, found.data_types) == (1, ("market_data",))
    assert found.to_pandas()["price"].tolist() == [106.0]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("SELECT * FROM nowhere", "no data type 'nowhere': stored is market_data, options_data"),
        ("SELECT * FROM market_dat", "did you mean 'market_data'"),
        ("DELETE FROM market_data", "only SELECT is answered"),
        ("SELECT nothing FROM market_data", "nothing"),
        ("SELECT * FROM read_csv('/etc/passwd')", "file system operations are disabled"),
        ("SELECT * FROM lake", "no data type 'lake'"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("SELEC 1", "syntax error"),
        ("  ", "is no statement"),
        (None, "is no statement"),
        ("SELECT * FROM market_data WHERE symbol = ?", "parameter"),
    ],
)
async def test_what_cannot_be_answered_is_refused(lake: LakeStorage, statement: Any, message: str) -> None:
    with pytest.raises(InvalidQueryError, match=message):
        await sql(lake, statement)


async def test_a_file_that_is_gone_is_told_as_such(lake: LakeStorage) -> None:
    table = await lake.table("market_data")
    paths = [f"{table.path}/{path}" for path in table.snapshot.files["path"].to_pylist()]
    await table.store.delete(paths)
    with pytest.raises(NotFoundError):
        await sql(lake, "SELECT sum(price) FROM market_data")


async def test_a_cancelled_statement_leaves_nothing_running(lake: LakeStorage) -> None:
    endless = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b, market_data"
    task = asyncio.create_task(sql(lake, endless))
    await asyncio.sleep(0.3)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with aclosing(lake.scan(DataQuery("market_data"))) as batches:
        assert (await anext(batches)).num_rows
