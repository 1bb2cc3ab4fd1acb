"""1,000,000 market rows validated: columns beside polars expressions, dicts beside naive pydantic, in one run."""

from __future__ import annotations

import gc
import statistics
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from pydantic import BaseModel, Field, TypeAdapter

from buffetstore.schemas import MarketData, Record, SchemaManager, Timestamp, ValidationLevel, contract_of
from buffetstore.schemas.intake import TypedRows, take_in
from buffetstore.schemas.manager import judge

if TYPE_CHECKING:
    from collections.abc import Callable

    from buffetstore.schemas.contract import Contract

ROWS, SYMBOLS, BAD = 1_000_000, 500, 1_000
NAIVE_ROWS = 100_000
SYMBOL = r"^[A-Z]{1,5}$"
REQUIRED = ["symbol", "timestamp", "price", "volume", "data_source"]


class Bar(Record, data_type="bar", version="1.0.0", key=("symbol", "timestamp")):
    """What the peers check, and nothing else."""

    symbol: Annotated[str, Field(pattern=SYMBOL)]
    timestamp: Timestamp
    price: Annotated[float, Field(gt=0)]
    volume: Annotated[int, Field(ge=0)]
    market_cap: float | None = None
    pe_ratio: float | None = None
    rsi: Annotated[float, Field(ge=0, le=100)] | None = None
    volatility: float | None = None
    beta: float | None = None
    data_source: str


class NaiveBar(BaseModel):
    symbol: Annotated[str, Field(pattern=SYMBOL)]
    timestamp: datetime
    price: Annotated[float, Field(gt=0)]
    volume: Annotated[int, Field(ge=0)]
    market_cap: float | None
    pe_ratio: float | None
    rsi: Annotated[float | None, Field(ge=0, le=100)]
    volatility: float | None
    beta: float | None
    data_source: str


def market(rows: int) -> pa.Table:
    """Bars of 500 symbols, five minutes apart, sorted by symbol and time."""
    rng = np.random.default_rng(7)
    names = sorted({"".join(map(chr, rng.integers(65, 91, 5))) for _ in range(SYMBOLS)})
    of_symbol = np.sort(np.arange(rows) % len(names))
    since = np.arange(rows) - np.searchsorted(of_symbol, of_symbol)
    price = np.round(rng.uniform(1, 400, rows), 2)
    return pa.table(
        {
            "symbol": pa.array(names).take(pa.array(of_symbol)),
            "timestamp": pa.array(1_700_000_000_000_000 + since * 300_000_000, pa.timestamp("us", "UTC")),
            "price": price,
            "volume": rng.lognormal(9, 1.2, rows).astype(np.int64),
            "market_cap": np.round(price * 1e9),
            "pe_ratio": pa.array(np.round(price / 7, 2), mask=rng.random(rows) < 0.05),
            "rsi": np.round(rng.normal(50, 12, rows).clip(0, 100), 2),
            "volatility": np.round(np.abs(rng.normal(0.2, 0.05, rows)), 6),
            "beta": np.round(rng.normal(1, 0.3, rows), 4),
            "data_source": pa.array(np.array(["bloomberg", "iex", "polygon"])[of_symbol % 3]),
        }
    )


def polars_expressions(frame: pl.DataFrame) -> None:
    answer = (
        frame.lazy()
        .select(
            (pl.col("price") > 0).all().alias("price"),
            pl.col("rsi").is_between(0, 100).all().alias("rsi"),
            pl.col("symbol").str.contains(SYMBOL).all().alias("symbol"),
            (pl.col("volume") >= 0).all().alias("volume"),
            *[(pl.col(name).null_count() == 0).alias(f"{name} is there") for name in REQUIRED],
            (pl.struct("symbol", "timestamp").n_unique() == pl.len()).alias("unique"),
        )
        .collect()
    )
    assert all(answer.row(0))


def naive_pydantic(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist([bar.model_dump() for bar in TypeAdapter(list[NaiveBar]).validate_python(rows)])


def milliseconds(work: Callable[[], Any], rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        gc.collect()
        start = time.perf_counter()
        work()
        taken.append((time.perf_counter() - start) * 1e3)
    return statistics.median(taken)


def typed(table: pa.Table, contract: Contract) -> TypedRows:
    return take_in(table, contract, now=datetime.now(UTC))


def measure(rows: int, naive_rows: int, rounds: int) -> list[tuple[str, int, float, str]]:
    """Return what was done, with how many rows, in how many milliseconds, and beside which peer."""
    table = market(rows)
    bar, full = contract_of(Bar), contract_of(MarketData)
    manager = SchemaManager([Bar])
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    plain = typed(table, bar)
    encoded = replace(
        plain, table=plain.table.set_column(0, "symbol", plain.table["symbol"].combine_chunks().dictionary_encode())
    )
    shuffled = typed(table.take(pa.array(np.random.default_rng(1).permutation(rows))), bar)
    prices = table["price"].to_numpy().copy()
    prices[:: rows // min(BAD, rows)] = -1
    bad = typed(table.set_column(2, "price", pa.array(prices)), bar)
    dicts = table.to_pylist()
    few = dicts[:naive_rows]

    def check(batch: TypedRows, contract: Contract = bar) -> Callable[[], Any]:
        return lambda: judge(contract, batch, ValidationLevel.STRICT)

    assert check(plain)().is_valid
    assert check(shuffled)().is_valid
    assert len(check(bad)().rejected) == len(prices[:: rows // min(BAD, rows)])
    work: list[tuple[str, int, Callable[[], Any], str, int]] = [
        ("polars expressions", rows, lambda: polars_expressions(frame), "", rounds),
        ("naive pydantic, dicts to Arrow", naive_rows, lambda: naive_pydantic(few), "", 1),
        ("checks, symbols dictionary-encoded", rows, check(encoded), "polars expressions", rounds),
        ("checks, plain strings", rows, check(plain), "polars expressions", rounds),
        ("checks, rows shuffled", rows, check(shuffled), "polars expressions", rounds),
        ("checks, 0.1 % bad, report and accepted", rows, check(bad), "polars expressions", rounds),
        ("market_data's checks", rows, check(typed(table, full), full), "polars expressions", rounds),
        ("validate_data, Arrow", rows, lambda: manager.validate_data(table, "bar"), "polars expressions", rounds),
        (
            "validate_data, Arrow to market_data",
            rows,
            lambda: manager.validate_data(table, "market_data"),
            "polars expressions",
            rounds,
        ),
        (
            "validate_data, dicts",
            naive_rows,
            lambda: manager.validate_data(few, "bar"),
            "naive pydantic, dicts to Arrow",
            rounds,
        ),
        ("validate_data, dicts, all rows", rows, lambda: manager.validate_data(dicts, "bar"), "", 2),
        ("validate_data, dicts to market_data", rows, lambda: manager.validate_data(dicts, "market_data"), "", 2),
    ]
    return [(name, count, milliseconds(job, times), peer) for name, count, job, peer, times in work]


def report(measured: list[tuple[str, int, float, str]]) -> str:
    taken = {name: spent for name, _, spent, _ in measured}
    lines = [f"{'':42}{'rows':>11}{'ms':>10}{'times as fast':>15}"]
    for name, rows, spent, peer in measured:
        ratio = f"{taken[peer] / spent:10.1f} x" if peer else ""
        lines.append(f"{name:42}{rows:11,}{spent:10.1f}{ratio:>15}")
    return "\n".join(lines)


@pytest.mark.benchmark
def test_validation_of_a_million_rows() -> None:
    print("\n" + report(measure(ROWS, NAIVE_ROWS, rounds=7)))


def test_the_validation_benchmark_works() -> None:
    """A small run, so that the benchmark does not rot between the times that somebody runs it."""
    assert "polars expressions" in report(measure(2_000, 500, rounds=1))
