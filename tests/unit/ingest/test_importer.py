from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from buffetstore.errors import MappingError
from buffetstore.ingest import ImportResult, Source, import_file
from buffetstore.objects import MemoryStore
from buffetstore.query import DataQuery
from buffetstore.schemas import Mapping
from buffetstore.storage import LakeStorage

if TYPE_CHECKING:
    from pathlib import Path

YAHOO = Mapping.from_options(
    map=["Date=timestamp", "Close=price", "Volume=volume"], set=["data_source=yahoo"], symbol="AAPL", tz="UTC"
)
LEAN = Mapping.from_options(
    header=("timestamp", "open", "high", "low", "price", "volume"),
    symbol="AAPL",
    set=["data_source=lean"],
    tz="America/New_York",
    scale="0.0001",
)
GOOD = "Date,Close,Volume,Dividends\n2024-01-02,185.64,100,0\n2024-01-03,184.25,200.0,0\n"
BAD = "2024-01-04,N/A,300,0\n2024-01-05,-1,400,0\n2024-01-08,oops,500,0\nonly,three,fields\n"


@pytest.fixture
async def storage():
    async with MemoryStore() as store, LakeStorage(store) as lake:
        yield lake


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def prices(storage: LakeStorage) -> list[float]:
    answer = await storage.retrieve_data(DataQuery("market_data", columns=["price"]))
    return [float(row["price"]) for row in answer.to_pylist()]


async def ingest(storage: LakeStorage, path: Path, mapping: Mapping = YAHOO, **options: object) -> ImportResult:
    return await import_file(storage, "market_data", path, mapping=mapping, **options)


async def test_good_rows_are_stored_and_strays_are_named(storage: LakeStorage, tmp_path: Path) -> None:
    (tmp_path / "aapl.csv").write_text(GOOD)
    result = await ingest(storage, tmp_path / "aapl.csv")
    assert (result.rows, result.inserted, result.rejected) == (2, 2, 0)
    assert result.ignored_columns == ["Dividends"]
    assert (result.rejected_file, names_in(tmp_path)) == (None, ["aapl.csv"])
    assert await prices(storage) == [185.64, 184.25]


async def test_bad_rows_are_set_aside_with_number_text_and_reason(storage: LakeStorage, tmp_path: Path) -> None:
    (tmp_path / "aapl.csv").write_text(GOOD + BAD)
    result = await ingest(storage, tmp_path / "aapl.csv")
    assert (result.rows, result.inserted, result.rejected) == (6, 2, 4)
    assert await prices(storage) == [185.64, 184.25]
    assert result.rejected_file == str(tmp_path / "aapl.rejected.csv")
    kept = pa.csv.read_csv(tmp_path / "aapl.rejected.csv").to_pylist()
    by_date = {row["Date"]: row for row in kept if row["Date"]}
    assert {
        date.isoformat() if hasattr(date, "isoformat") else date: row["_record"] for date, row in by_date.items()
    } == {
        "2024-01-04": 3,
        "2024-01-05": 4,
        "2024-01-08": 5,
    }
    reasons = {row["Close"]: row["_reasons"] for row in kept if row["Date"]}
    assert "price" in reasons["N/A"]
    assert "greater than 0" in reasons["-1"]
    assert "'oops' is not a number" in reasons["oops"]
    assert [row["_line"] for row in kept if not row["Date"]] == ["only,three,fields"]
    assert {finding.record_index for finding in result.findings} == {2, 3, 4}


async def test_mended_rows_are_ingested_from_the_quarantine_file_itself(storage: LakeStorage, tmp_path: Path) -> None:
    (tmp_path / "aapl.csv").write_text(GOOD + BAD)
    await ingest(storage, tmp_path / "aapl.csv")
    aside = tmp_path / "aapl.rejected.csv"
    aside.write_text(aside.read_text().replace("oops", "186.5"))
    result = await ingest(storage, aside)
    assert (result.inserted, result.rejected_file) == (1, str(tmp_path / "aapl.rejected.rejected.csv"))
    assert 186.5 in await prices(storage)
    assert "186.5" in aside.read_text(), "the source is never touched"


async def test_the_second_time_everything_is_unchanged_and_an_old_quarantine_goes(
    storage: LakeStorage, tmp_path: Path
) -> None:
    path = tmp_path / "aapl.csv"
    path.write_text(GOOD + BAD)
    await ingest(storage, path)
    path.write_text(GOOD)
    result = await ingest(storage, path)
    assert (result.inserted, result.unchanged, result.rejected) == (0, 2, 0)
    assert not (tmp_path / "aapl.rejected.csv").exists()


async def test_a_dry_run_judges_and_writes_nothing(storage: LakeStorage, tmp_path: Path) -> None:
    (tmp_path / "aapl.csv").write_text(GOOD + BAD)
    result = await ingest(storage, tmp_path / "aapl.csv", dry_run=True)
    assert (result.rows, result.accepted, result.rejected, result.inserted) == (6, 2, 4, 0)
    assert result.findings
    assert await storage.list_data_types() == []
    assert names_in(tmp_path) == ["aapl.csv"]


async def test_parquet_bad_rows_stay_parquet(storage: LakeStorage, tmp_path: Path) -> None:
    frame = {"Date": ["2024-01-02", "2024-01-03"], "Close": [1.0, -1.0], "Volume": [1, 2]}
    pq.write_table(pa.table(frame), tmp_path / "aapl.parquet")
    result = await ingest(storage, tmp_path / "aapl.parquet")
    assert (result.inserted, result.rejected) == (1, 1)
    kept = pq.read_table(tmp_path / "aapl.rejected.parquet").to_pylist()
    assert [(row["Date"], row["Close"], row["_record"]) for row in kept] == [("2024-01-03", -1.0, 2)]


async def test_batches_are_commits_and_progress_is_told(storage: LakeStorage, tmp_path: Path) -> None:
    rows = pa.table({"Date": [f"2024-01-{day:02}" for day in range(1, 11)], "Close": [1.0] * 10, "Volume": [1] * 10})
    pq.write_table(rows, tmp_path / "aapl.parquet")
    told: list[tuple[float, int]] = []
    result = await import_file(
        storage,
        "market_data",
        Source(tmp_path / "aapl.parquet", batch_rows=4),
        mapping=YAHOO,
        on_progress=lambda share, so_far: told.append((share, so_far.rows)),
    )
    assert told == [(0.4, 4), (0.8, 8), (1.0, 10)]
    assert len(await prices(storage)) == result.inserted == 10


async def test_a_mapping_that_does_not_fit_stores_nothing(storage: LakeStorage, tmp_path: Path) -> None:
    (tmp_path / "aapl.csv").write_text(GOOD)
    with pytest.raises(MappingError, match="'Clos'"):
        await ingest(storage, tmp_path / "aapl.csv", Mapping.from_options(map=["Clos=price"]))
    assert await storage.list_data_types() == []


async def test_headerless_prices_in_ten_thousandths(storage: LakeStorage, tmp_path: Path) -> None:
    (tmp_path / "aapl.csv").write_text("20240102 00:00,1856400,1860000,1850000,1856400,100\n")
    result = await import_file(storage, "market_data", tmp_path / "aapl.csv", mapping=LEAN)
    assert result.inserted == 1
    assert await prices(storage) == [185.64]


async def test_a_cancelled_import_closes_its_files(storage: LakeStorage, tmp_path: Path) -> None:
    (tmp_path / "aapl.csv").write_text(GOOD + BAD)
    started = asyncio.Event()

    class Slow(LakeStorage):
        async def validate(self, *args: object, **options: object) -> object:
            started.set()
            await asyncio.Event().wait()

    slow = Slow(MemoryStore())
    task = asyncio.create_task(ingest(slow, tmp_path / "aapl.csv"))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await slow.list_data_types() == []
