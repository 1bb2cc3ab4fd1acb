"""Ticks keep their nanoseconds through a table: as a column beside the microseconds, joined when they are read."""

from __future__ import annotations

import pyarrow as pa

from buffetstore.objects import MemoryStore
from buffetstore.query import DataQuery
from buffetstore.schemas import with_nanoseconds
from buffetstore.storage import LakeStorage

FIRST = 1_704_182_645_123_456_789


async def test_ticks_come_back_with_every_nanosecond() -> None:
    stamps = [FIRST, FIRST + 1, FIRST + 1_000, FIRST - FIRST % 1_000]
    ticks = pa.table(
        {
            "symbol": pa.array(["AAPL"] * 4).dictionary_encode(),
            "timestamp": pa.array(stamps, pa.timestamp("ns", "UTC")),
            "sequence": [1, 2, 3, 4],
            "data_source": ["feed"] * 4,
            "price": [187.25] * 4,
            "size": [100] * 4,
        }
    )
    async with LakeStorage(MemoryStore()) as lake:
        assert (await lake.store_data("trades", ticks)).inserted == 4
        answer = await lake.retrieve_data(DataQuery("trades"))
        joined = with_nanoseconds(answer.table, lake.schemas.contract("trades"))
        by_sequence = dict(
            zip(joined["sequence"].to_pylist(), joined["timestamp"].cast(pa.int64()).to_pylist(), strict=True)
        )
        assert by_sequence == dict(enumerate(stamps, 1))
        assert sorted(answer.to_pandas()["timestamp"].astype("int64")) == sorted(stamps)
        assert sorted(answer.to_polars()["timestamp"].dt.epoch("ns")) == sorted(stamps)
        assert answer.table.schema.field("timestamp_nanoseconds").type == pa.int16()
        fine = DataQuery("trades", filters={"timestamp_nanoseconds": 790})
        assert (await lake.retrieve_data(fine)).table["sequence"].to_pylist() == [2]
