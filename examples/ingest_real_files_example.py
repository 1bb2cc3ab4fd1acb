"""Bring in files as vendors write them: an archive of days, prices in 1/10,000 dollar, odd rows set aside."""

from __future__ import annotations

import asyncio
import json
import tempfile
import zipfile
from pathlib import Path

from buffetstore import DataQuery, StorageManager
from buffetstore.ingest import import_file, read_mapping

# Milliseconds since midnight in New York, then open, high, low, close in 1/10,000 dollar, and the volume.
MINUTES = {
    "20240308_aapl_minute.csv": "34200000,1690000,1699900,1688000,1695000,1200\n34260000,1695000,1695100,0,0,10\n",
    "20240311_aapl_minute.csv": "34200000,1729000,1730000,1727300,1728000,900\n34260000,1728000,oops,1,1,1\n",
}
MAPPING = {
    "header": ["ms", "open", "high", "low", "close", "volume"],
    "milliseconds": "ms",
    "tz": "America/New_York",
    "scale": "0.0001",
    "file_pattern": r"^(?P<date>\d{8})_(?P<symbol>[a-z]+)_",
    "upper": ["symbol"],
    "constants": {"interval": "1m", "data_source": "vendor"},
}


def files(folder: Path) -> tuple[Path, Path]:
    archive, mapping = folder / "aapl_minutes.zip", folder / "minutes.json"
    with zipfile.ZipFile(archive, "w") as target:
        for name, text in MINUTES.items():
            target.writestr(name, text)
    mapping.write_text(json.dumps(MAPPING))
    return archive, mapping


async def main(folder: Path) -> None:
    archive, written = files(folder)
    mapping = read_mapping(written)
    async with StorageManager.open(folder / "lake") as storage:
        judged = await import_file(storage, "market_data", archive, mapping=mapping, dry_run=True)
        print(f"looked at: {judged.rows} rows, {judged.rejected} would be refused: {judged.rejected_counts}")

        done = await import_file(
            storage, "market_data", archive, mapping=mapping, idempotency_key="aapl-minutes", job="nightly"
        )
        rejected = Path(str(done.rejected_file))
        print(f"stored {done.inserted} rows in {done.commits} commit; the others are in {rejected.name}:")
        for found in done.findings:
            print(f"  {found.member}, row {found.record_index + 1}: {found.field}: {found.message}")

        # The rows in that file keep their numbers, and their members' names: mend them, and bring it in like the first.
        mended = mend(rejected)
        again = await import_file(storage, "market_data", mended, mapping=mapping)
        print(f"mended: {again.inserted} rows")

        sent_again = await import_file(
            storage, "market_data", archive, mapping=mapping, idempotency_key="aapl-minutes", on_invalid="drop"
        )
        print(f"sent again: {sent_again.inserted} rows stored, {sent_again.done_before} were there")

        bars = await storage.retrieve_data(DataQuery("market_data", {"symbol": "AAPL"}))
        for row in bars.to_pylist():
            # Nine thirty in New York is 14:30 UTC on Friday, and 13:30 on Monday, when clocks had changed.
            print(f"  {row['timestamp']:%a %H:%M} UTC {row['open']:.2f} {row['high']:.2f} {row['close']:.2f}")


def mend(rejected: Path) -> Path:
    with zipfile.ZipFile(rejected) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    with zipfile.ZipFile(rejected, "w") as archive:
        for name, text in texts.items():
            fixed = text.replace('"0","0","10"', '"1694000","1694500","10"').replace(
                '"oops","1","1"', '"1728900","1727000","1728100"'
            )
            archive.writestr(name, fixed)
    return rejected


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(Path(folder)))
