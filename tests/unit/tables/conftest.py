from __future__ import annotations

from concurrent.futures import Future
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from buffetstore.objects import MemoryStore
from buffetstore.resilience import threads

if TYPE_CHECKING:
    from collections.abc import Callable

START = datetime(2024, 1, 1, tzinfo=UTC)

EVERY_TYPE = pa.schema(
    [
        pa.field("symbol", pa.string(), nullable=False),
        ("timestamp", pa.timestamp("us", tz="UTC")),
        ("day", pa.date32()),
        ("price", pa.decimal128(18, 8)),
        ("cap", pa.decimal128(38, 2)),
        ("rsi", pa.float64()),
        ("half", pa.float32()),
        ("volume", pa.int64()),
        ("count", pa.int32()),
        ("short", pa.int16()),
        ("byte", pa.int8()),
        ("flag", pa.bool_()),
        ("raw", pa.binary()),
        ("models", pa.list_(pa.struct([("name", pa.string()), ("weight", pa.float64())]))),
        ("greeks", pa.struct([("delta", pa.float64()), ("vega", pa.decimal128(10, 4))])),
        ("labels", pa.map_(pa.string(), pa.int64())),
        ("nothing", pa.string()),
    ]
)


def rows_of_every_type(rows: int = 40) -> pa.Table:
    """Rows in which every type has values and nulls."""

    def some(values):
        return [value if n % 7 else None for n, value in enumerate(values)]

    numbers = range(rows)
    columns = {
        "symbol": [("AAPL", "BTC/USD", "日経 225", "^GSPC")[n % 4] for n in numbers],
        "timestamp": some(START + timedelta(minutes=n, microseconds=n) for n in numbers),
        "day": some(date(2024, 1, 1) + timedelta(days=n) for n in numbers),
        "price": some(Decimal(n) / 100 + Decimal("0.00000001") for n in numbers),
        "cap": some(Decimal(n) * 10**30 + Decimal("0.25") for n in numbers),
        "rsi": some(n / 7 for n in numbers),
        "half": some(n / 2 for n in numbers),
        "volume": some(n * 10**12 for n in numbers),
        "count": some(n - 20 for n in numbers),
        "short": some(n * 100 for n in numbers),
        "byte": some(n - 20 for n in numbers),
        "flag": some(n % 2 == 0 for n in numbers),
        "raw": some(bytes([n]) for n in numbers),
        "models": some([{"name": "a", "weight": n / 3}] * (n % 3) for n in numbers),
        "greeks": some({"delta": n / 10, "vega": Decimal(n)} for n in numbers),
        "labels": some([("k", n)] for n in numbers),
        "nothing": [None] * rows,
    }
    return pa.table(columns, schema=EVERY_TYPE)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture(scope="session")
def every_type() -> pa.Table:
    return rows_of_every_type()


class AtOnce:
    """An executor that computes when it is asked, in the asker's thread."""

    def submit(self, function: Callable[[], Any]) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(function())
        except BaseException as error:  # noqa: BLE001 - handed on
            done.set_exception(error)
        return done


@pytest.fixture
def computing_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute on the loop, so that a task takes the same steps each time, and what they do can be counted."""
    monkeypatch.setattr(threads, "_cpu_pool", AtOnce)
