"""The documented flow on Google Cloud Storage.

With GCS_DATA_BUCKET set, it writes to that bucket (GOOGLE_CLOUD_PROJECT is needed too). Without, it starts the
emulator and uses that: nothing to install, no account.
"""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta

from buffetstore import (
    DataQuery,
    GCSConfig,
    GCSStorageManager,
    QueryOptimizer,
    SchemaManager,
    SchemaValidationError,
)
from buffetstore.testing.gcs import serve_in_thread


def bars() -> list[dict[str, object]]:
    start = datetime(2024, 1, 2, 14, 30, tzinfo=UTC)
    return [
        {
            "symbol": symbol,
            "timestamp": start + timedelta(days=day),
            "price": price + day / 10,
            "volume": 1_000_000 + 1000 * day,
            "data_source": "example",
        }
        for symbol, price in (("AAPL", 185.64), ("MSFT", 370.87))
        for day in range(90)
    ]


async def main(config: GCSConfig) -> None:
    market_data = bars()
    async with GCSStorageManager(config) as storage:
        schema_manager = SchemaManager()
        check = schema_manager.validate_data(data=market_data, data_type="market_data")
        print(f"valid: {check.is_valid}, schema {check.schema_version}")
        if check.is_valid:
            result = await storage.store_data(data_type="market_data", data=market_data)
            print(f"stored {result.rows} rows ({result.unchanged} unchanged), table version {result.table_version}")
            print(f"  first of {len(result.file_paths)} files: {result.file_path}")

        query = DataQuery(
            data_type="market_data",
            filters={"symbol": "AAPL"},
            date_range={"start": "2024-01-01", "end": "2024-01-31"},
            limit=1000,
        )
        answer = await storage.retrieve_data(QueryOptimizer().optimize(query))
        print(
            f"{answer.rows} rows from {answer.partitions_scanned} time buckets; "
            f"{answer.files_scanned} files read, {answer.files_pruned} pruned"
        )
        assert answer.rows == 30
        assert {row["symbol"] for row in answer.to_pylist()} == {"AAPL"}
        print(answer.to_pandas()[["symbol", "timestamp", "price", "volume"]].head(3).to_string(index=False))

        try:
            await storage.store_data("market_data", [{**market_data[0], "price": -1.0}])
        except SchemaValidationError as error:
            print(f"refused: {error}")
        else:
            raise AssertionError("a negative price must be refused")
        uploads = storage.metrics.get_performance_summary()["uploads"]
        print(f"{uploads['count']} uploads, {uploads['failed']} refused")


if __name__ == "__main__":
    if os.environ.get("GCS_DATA_BUCKET"):
        asyncio.run(main(GCSConfig.from_environment()))
    else:
        with serve_in_thread(buckets=["market-data"]) as server:
            print(f"emulator at {server.url}")
            asyncio.run(main(GCSConfig(project_id="example", data_bucket="market-data", emulator_host=server.url)))
