from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from buffetstore.errors import ConfigurationError, CorruptFileError, InvalidQueryError
from buffetstore.expressions import And, Column, Comparison, IsIn, IsNull, Not, Or, evaluate
from buffetstore.formats import COMPRESSIONS, ParquetFormatter

START = datetime(2024, 1, 1, tzinfo=UTC)


def every_type(rows: int = 100) -> pa.Table:
    numbers = range(rows)
    return pa.table(
        {
            "symbol": pa.array([("AAPL", "BTC/USD", "日経", None)[n % 4] for n in numbers]),
            "timestamp": pa.array([START + timedelta(minutes=n) for n in numbers], pa.timestamp("us", tz="UTC")),
            "day": pa.array([date(2024, 1, 1) + timedelta(days=n) for n in numbers]),
            "price": pa.array([Decimal(n) / 100 for n in numbers], pa.decimal128(18, 8)),
            "cap": pa.array([Decimal(n) * 10**15 for n in numbers], pa.decimal128(38, 2)),
            "rsi": pa.array([n / 7 if n % 5 else None for n in numbers], pa.float64()),
            "half": pa.array([n / 2 for n in numbers], pa.float32()),
            "volume": pa.array([n * 10 for n in numbers], pa.int64()),
            "small": pa.array([n % 100 for n in numbers], pa.int8()),
            "flag": pa.array([n % 2 == 0 for n in numbers]),
            "raw": pa.array([bytes([n % 256]) for n in numbers], pa.binary()),
            "models": pa.array([[{"name": "a", "weight": n / 3}] for n in numbers]),
            "labels": pa.array([[("k", n)] for n in numbers], pa.map_(pa.string(), pa.int64())),
            "nothing": pa.nulls(rows, pa.string()),
        }
    )


def series(rows: int) -> pa.Table:
    return pa.table(
        {
            "n": pa.array(np.arange(rows)),
            "x": pa.array(np.arange(rows) / 3),
            "s": pa.array([f"{n:07d}" for n in range(rows)]),
            "t": pa.array(np.arange(rows), pa.timestamp("us", tz="UTC")),
        }
    )


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_comes_back_as_it_was(compression) -> None:
    table = every_type()
    formatter = ParquetFormatter(compression=compression)
    encoded = formatter.encode(table)
    assert encoded.rows == 100
    assert encoded.size == len(bytes(encoded.data))
    assert formatter.decode(encoded.data).equals(table)
    assert pq.read_table(pa.BufferReader(bytes(encoded.data))).equals(table)


def test_other_libraries_read_it(tmp_path) -> None:
    duckdb, polars = pytest.importorskip("duckdb"), pytest.importorskip("polars")
    table = every_type()
    path = tmp_path / "file.parquet"
    for compression in COMPRESSIONS:
        path.write_bytes(ParquetFormatter(compression=compression).encode(table).data)
        with duckdb.connect() as connection:
            found = connection.sql(f"SELECT sum(price), min(timestamp::VARCHAR), sum(volume) FROM '{path}'").fetchall()
        assert found[0][0] == sum(table["price"].to_pylist())
        frame = polars.read_parquet(path)
        assert frame["price"].to_list() == table["price"].to_pylist()
        assert frame["symbol"].to_list() == table["symbol"].to_pylist()
        assert frame["rsi"].to_list() == table["rsi"].to_pylist()


def test_encodings_follow_the_values() -> None:
    rows = 20_000
    table = pa.table(
        {
            "symbol": pa.array([f"S{n % 50}" for n in range(rows)]),
            "id": pa.array([f"id-{n}" for n in range(rows)]),
            "n": pa.array(np.arange(rows)),
            "x": pa.array(np.random.default_rng(0).random(rows)),
            "t": pa.array(np.arange(rows), pa.timestamp("us", tz="UTC")),
            "p": pa.array([Decimal(n) for n in range(rows)], pa.decimal128(18, 8)),
        }
    )
    chunks = pq.ParquetFile(pa.BufferReader(bytes(ParquetFormatter().encode(table).data))).metadata.row_group(0)
    found = {chunks.column(i).path_in_schema: set(chunks.column(i).encodings) for i in range(chunks.num_columns)}
    assert "RLE_DICTIONARY" in found["symbol"]
    assert "RLE_DICTIONARY" not in found["id"]
    assert "BYTE_STREAM_SPLIT" in found["x"]
    assert all("DELTA_BINARY_PACKED" in found[name] for name in ("n", "t", "p"))


def test_auto_picks_from_the_data() -> None:
    noise = pa.table({"b": pa.array([np.random.default_rng(n).bytes(200) for n in range(500)])})
    text = pa.table({"s": pa.array(["the same words again and again"] * 5_000)})

    def codec(table: pa.Table) -> str:
        data = bytes(ParquetFormatter(compression="auto").encode(table).data)
        return pq.ParquetFile(pa.BufferReader(data)).metadata.row_group(0).column(0).compression

    assert codec(noise) == "UNCOMPRESSED"
    assert codec(text) in {"ZSTD", "LZ4"}


def test_no_small_row_group_is_left() -> None:
    data = ParquetFormatter(row_group_rows=50_000).encode(series(149_999)).data
    metadata = pq.ParquetFile(pa.BufferReader(bytes(data))).metadata
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [75_000, 74_999]


@pytest.mark.parametrize("predicate", [
    Comparison("n", ">=", 149_990),
    Comparison("s", "==", "0149999"),
    Comparison("x", "<", 1.0),
    And((Comparison("n", ">", 10), Comparison("n", "<", 13))),
    Or((Comparison("n", "==", 1), IsIn("s", ("0149998", "none")))),
    Not(Comparison("n", "<", 149_998)),
    Comparison("n", "<", Column("x")),
    IsNull("s"),
])  # fmt: skip
def test_row_groups_are_pruned_and_rows_filtered(predicate, monkeypatch) -> None:
    table = series(150_000)
    formatter = ParquetFormatter(row_group_rows=50_000)
    data = formatter.encode(table).data
    read: list[int] = []
    original = pq.ParquetFile.read_row_groups
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_groups",
        lambda self, groups, **kw: (read.extend(groups), original(self, groups, **kw))[1],
    )
    found = formatter.decode(data, columns=["s", "n"], predicate=predicate)
    assert found.equals(
        table.filter(pa.array([evaluate(predicate, row) for row in table.to_pylist()])).select(["s", "n"])
    )
    if predicate in {Comparison("n", ">=", 149_990), Not(Comparison("n", "<", 149_998))}:
        assert read == [2]


def test_columns_in_the_order_asked_and_none() -> None:
    data = ParquetFormatter().encode(series(10)).data
    assert ParquetFormatter().decode(data, columns=["t", "n"]).column_names == ["t", "n"]
    assert ParquetFormatter().decode(data, columns=[], predicate=Comparison("n", "<", 3)).num_rows == 3
    assert ParquetFormatter().decode(data, columns=[]).num_rows == 10


def test_schema_adds_casts_and_constants() -> None:
    data = ParquetFormatter().encode(pa.table({"n": pa.array([1, 2], pa.int32())})).data
    schema = pa.schema([("n", pa.int64()), ("later", pa.string()), ("part", pa.date32())])
    constants = {"part": pa.scalar(date(2024, 1, 1))}
    found = ParquetFormatter().decode(data, schema=schema, constants=constants, predicate=IsNull("later"))
    assert found.schema.equals(schema)
    assert found.to_pylist()[1] == {"n": 2, "later": None, "part": date(2024, 1, 1)}
    none = ParquetFormatter().decode(
        data, schema=schema, constants=constants, predicate=Comparison("part", "<", date(2024, 1, 1))
    )
    assert none.num_rows == 0


@pytest.mark.parametrize("damage", [
    lambda data: b"",
    lambda data: b"PAR1 not parquet PAR1",
    lambda data: data[: len(data) // 2],
    lambda data: data[:4] + bytes(200) + data[204:],
])  # fmt: skip
def test_damaged_bytes_are_refused(damage) -> None:
    data = bytes(ParquetFormatter().encode(series(1000)).data)
    with pytest.raises(CorruptFileError):
        ParquetFormatter().decode(damage(data))


def test_a_flipped_bit_is_seen() -> None:
    data = bytearray(ParquetFormatter(compression="none").encode(series(1000)).data)
    data[300] ^= 1
    with pytest.raises(CorruptFileError):
        ParquetFormatter().decode(data)


def test_wrong_questions() -> None:
    data = ParquetFormatter().encode(series(3)).data
    with pytest.raises(InvalidQueryError, match=r"'nope'.*n, x, s, t"):
        ParquetFormatter().decode(data, columns=["nope"])
    with pytest.raises(InvalidQueryError, match="'s' is string"):
        ParquetFormatter().decode(data, predicate=Comparison("s", ">", 5))
    with pytest.raises(ConfigurationError, match="brotli"):
        ParquetFormatter(compression="brotli")
    with pytest.raises(ConfigurationError, match="50000"):
        ParquetFormatter(row_group_rows=10)


async def test_in_threads() -> None:
    table = series(10)
    formatter = ParquetFormatter()
    encoded = await formatter.aencode(table)
    assert (await formatter.adecode(encoded.data)).equals(table)


def test_text_comes_dictionary_encoded_when_asked() -> None:
    table = pa.table({"s": ["a", "b", None, "a"], "n": [1, 2, 3, 4]})
    schema = pa.schema([("s", pa.dictionary(pa.int32(), pa.string())), ("n", pa.int64())])
    found = ParquetFormatter().decode(ParquetFormatter().encode(table).data, predicate=IsIn("s", ("a",)), schema=schema)
    assert found.schema.equals(schema)
    assert found["s"].to_pylist() == ["a", "a"]
    assert not ParquetFormatter().decode(
        ParquetFormatter().encode(table).data, predicate=Comparison("s", ">", "c"), schema=schema
    )


def test_empty_table_and_dictionaries() -> None:
    formatter = ParquetFormatter()
    assert formatter.decode(formatter.encode(every_type(0)).data).num_rows == 0
    coded = pa.table({"s": pa.array(["a", "b", "a"]).dictionary_encode()})
    found = formatter.decode(formatter.encode(coded).data, predicate=Comparison("s", "==", "a"))
    assert found["s"].to_pylist() == ["a", "a"]
