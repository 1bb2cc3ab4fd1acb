"""The demo: real bars are validated, stored, pruned and read back, before a newcomer's eyes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.demo.bars import SOURCE, by_symbol, load_bars, with_indicators
from buffetstore.demo.forecasts import MODEL, forecasts_of, held
from buffetstore.demo.foreign import read_by_others
from buffetstore.demo.indicators import volatility
from buffetstore.demo.options import chain_of
from buffetstore.demo.screen import Screen
from buffetstore.errors import SchemaValidationError
from buffetstore.query import DataQuery
from buffetstore.resilience.threads import in_thread
from buffetstore.schemas import Mapping

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from buffetstore.manager import StorageManager
    from buffetstore.query import QueryAnswer

BARS = Mapping(
    columns={
        "symbol": "Ticker",
        "timestamp": "Date",
        "open": "Open",
        "high": "High",
        "low": "Low",
        "price": "Close",
        "volume": "Volume",
        "adjusted_close": "Adj Close",
    },
    constants={"data_source": SOURCE, "currency": "USD"},
    tz="America/New_York",
)
QUERIES = {
    "Apple, autumn of 2008": DataQuery("market_data", {"symbol": "AAPL"}, {"start": "2008-09-15", "end": "2008-11-30"}),
    "all, on Facebook's first day": DataQuery("market_data", date_range={"start": "2012-05-18", "end": "2012-05-18"}),
    "IBM, days with rsi below 20": DataQuery(
        "market_data", {"symbol": "IBM", "rsi": {"lt": 20}}, columns=["timestamp", "price", "rsi", "volatility"]
    ),
}


async def run_demo(storage: StorageManager, console: Console, *, where: str, chart: Path | None) -> None:
    """Tell the whole story on `console`; `where` is how the user named the store, `chart` where the picture goes.

    Raises
    ------
    MissingDependencyError
        The extra `demo` is not installed.
    """
    await _Story(storage, Screen(console)).tell(where, chart)


class _Story:
    def __init__(self, storage: StorageManager, screen: Screen) -> None:
        self.storage, self.screen = storage, screen

    async def tell(self, where: str, chart: Path | None) -> None:
        started = time.perf_counter()
        self.screen.title(self.storage.url)
        real = await in_thread(load_bars)
        await self.store_bars(real)
        await self.store_forecasts(real)
        await self.store_options(real)
        await self.refuse_a_row()
        await self.ask()
        await self.let_others_read()
        self.screen.metrics(self.storage.metrics.get_performance_summary(), self.storage.metrics.get_cache_metrics())
        if chart is not None:
            await self.draw(chart)
        self.screen.end(where, time.perf_counter() - started)

    async def store_bars(self, real: pa.Table) -> None:
        self.screen.step(
            "Store real bars",
            f"{len(real):,} daily bars of AAPL, FB, GOOG, IBM and MSFT, 2000 to 2013, of the package bokeh-sampledata "
            "(Quandl WIKI, public domain). rsi, sma_20/50/200 and volatility are computed here, from adjusted closes.",
        )
        bars = await in_thread(with_indicators, real)
        self.screen.code('await storage.store_data("market_data", bars, mapping=mapping)')
        self.screen.stored(await self.storage.store_data("market_data", bars, mapping=BARS))

    async def store_forecasts(self, real: pa.Table) -> None:
        self.screen.step(
            "Store forecasts",
            f"One a month and company by the model {MODEL!r}: last close, drift and spread of the 250 days before. "
            "Simple on purpose, and made from the past alone.",
        )
        rows, inside, judged = await in_thread(_forecasts, real)
        result = await self.storage.store_data("forecasts", rows, data_source="demo")
        self.screen.stored(result)
        self.screen.note(f"{inside} of the {judged} prices that became known fell inside their 95 % interval")

    async def store_options(self, real: pa.Table) -> None:
        self.screen.step(
            "Store an option chain",
            "Priced with Black-Scholes from the last closes and their volatility. Computed, not quoted: data_source "
            "says so. Contract symbols are built from their parts.",
        )
        rows = await in_thread(_chains, real)
        result = await self.storage.store_data("options_data", rows)
        self.screen.stored(result)
        answer = await self.storage.retrieve_data(
            DataQuery("options_data", {"underlying_symbol": "AAPL", "option_type": "call"}, limit=1)
        )
        self.screen.note(f"the first of them: {answer.to_pylist()[0]['contract_symbol'].strip()}")

    async def refuse_a_row(self) -> None:
        self.screen.step("Refuse a bad row", "A real bar, but with its low typed above its high, and without a volume.")
        answer = await self.storage.retrieve_data(
            DataQuery("market_data", {"symbol": "MSFT"}, {"start": "2012-06-01", "end": "2012-06-01"})
        )
        bar = answer.to_pylist()[0]
        wanted = ("symbol", "timestamp", "price", "high", "data_source")
        bad = {name: bar[name] for name in wanted} | {"low": bar["high"] + 1, "volume": None}
        before = answer.table_version
        try:
            await self.storage.store_data("market_data", [bad])
        except SchemaValidationError as error:
            self.screen.refused(bad, error)
        after = (await self.storage.describe("market_data")).table_version
        self.screen.note(f"the table is as it was: version {before} before, {after} after")

    async def ask(self) -> None:
        self.screen.step(
            "Ask",
            "Statistics in the table's log say which files can hold an answer; the others are never read: pruned.",
        )
        self.screen.code("await storage.retrieve_data(DataQuery(data_type, filters, date_range))")
        answers: dict[str, QueryAnswer] = {}
        for question, query in QUERIES.items():
            answers[question] = await self.storage.retrieve_data(query)
        self.screen.answers(answers)
        first = next(iter(answers.values()))
        row = first.table.slice(_lowest(first.table), 1).to_pylist()[0]
        self.screen.note(
            f"Apple's weakest day of that autumn: {row['timestamp']:%Y-%m-%d}, close {row['price']:.2f}, "
            f"rsi {row['rsi']:.1f}"
        )

    async def let_others_read(self) -> None:
        self.screen.step(
            "Let others read it", "A data type is an open Delta Lake table: no export, no lock-in, no word to us."
        )
        described = await self.storage.describe("market_data")
        total = pc.sum((await self.storage.retrieve_data(DataQuery("market_data", columns=["volume"]))).table["volume"])
        reads = await in_thread(read_by_others, described.url)
        self.screen.foreign(reads, described.rows, total.as_py())
        if not reads:
            self.screen.note("shown for a local store with deltalake installed; `buffetstore describe` has the code")

    async def draw(self, chart: Path) -> None:
        from buffetstore.demo.chart import draw

        self.screen.step("Draw", "Two queries, one picture.")
        span = {"start": "2010-01-01", "end": "2013-03-01"}
        prices = await self.storage.retrieve_data(DataQuery("market_data", {"symbol": "AAPL"}, span))
        forecasts = await self.storage.retrieve_data(DataQuery("forecasts", {"symbol": "AAPL"}, span))
        title = "AAPL, daily closes 2010 to 2013, and what a random walk would have said"
        await in_thread(draw, prices.table, forecasts.table, chart, title)
        self.screen.drawn(chart)


def _lowest(table: pa.Table) -> int:
    return int(pc.index(table["rsi"], pc.min(table["rsi"])).as_py())


def _forecasts(real: pa.Table) -> tuple[list[dict[str, Any]], int, int]:
    rows: list[dict[str, Any]] = []
    inside = judged = 0
    for _, own in by_symbol(real):
        made = list(forecasts_of(own))
        if made:
            good, known = held(own, made)
            inside, judged = inside + good, judged + known
        rows += made
    return rows, inside, judged


def _chains(real: pa.Table) -> list[dict[str, Any]]:
    return [row for _, own in by_symbol(real) for row in chain_of(own, float(volatility(own.adjusted)[-1]))]
