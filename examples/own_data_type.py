"""A data type of one's own: a class with a key, constraints and a rule; then it is stored like any other."""

from __future__ import annotations

import asyncio
import tempfile
from datetime import UTC, datetime, timedelta
from typing import Annotated, ClassVar

from pydantic import Field

from buffetstore import DataQuery, SchemaManager, SchemaValidationError, StorageManager
from buffetstore.expressions import Column, Comparison
from buffetstore.schemas import Record, Rule, Timestamp


class FundingRate(
    Record,
    data_type="funding_rates",
    version="1.0.0",
    key=("symbol", "venue", "timestamp"),
    category="funding",
):
    """What holders of a perpetual future pay each other, every eight hours."""

    symbol: str
    venue: str
    timestamp: Timestamp
    rate: Annotated[float, Field(ge=-0.05, le=0.05)]
    rate_min: float | None = None
    rate_max: float | None = None
    open_interest: Annotated[int, Field(ge=0)] | None = None

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "rate_below_min",
            "rate",
            Comparison("rate", ">=", Column("rate_min")),
            "rate {rate} is below the venue's floor {rate_min}",
        ),
        Rule(
            "rate_above_max",
            "rate",
            Comparison("rate", "<=", Column("rate_max")),
            "rate {rate} is above the venue's cap {rate_max}",
        ),
    )


def rates() -> list[dict[str, object]]:
    start = datetime(2024, 3, 1, tzinfo=UTC)
    return [
        {
            "symbol": "BTC/USD",
            "venue": "example",
            "timestamp": start + timedelta(hours=8 * number),
            "rate": 0.0001 * (number % 7 - 2),
            "rate_min": -0.003,
            "rate_max": 0.003,
        }
        for number in range(90)
    ]


async def main(folder: str) -> None:
    async with await StorageManager.open(folder, schema_manager=SchemaManager([FundingRate])) as storage:
        result = await storage.store_data("funding_rates", rates())
        print(f"stored {result.inserted} rows: {result.file_path}")
        assert result.inserted == 90

        answer = await storage.retrieve_data(
            DataQuery(
                "funding_rates", {"symbol": "BTC/USD", "rate": {"lt": 0}}, {"start": "2024-03-01", "end": "2024-03-07"}
            )
        )
        print(f"{answer.rows} times in the first week short sellers paid")
        assert answer.rows == sum(row["rate"] < 0 for row in rates()[:21])

        try:
            await storage.store_data("funding_rates", [{**rates()[0], "rate": 0.004}])
        except SchemaValidationError as error:
            print(f"refused: {error.result.errors[0].message}")
        else:
            raise AssertionError("a rate above the cap must be refused")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(folder))
