"""1,000,000 market rows of 13 columns validated, ours beside its peers: prints one line of JSON.

usage: validation.py time ROWS ROUNDS       milliseconds of every case, rounds in turn in this one process
       validation.py peak ROWS CASE         MiB above the input at most, of one case
       validation.py stall ROWS FOLDER      longest time that ``await storage.validate`` holds the event loop up
"""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import validation_peers as peers
from pydantic import Field

from buffetstore.schemas import Price, Record, SchemaManager, Timestamp

if TYPE_CHECKING:
    from collections.abc import Callable

SYMBOLS, ONE_IN = 500, 1_000
NAIVE_ROWS = 200_000


class Bar(Record, data_type="bar", version="1.0.0", key=("symbol", "timestamp")):
    """What the peers check, and nothing else."""

    symbol: Annotated[str, Field(pattern=peers.SYMBOL)]
    timestamp: Timestamp
    open: float | None = None
    high: float | None = None
    low: float | None = None
    price: Annotated[float, Field(gt=0)]
    volume: Annotated[int, Field(ge=0)]
    market_cap: float | None = None
    pe_ratio: float | None = None
    rsi: Annotated[float, Field(ge=0, le=100)] | None = None
    volatility: float | None = None
    beta: float | None = None
    data_source: str


class ExactBar(Bar, data_type="exact_bar"):
    """The same with prices of 8 places, as our own data types have them."""

    open: Price | None = None
    high: Price | None = None
    low: Price | None = None
    price: Annotated[Price, Field(gt=0)]


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
            "open": np.round(price * 1.001, 2),
            "high": np.round(price * 1.01, 2),
            "low": np.round(price * 0.99, 2),
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


def encoded(table: pa.Table) -> pa.Table:
    """Symbols as codes into their distinct values."""
    return table.set_column(0, "symbol", table["symbol"].combine_chunks().dictionary_encode())


def spoiled(table: pa.Table) -> pa.Table:
    """One row in 1,000 with a price that cannot be."""
    prices = table["price"].to_numpy().copy()
    prices[::ONE_IN] = -1
    return table.set_column(table.schema.get_field_index("price"), "price", pa.array(prices))


def exact(table: pa.Table) -> pa.Table:
    """Prices as decimals."""
    for name in ("open", "high", "low", "price"):
        cents = pa.array(np.rint(table[name].to_numpy() * 100).astype(np.int64))
        number = cents.cast(pa.decimal128(22, 0)).cast(pa.decimal128(30, 8))
        words = np.frombuffer(number.buffers()[1], np.int64).reshape(-1, 2).copy()
        words[:, 0] //= 100
        array = pa.Array.from_buffers(pa.decimal128(18, 8), len(cents), [None, pa.py_buffer(words)])
        assert array[0].as_py() == Decimal(str(table[name][0].as_py()))
        table = table.set_column(table.schema.get_field_index(name), name, array)
    return table


class Case(NamedTuple):
    """One thing that is measured: `given` makes what it is given, `work` is timed."""

    rows: int
    given: Callable[[pa.Table], Any]
    work: Callable[[Any], Any]
    peer: str = ""
    slow: bool = False


def ours(data_type: str, *, rejected: bool = False) -> Callable[[Any], Any]:
    manager = SchemaManager([Bar, ExactBar])

    def work(data: Any) -> Any:
        found = manager.validate_data(data, data_type)
        assert found.is_valid is not rejected, found.errors[:3]
        return found

    return work


def _table(table: pa.Table) -> pa.Table:
    return table


def _frame(table: pa.Table) -> Any:
    return pl.from_arrow(table)


def _pandas(table: pa.Table) -> Any:
    return table.to_pandas()


def _dicts(table: pa.Table) -> list[dict[str, Any]]:
    return table.to_pylist()


def cases(rows: int) -> dict[str, Case]:
    """Everything that is measured, by name; a peer that is not installed is left out."""
    shuffle = pa.array(np.random.default_rng(1).permutation(rows))
    few = min(rows, NAIVE_ROWS)

    def beginning(table: pa.Table) -> list[dict[str, Any]]:
        return table.slice(0, few).to_pylist()

    polars, naive = "polars expressions", "pydantic models, dumped, from_pylist"
    found = {
        polars: Case(rows, _frame, peers.polars_expressions),
        "numpy by hand, dictionary symbols": Case(rows, encoded, peers.numpy_by_hand, polars),
        "numpy by hand, plain strings": Case(rows, _table, peers.numpy_by_hand, polars),
        "pyarrow masks and groups": Case(rows, _table, peers.pyarrow_masks, polars),
    }
    if peers.installed("pandera"):
        found["pandera polars"] = Case(rows, _frame, peers.pandera_polars(), polars, slow=True)
        found["pandera pandas"] = Case(rows, _pandas, peers.pandera_pandas(), polars, slow=True)
    if peers.installed("dataframely"):
        found["dataframely filter"] = Case(rows, _frame, peers.dataframely_filter(), polars, slow=True)
    found |= {
        "ours: Arrow, dictionary symbols": Case(rows, encoded, ours("bar"), polars),
        "ours: Arrow, plain strings": Case(rows, _table, ours("bar"), polars),
        "ours: Arrow, shuffled": Case(rows, lambda table: table.take(shuffle), ours("bar"), polars),
        "ours: Arrow, 0.1 % bad, report": Case(rows, spoiled, ours("bar", rejected=True), polars),
        "ours: polars frame": Case(rows, _frame, ours("bar"), polars),
        "ours: pandas frame": Case(rows, _pandas, ours("bar"), polars),
        "ours: 4 floats to decimals": Case(rows, encoded, ours("exact_bar"), polars),
        "ours: 4 decimals": Case(rows, lambda table: exact(encoded(table)), ours("exact_bar"), polars),
        "ours: as market_data, all its columns": Case(rows, encoded, ours("market_data"), polars),
        naive: Case(few, beginning, peers.naive_pydantic, slow=True),
        "pydantic list[TypedDict], no Arrow": Case(few, beginning, peers.typed_dicts, naive, slow=True),
        "ours: dicts": Case(rows, _dicts, ours("bar"), naive, slow=True),
        "ours: dicts to decimals": Case(rows, _dicts, ours("exact_bar"), naive, slow=True),
    }
    return found


def absent() -> list[str]:
    return [name for name in ("pandera", "dataframely") if not peers.installed(name)]


def measure_times(rows: int, rounds: int) -> dict[str, Any]:
    """Return the median of milliseconds and of CPU milliseconds for every case; the rounds of all cases in turn."""
    table = market(rows)
    found = cases(rows)
    given: dict[Callable[[pa.Table], Any], Any] = {}
    wall: dict[str, list[float]] = {name: [] for name in found}
    cpu: dict[str, list[float]] = {name: [] for name in found}
    for turn in range(rounds + 1):  # the first is for the caches
        for name, case in found.items():
            if case.slow and turn > 2:
                continue
            if case.given not in given:
                given[case.given] = case.given(table)
            data = given[case.given]
            gc.collect()
            begun, used = time.perf_counter(), time.process_time()
            case.work(data)
            if turn:
                wall[name].append((time.perf_counter() - begun) * 1e3)
                cpu[name].append((time.process_time() - used) * 1e3)
    return {
        name: {
            "rows": case.rows,
            "ms": statistics.median(wall[name]),
            "cpu_ms": statistics.median(cpu[name]),
            "peer": case.peer,
        }
        for name, case in found.items()
    }


def memory(field: str) -> float:
    """MiB of this process: `VmRSS` now, `VmHWM` at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def measure_peak(rows: int, name: str) -> dict[str, Any]:
    """Return what one case needs at most, above what it is given."""
    case = cases(rows)[name]
    case.work(case.given(market(min(rows, 2_000))))  # imports
    data = case.given(market(rows))
    gc.collect()
    pa.default_memory_pool().release_unused()
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again from what is used now
    before = memory("VmRSS")
    answer = case.work(data)
    return {"peak_mib": memory("VmHWM") - before, "kept": answer is not None}


async def measure_stall(rows: int, folder: Path) -> dict[str, Any]:
    """Return how late, at worst, another task woke up while rows were validated."""
    from buffetstore import StorageManager

    late: list[float] = []

    async def watch() -> None:
        while True:
            begun = time.perf_counter()
            await asyncio.sleep(0.001)
            late.append(time.perf_counter() - begun - 0.001)

    table = market(rows)
    found: dict[str, Any] = {}
    async with StorageManager.open(folder.as_uri(), schema_manager=SchemaManager([Bar, ExactBar])) as storage:
        await storage.validate(table.slice(0, 100), "bar")
        watcher = asyncio.create_task(watch())
        inputs = {"Arrow": _table, "polars": _frame, "pandas": _pandas, "dicts": _dicts}
        for name, make in inputs.items():
            data = make(table)
            gc.collect()
            gc.freeze()  # a collection that looks at the caller's own million dicts is not our doing
            await asyncio.sleep(0.01)
            late.clear()
            begun = time.perf_counter()
            verdict = await storage.validate(data, "exact_bar")
            found[name] = {"stall_ms": max(late) * 1e3, "ms": (time.perf_counter() - begun) * 1e3}
            assert verdict.is_valid
            del data, verdict
        watcher.cancel()
    return found


def main() -> None:
    what, rows = sys.argv[1], int(sys.argv[2])
    if what == "time":
        found: Any = {"times": measure_times(rows, int(sys.argv[3])), "absent": absent()}
    elif what == "peak":
        found = measure_peak(rows, sys.argv[3])
    else:
        found = asyncio.run(measure_stall(rows, Path(sys.argv[3])))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
