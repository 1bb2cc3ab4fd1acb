from __future__ import annotations

import asyncio

import pyarrow as pa
import pytest
from deltalake import DeltaTable as Foreign
from deltalake import write_deltalake

from buffetstore import StorageManager
from buffetstore.testing.data_storage import bars


async def test_a_table_promises_its_readers_and_asks_no_more_of_them(tmp_path) -> None:
    async with StorageManager.open(tmp_path) as storage:
        await storage.store_data("market_data", bars(days=[1]))
        table = await storage.table("market_data")
        assert table.metadata.configuration["buffetstore.readableBy"] == "deltalake,polars,duckdb,spark"
        assert (table.snapshot.protocol.min_reader_version, table.snapshot.protocol.min_writer_version) == (1, 2)


async def test_with_constraints_others_are_held_to_the_contract_too(tmp_path) -> None:
    async with StorageManager.open(tmp_path, constraints=True) as storage:
        await storage.store_data("market_data", bars(days=[1]))
        table = await storage.table("market_data")
        assert table.snapshot.protocol.min_writer_version == 3
        rows = await table.to_arrow()
        await storage.store_data("market_data", bars(days=[1, 2]))
    theirs = Foreign(tmp_path / "raw/market_data")
    await asyncio.to_thread(write_deltalake, theirs, rows, mode="append")
    at = rows.schema.names.index("volume")
    wrong = rows.set_column(
        at, rows.schema.field("volume"), pa.array([-1] * rows.num_rows, rows.schema.field("volume").type)
    )
    with pytest.raises(Exception, match="2 rows failed validation check"):
        await asyncio.to_thread(write_deltalake, theirs, wrong, mode="append")
