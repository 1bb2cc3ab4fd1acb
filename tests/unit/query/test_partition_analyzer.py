"""What hurts in a layout is found, with its numbers, and nothing where nothing does."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from buffetstore.query import Compact, LayoutReport, PartitionAnalyzer, RecordedFilter, RecordedQuery, Vacuum
from buffetstore.schemas import SchemaManager
from buffetstore.tables import Coarsening

CONTRACT = SchemaManager().contract("market_data")
TODAY = date(2024, 6, 1)
MIB = 2**20
NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
TAGS = pa.map_(pa.string(), pa.string())


def file(bucket: str = "2024-05-01", **given: Any) -> dict[str, Any]:
    start = datetime.fromisoformat(f"{bucket}-01-01"[:10]).replace(tzinfo=UTC)
    return {
        "size": 120 * MIB,
        "num_records": 100_000,
        "bucket": bucket,
        "min.symbol": "A",
        "max.symbol": "Z",
        "null_count.symbol": 0,
        "min.timestamp": start,
        "max.timestamp": start + timedelta(hours=23),
        "null_count.timestamp": 0,
        "deletion_vector": None,
    } | given


def table(files: list[dict[str, Any]], **columns: pa.Array) -> pa.Table:
    instant = pa.timestamp("us", "UTC")
    kinds = {
        "size": pa.int64(),
        "num_records": pa.int64(),
        "min.symbol": pa.string(),
        "max.symbol": pa.string(),
        "null_count.symbol": pa.int64(),
        "min.timestamp": instant,
        "max.timestamp": instant,
        "null_count.timestamp": pa.int64(),
        "deletion_vector": pa.string(),
    }
    found = {name: pa.array([each[name] for each in files], kind) for name, kind in kinds.items()}
    return pa.table(
        found
        | {
            "path": pa.array([f"{each['bucket']}/{at}.parquet" for at, each in enumerate(files)], pa.string()),
            "log_path": pa.nulls(len(files), pa.string()),
            "tags": pa.array([[("bucket", each["bucket"])] for each in files], TAGS),
            "partition_values": pa.array([[] for _ in files], TAGS),
            "commit_version": pa.array(range(len(files)), pa.int64()),
            "modification_time": pa.array([NOON] * len(files), pa.timestamp("ms", "UTC")),
        }
        | columns
    )


def analyze(files: list[dict[str, Any]] | pa.Table, *queries: RecordedQuery, **options: Any) -> LayoutReport:
    given = files if isinstance(files, pa.Table) else table(files)
    return PartitionAnalyzer().analyze(given, CONTRACT, queries, today=TODAY, **options)


def asked(*filters: RecordedFilter, **given: Any) -> RecordedQuery:
    told = {"files_scanned": 10, "bytes_read": 1000 * MIB, "rows": 100} | given
    return RecordedQuery("market_data", filters, **told)


def kinds(report: LayoutReport) -> set[str]:
    return {each.kind for each in report.findings}


def test_nothing_hurts_in_nothing_and_in_a_good_layout() -> None:
    assert analyze([]) == LayoutReport("market_data", -1, 0, 0, 0, 0)
    good = [file(f"2024-{month:02}") for month in range(1, 6)]
    report = analyze(good, asked(RecordedFilter("symbol", "equal"), files_scanned=5), table_version=7)
    assert report.findings == ()
    assert report.actions == ()
    assert (report.files, report.rows, report.bytes, report.buckets, report.queries, report.table_version) == (
        5,
        500_000,
        600 * MIB,
        5,
        1,
        7,
    )


def test_small_files_of_a_bucket() -> None:
    files = [file(size=MIB, num_records=1000) for _ in range(200)]
    report = analyze(files, asked(files_scanned=200), asked(files_scanned=0))
    found = report.finding("small_files")
    assert found is not None
    assert found.severity == "high"
    assert found.numbers == {"small": 200, "mean_bytes": MIB, "files": 200, "files_after": 2}
    assert found.files_fewer == 198
    assert found.action == Compact(coarsening=None)
    assert "200 of 200 files are small" in found.message


def test_days_that_should_be_months() -> None:
    files = [file(f"2024-{month:02}-{day:02}", size=MIB, num_records=500) for month in (4, 5) for day in range(1, 29)]
    report = analyze(files)
    found = report.finding("fine_buckets")
    assert found is not None
    assert (found.numbers["buckets"], found.numbers["files_after"], found.severity) == (56, 2, "medium")
    assert report.finding("small_files") is None
    (action,) = report.actions
    assert action == Compact(coarsening=Coarsening(timedelta(0), timedelta(0)))
    assert analyze([file(f"2024-06-{day:02}", size=MIB) for day in range(1, 29)]).findings == ()
    # Where days are what is asked for, days they stay.
    daily = [asked(span=timedelta(days=1), files_scanned=1)] * 3
    large = [each | {"size": 2 * MIB} for each in files]
    assert analyze(large, *daily).finding("fine_buckets") is None
    assert analyze(large, *daily, *[asked()] * 4).finding("fine_buckets") is not None


def test_files_that_all_hold_every_symbol() -> None:
    spread = [file("2024-05") for _ in range(12)]
    report = analyze(
        [*spread, *(file(f"2024-0{month}") for month in (1, 2, 3))],
        asked(RecordedFilter("symbol", "equal"), files_scanned=15),
        asked(files_scanned=15),
    )
    found = report.finding("unclustered")
    assert found is not None
    assert (found.severity, found.numbers["worst_bucket"], found.numbers["worst_depth"]) == ("high", "2024-05", 12)
    assert (found.numbers["files_opened"], found.numbers["buckets"]) == (15, 1)
    assert 0 < found.files_fewer < 15
    assert isinstance(found.action, Compact)
    assert (found.action.start, found.action.target_bytes > 120 * MIB) == (datetime(2024, 5, 1, tzinfo=UTC), True)
    letters = [{"min.symbol": f"{chr(65 + at)}A", "max.symbol": f"{chr(65 + at)}Z"} for at in range(12)]
    assert analyze([file("2024-05", **each) for each in letters]).findings == ()
    touching = [{"min.symbol": chr(65 + at), "max.symbol": chr(66 + at)} for at in range(12)]
    assert "unclustered" not in kinds(analyze([file("2024-05", **each) for each in touching[:1]]))


def test_overlaps_too_large_to_sort_are_told_without_an_action() -> None:
    rows = 100_000_000
    report = analyze([file("2024-05", num_records=rows, size=4000 * MIB) for _ in range(3)])
    found = report.finding("unclustered")
    assert found is not None
    assert found.action is None
    assert "too large to be sorted together" in found.message


def test_a_day_of_a_year() -> None:
    years = [file(f"20{year}", size=100 * MIB) for year in range(10, 24)]
    narrow = asked(span=timedelta(days=1), files_scanned=1, bytes_read=100 * MIB, rows=400)
    found = analyze(years, narrow).finding("coarse_buckets")
    assert found is not None
    assert (found.numbers["days_per_file"], found.severity) == (365, "high")
    assert found.bytes_fewer == int(100 * MIB * (1 - 0.004))
    assert "sort_by=('timestamp', 'symbol'" in found.message
    by_symbol = asked(RecordedFilter("symbol", "equal"), span=timedelta(days=1), files_scanned=1)
    assert analyze(years, by_symbol).findings == ()
    assert analyze(years, asked(span=timedelta(days=300), files_scanned=1)).findings == ()


def test_a_bucket_far_larger_than_others() -> None:
    report = analyze([file(f"20{year}", size=100 * MIB if year < 23 else 2000 * MIB) for year in range(10, 24)])
    found = report.finding("skew")
    assert found is not None
    assert (found.numbers["bucket"], found.severity) == ("2023", "low")
    assert "20 times" in found.message


def test_queries_by_another_column_than_rows_are_sorted_by() -> None:
    files = [file(f"2024-0{month}") for month in range(1, 6)]
    by_exchange = asked(RecordedFilter("exchange", "equal"), files_scanned=5)
    report = analyze(files, *[by_exchange] * 3, asked(RecordedFilter("symbol", "among", 3), files_scanned=5))
    found = report.finding("sort_order")
    assert found is not None
    assert found.numbers["sort_by"][:2] == ["exchange", "symbol"]
    assert found.bytes_fewer > 2900 * MIB
    assert "exchange" not in kinds(analyze(files, *[asked(RecordedFilter("exchange", "other"))] * 3))
    # Who takes all rows of what is read has nothing to gain.
    all_rows = asked(RecordedFilter("exchange", "equal"), files_scanned=5, rows=500_000)
    assert analyze(files, all_rows).finding("sort_order") is None


def test_columns_and_files_without_statistics() -> None:
    count = 20
    files = table(
        [
            file(f"20{at:02}", **({"min.timestamp": None, "max.timestamp": None} if at < 5 else {}))
            for at in range(count)
        ],
        **{
            "min.rsi": pa.nulls(count, pa.float64()),
            "max.rsi": pa.nulls(count, pa.float64()),
            "null_count.rsi": pa.array([0] * 10 + [100_000] * 10, pa.int64()),
        },
    )
    report = analyze(files, asked(RecordedFilter("rsi", "range")))
    columns, blind = report.finding("columns_without_statistics"), report.finding("files_without_statistics")
    assert columns is not None
    assert blind is not None
    assert columns.numbers["columns"] == {"rsi": 10}, "a file of nulls alone is left out by their number"
    assert (blind.severity, blind.numbers["without"], blind.files_fewer, blind.action) == ("high", 5, 5, None)


def test_rows_that_are_deleted_by_vectors() -> None:
    vector = '{"storageType":"u","cardinality":100000,"sizeInBytes":40}'
    found = analyze([file(size=MIB, deletion_vector=vector), file(size=MIB)]).finding("deletion_vectors")
    assert found is not None
    assert found.numbers == {"files": 1, "rows_deleted": 100_000, "share": 0.3333, "compacted": 1}
    assert (found.severity, found.action) == ("high", Compact(coarsening=None))


@pytest.mark.parametrize(
    ("sizes", "shown"),
    [([100_000] * 40, "40 row groups a file"), ([300 * MIB], "up to 300 MiB"), ([20 * MIB] * 3, None)],
)
def test_row_groups(sizes: list[int], shown: str | None) -> None:
    groups = pa.table({"path": ["a"] * len(sizes), "rows": [1000] * len(sizes), "bytes": sizes})
    found = analyze([file()], groups=groups).finding("row_groups")
    assert (found is None) == (shown is None)
    assert found is None or shown in found.message


def test_files_that_nothing_needs_and_the_order_of_actions() -> None:
    files = [file("2024-05-01", size=MIB, num_records=100) for _ in range(3)]
    files += [file(f"2024-05-{day:02}", size=MIB, num_records=100) for day in range(2, 9)]
    report = analyze(files, unneeded=(4, 100 * MIB))
    assert {"small_files", "fine_buckets", "unneeded_files", "unclustered"} == kinds(report)
    # What the coarser compaction does is not done twice.
    assert report.actions == (Compact(coarsening=Coarsening(timedelta(0), timedelta(0))), Vacuum())
    assert [each.severity for each in report.findings] == sorted(
        (each.severity for each in report.findings), key=("high", "medium", "low").index
    )
    told = report.to_dict()
    assert told["actions"] == ["compact to files of 128 MiB, into months and years that are over", "vacuum"]
    assert {each["kind"]: each["action"] for each in told["findings"]}["unneeded_files"] == "vacuum"


def test_a_hundred_thousand_files() -> None:
    count, each = 100_000, file()
    days = [(date(2000, 1, 1) + timedelta(days=at % 5000)).isoformat() for at in range(count)]
    files = table([each | {"bucket": day, "size": MIB, "num_records": 100} for day in days])
    report = analyze(files, *[asked(RecordedFilter("symbol", "equal"))] * 1000)
    assert report.files == count
    assert report.finding("small_files") is not None
