"""deltalake, Polars, DuckDB and pyarrow read what we write; we read what deltalake writes."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from buffetstore.expressions import Comparison
from buffetstore.formats import ParquetFormatter
from buffetstore.objects import LocalStore
from buffetstore.tables import DataPart, DeltaTable

deltalake = pytest.importorskip("deltalake")

ODD_SYMBOLS = ["AAPL", "BTC/USD", "^GSPC", "ES=F", "BRK.B", "..", "日経 225", "a b%20c", "x:y?z#w&v+u", "'\"", "é"]


def by_symbol(table: pa.Table) -> list[DataPart]:
    """One file a symbol, whose directory and name are encoded as a layout has to."""
    from urllib.parse import quote

    parts = []
    for symbol in sorted(set(table["symbol"].to_pylist())):
        safe = quote(symbol, safe="").replace(".", "%2E")
        rows = table.filter(pa.compute.equal(table["symbol"], symbol))
        parts.append(DataPart(rows, f"year=2024/{safe} x", f"{safe}_market", {}, {"symbol": symbol}))
    return parts


def sorted_rows(rows: list[dict], *names: str) -> list[dict]:
    return sorted(rows, key=lambda row: tuple(str(row[name]) for name in names))


def duckdb_rows(folder: Path, columns: str = "*", where: str = "true") -> list[tuple]:
    duckdb = pytest.importorskip("duckdb")
    extension = pytest.importorskip("duckdb_extension_delta")
    found = list(Path(extension.__file__).parent.glob("extensions/*/delta.duckdb_extension"))
    if not found or found[0].parent.name != f"v{duckdb.__version__}":
        pytest.skip("needs DuckDB's delta extension for this version of DuckDB")
    with duckdb.connect() as connection:
        connection.execute(f"INSTALL '{found[0]}'; LOAD delta; SET TimeZone='UTC'")
        return connection.execute(f"SELECT {columns} FROM delta_scan('{folder}') WHERE {where}").fetchall()


@pytest.fixture
async def odd_table(tmp_path):
    store = LocalStore(tmp_path)
    schema = pa.schema([("symbol", pa.string()), ("n", pa.int64())])
    table = await DeltaTable.create(store, "raw/odd", schema)
    rows = pa.table({"symbol": ODD_SYMBOLS * 2, "n": list(range(2 * len(ODD_SYMBOLS)))})
    await table.append(rows, layout=by_symbol)
    return tmp_path / "raw/odd", rows.to_pylist()


async def test_deltalake_and_polars_read_every_type(tmp_path, every_type) -> None:
    table = await DeltaTable.create(LocalStore(tmp_path), "t", every_type.schema)
    await table.append(every_type.slice(0, 20))
    await table.append(every_type.slice(20))
    foreign = deltalake.DeltaTable(str(tmp_path / "t"))
    expected = sorted_rows(every_type.to_pylist(), "volume", "symbol")
    assert sorted_rows(foreign.to_pyarrow_table().to_pylist(), "volume", "symbol") == expected
    polars = pytest.importorskip("polars")
    names = [name for name in every_type.column_names if name != "labels"]  # Polars has no maps
    found = polars.read_delta(str(tmp_path / "t"), columns=names).to_dicts()
    assert sorted_rows(found, "volume", "symbol") == sorted_rows(
        every_type.select(names).to_pylist(), "volume", "symbol"
    )


async def test_duckdb_reads_every_type(tmp_path, every_type) -> None:
    table = await DeltaTable.create(LocalStore(tmp_path), "t", every_type.schema)
    await table.append(every_type)
    names = [name for name in every_type.column_names if name not in {"labels", "timestamp", "models", "greeks"}]
    found = duckdb_rows(tmp_path / "t", ", ".join(f'"{name}"' for name in names))
    ours = [tuple(row.values()) for row in every_type.select(names).to_pylist()]
    assert sorted(map(str, found)) == sorted(map(str, ours))
    found = duckdb_rows(tmp_path / "t", 'epoch_us("timestamp"), models, greeks')
    assert sorted(str(row[0]) for row in found) == sorted(
        map(str, every_type["timestamp"].cast(pa.int64()).to_pylist())
    )


async def test_pyarrow_reads_the_files(tmp_path, every_type) -> None:
    table = await DeltaTable.create(LocalStore(tmp_path), "t", every_type.schema)
    result = await table.append(every_type)
    assert pq.read_table(tmp_path / "t" / result.files[0].path).to_pylist() == every_type.to_pylist()


async def test_odd_paths_are_found_by_all(odd_table) -> None:
    folder, rows = odd_table
    expected = sorted_rows(rows, "n")
    assert sorted_rows(deltalake.DeltaTable(str(folder)).to_pyarrow_table().to_pylist(), "n") == expected
    polars = pytest.importorskip("polars")
    assert sorted_rows(polars.read_delta(str(folder)).to_dicts(), "n") == expected
    assert sorted(duckdb_rows(folder)) == sorted((row["symbol"], row["n"]) for row in rows)
    ours = await DeltaTable.open(LocalStore(folder), "")
    assert sorted_rows((await ours.to_arrow()).to_pylist(), "n") == expected


async def test_odd_partition_values_are_found_by_all(tmp_path) -> None:
    schema = pa.schema([("symbol", pa.string()), ("at", pa.timestamp("us", tz="UTC")), ("n", pa.int64())])
    moments = [datetime(2024, 1, 1, 12, 30, 0, 5, tzinfo=UTC), None]
    symbols = [*ODD_SYMBOLS, None]
    rows = pa.table(
        {
            "symbol": symbols * 2,
            "at": [moments[0]] * len(symbols) + [moments[1]] * len(symbols),
            "n": list(range(2 * len(symbols))),
        },
        schema=schema,
    )
    table = await DeltaTable.create(LocalStore(tmp_path), "t", schema, partition_by=["symbol", "at"])
    await table.append(rows)
    expected = sorted_rows(rows.to_pylist(), "n")
    assert sorted_rows((await table.to_arrow()).to_pylist(), "n") == expected
    found = deltalake.DeltaTable(str(tmp_path / "t")).to_pyarrow_table().to_pylist()
    assert sorted_rows(found, "n") == expected
    polars = pytest.importorskip("polars")
    assert sorted_rows(polars.read_delta(str(tmp_path / "t")).to_dicts(), "n") == expected
    assert sorted(duckdb_rows(tmp_path / "t", "n")) == [(n,) for n in range(2 * len(symbols))]
    only = await table.to_arrow(["n"], Comparison("symbol", "==", "BTC/USD"))
    assert sorted(only["n"].to_pylist()) == [1, 1 + len(symbols)]
    assert (await table.find_files(Comparison("symbol", "==", "BTC/USD"))).num_rows == 2


async def test_foreign_readers_prune_rightly_by_our_statistics(tmp_path, every_type) -> None:
    table = await DeltaTable.create(LocalStore(tmp_path), "t", every_type.schema)
    for start in range(0, 40, 5):
        await table.append(every_type.slice(start, 5))
    polars = pytest.importorskip("polars")
    bound = Decimal("0.20000001")
    expected = sorted(
        row["price"] for row in every_type.to_pylist() if row["price"] is not None and row["price"] >= bound
    )
    frame = polars.scan_delta(str(tmp_path / "t")).filter(polars.col("price") >= bound).select("price").collect()
    assert sorted(frame["price"].to_list()) == expected
    foreign = deltalake.DeltaTable(str(tmp_path / "t"))
    assert (
        sorted(foreign.to_pyarrow_table(columns=["price"], filters=[("price", ">=", bound)])["price"].to_pylist())
        == expected
    )
    assert sorted(row[0] for row in duckdb_rows(tmp_path / "t", "price", f"price >= {bound}")) == expected
    moment = every_type["timestamp"].to_pylist()[11]
    frame = polars.scan_delta(str(tmp_path / "t")).filter(polars.col("timestamp") == moment).collect()
    assert frame["timestamp"].to_list() == [moment]
    assert len(foreign.to_pyarrow_table(columns=["volume"], filters=[("timestamp", "=", moment)])) == 1


@pytest.mark.parametrize("compression", ["zstd", "snappy", "lz4", "gzip", "none", "auto"])
async def test_every_codec_is_read(tmp_path, every_type, compression) -> None:
    formatter = ParquetFormatter(compression=compression)
    table = await DeltaTable.create(LocalStore(tmp_path), "t", every_type.schema, formatter=formatter)
    await table.append(every_type)
    found = deltalake.DeltaTable(str(tmp_path / "t")).to_pyarrow_table()
    assert sorted_rows(found.to_pylist(), "volume", "symbol") == sorted_rows(every_type.to_pylist(), "volume", "symbol")


async def test_deltalake_writes_after_us_and_we_after_it(tmp_path) -> None:
    schema = pa.schema([("k", pa.int64()), ("v", pa.string())])
    ours = await DeltaTable.create(LocalStore(tmp_path), "t", schema, name="numbers", description="of both")
    await ours.append(pa.table({"k": [1, 2], "v": ["a", "b"]}))
    deltalake.write_deltalake(str(tmp_path / "t"), pa.table({"k": [3], "v": ["c"]}), mode="append")
    foreign = deltalake.DeltaTable(str(tmp_path / "t"))
    foreign.delete("k = 1")
    assert foreign.metadata().name == "numbers"
    await ours.append(pa.table({"k": [4], "v": ["d"]}))
    assert (await ours.upsert(pa.table({"k": [3, 4], "v": ["C", "d"]}), key=["k"])).updated == 1
    foreign.update_incremental()
    expected = [{"k": 2, "v": "b"}, {"k": 3, "v": "C"}, {"k": 4, "v": "d"}]
    assert sorted_rows(foreign.to_pyarrow_table().to_pylist(), "k") == expected
    assert sorted_rows((await ours.to_arrow()).to_pylist(), "k") == expected
    assert foreign.version() == ours.version == 5


async def test_deltalake_merge_finds_our_rows(tmp_path, every_type) -> None:
    ours = await DeltaTable.create(LocalStore(tmp_path), "t", pa.schema([("k", pa.int64()), ("v", pa.string())]))
    for start in range(0, 50, 10):
        await ours.append(pa.table({"k": list(range(start, start + 10)), "v": ["x"] * 10}))
    source = pa.table({"k": [5, 99], "v": ["new", "new"]})
    foreign = deltalake.DeltaTable(str(tmp_path / "t"))
    merging = foreign.merge(source, "t.k = s.k", source_alias="s", target_alias="t")
    merging.when_matched_update_all().when_not_matched_insert_all().execute()
    await ours.refresh()
    found = {row["k"]: row["v"] for row in (await ours.to_arrow()).to_pylist()}
    assert len(found) == 51
    assert found[5] == found[99] == "new"


async def test_we_read_deltalake_tables_and_checkpoints(tmp_path, every_type) -> None:
    folder = str(tmp_path / "t")
    names = [name for name in every_type.column_names if name != "labels"]
    table = every_type.select(names)
    for start in range(0, 40, 4):
        deltalake.write_deltalake(folder, table.slice(start, 4), mode="append", partition_by=["symbol"])
    foreign = deltalake.DeltaTable(folder)
    foreign.delete("count = 5")
    foreign.create_checkpoint()
    deltalake.write_deltalake(folder, table.slice(0, 1), mode="append")
    expected = foreign.to_pyarrow_table().to_pylist() + table.slice(0, 1).to_pylist()
    store = LocalStore(tmp_path)
    ours = await DeltaTable.open(store, "t")
    assert sorted_rows((await ours.to_arrow(names)).to_pylist(), "volume", "symbol") == sorted_rows(
        [{name: row[name] for name in names} for row in expected], "volume", "symbol"
    )
    for entry in (tmp_path / "t/_delta_log").glob("*.json"):
        if int(entry.stem) <= foreign.version():
            entry.unlink()
    again = await DeltaTable.open(store, "t")
    assert again.version == ours.version
    assert (await again.to_arrow()).num_rows == len(expected)
    assert again.snapshot.files.num_rows == ours.snapshot.files.num_rows
    await again.append(every_type.slice(0, 3).select(names))
    assert deltalake.DeltaTable(folder).to_pyarrow_table().num_rows == len(expected) + 3


async def test_cut_statistics_of_deltalake_lose_no_row(tmp_path) -> None:
    moments = [datetime(2024, 1, 1, 0, 0, 0, 123456 + n, tzinfo=UTC) for n in range(3)]
    prices = [Decimal("1234567890123456789.12345677") + n for n in range(3)]
    rows = pa.table({"t": moments, "p": pa.array(prices, pa.decimal128(38, 8))})
    deltalake.write_deltalake(str(tmp_path / "t"), rows)
    table = await DeltaTable.open(LocalStore(tmp_path), "t")
    for moment, price in zip(moments, prices, strict=True):
        assert (await table.to_arrow(filters=Comparison("t", "==", moment))).num_rows == 1
        assert (await table.to_arrow(filters=Comparison("p", "==", price))).num_rows == 1
    assert (await table.find_files(Comparison("t", ">", datetime(2024, 1, 2, tzinfo=UTC)))).num_rows == 0
    assert (await table.find_files(Comparison("p", ">", Decimal(1234567890123556789)))).num_rows == 0
