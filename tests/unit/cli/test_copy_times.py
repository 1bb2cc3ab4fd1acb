"""`files copy` of tables: they answer by timestamp as they did."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa

from buffetstore.objects import LocalStore
from buffetstore.tables import DeltaTable

if TYPE_CHECKING:
    from pathlib import Path

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


async def make_table(folder: Path) -> None:
    """Make three versions, one a day."""
    async with DeltaTable.create(LocalStore(folder, create=True), "raw/t", pa.schema([("n", pa.int64())])) as table:
        for n in range(2):
            await table.append(pa.table({"n": [n]}))
    for version in range(3):
        entry = folder / f"raw/t/_delta_log/{version:020}.json"
        os.utime(entry, ((START + version * DAY).timestamp(),) * 2)


async def version_after(folder: Path, days: float) -> int:
    table = await DeltaTable.open(LocalStore(folder), "raw/t", timestamp=START + days * DAY)
    return table.version


def test_a_copied_folder_of_tables(cli, tmp_path: Path) -> None:
    asyncio.run(make_table(tmp_path / "lake"))
    done = cli("files", "copy", str(tmp_path / "lake"), str(tmp_path / "copy"), "--json")
    assert done.code == 0
    assert done.json["failed"] == []
    assert done.json["copied"] == 5
    for folder in ("lake", "copy"):
        assert [asyncio.run(version_after(tmp_path / folder, days)) for days in (0.5, 1.5, 2.5)] == [0, 1, 2]
    again = cli("files", "copy", str(tmp_path / "lake"), str(tmp_path / "copy"), "--json").json
    assert (again["copied"], again["skipped"]) == (0, 5)
