"""Files as they come: every way to spell the same rows gives the same rows, and what cannot be read says why."""

from __future__ import annotations

import bz2
import csv
import gzip
import zipfile
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from buffetstore.errors import CorruptFileError, IdempotencyKeyReusedError, InvalidInputError, MappingError
from buffetstore.ingest import Source, import_file
from buffetstore.objects import MemoryStore
from buffetstore.query import DataQuery
from buffetstore.schemas import Mapping, MarketData, Price, SchemaManager
from buffetstore.storage import LakeStorage

if TYPE_CHECKING:
    from pathlib import Path

MAPPING = Mapping(columns={"price": "Close", "timestamp": "Date", "volume": "Volume"}, tz="UTC", symbol="A")
CONSTANTS = {"data_source": "x"}
PLAIN = "Date,Close,Volume\n2024-01-02,1234.5,100000\n2024-01-03,0.25,7\n"
ROWS = [
    (datetime(2024, 1, 2, tzinfo=UTC), Decimal("1234.5"), 100_000),
    (datetime(2024, 1, 3, tzinfo=UTC), Decimal("0.25"), 7),
]

NAMES = [
    *("plain", "bom", "crlf", "utf-16", "semicolons", "tabs", "bars", "order"),
    *("quoted", "quotes", "thousands", "continental", "exponents", "compact", "zones"),
]


@pytest.fixture
async def lake():
    async with MemoryStore() as store, LakeStorage(store) as storage:
        yield storage


async def bring(lake: LakeStorage, file: Path | Source, mapping: Mapping = MAPPING, **options: Any) -> Any:
    constants = mapping.constants or CONSTANTS
    mapping = Mapping(**{name: getattr(mapping, name) for name in mapping.__slots__} | {"constants": constants})
    return await import_file(lake, options.pop("data_type", "market_data"), file, mapping=mapping, **options)


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def rows(lake: LakeStorage) -> list[tuple[Any, ...]]:
    answer = await lake.retrieve_data(DataQuery("market_data", columns=["timestamp", "price", "volume"]))
    return sorted((row["timestamp"], row["price"], row["volume"]) for row in answer.to_pylist())


@pytest.mark.parametrize(
    ("text", "how"),
    [
        (PLAIN.encode(), {}),
        (b"\xef\xbb\xbf" + PLAIN.encode(), {}),
        (PLAIN.replace("\n", "\r\n").encode(), {}),
        (PLAIN.encode("utf-16"), {"encoding": "utf-16"}),
        (PLAIN.replace(",", ";").encode(), {}),
        (PLAIN.replace(",", "\t").encode(), {}),
        (PLAIN.replace(",", "|").encode(), {}),
        (b"Volume,Note,Date,Close\n100000,,2024-01-02,1234.5\n7,N,2024-01-03,.25\n", {}),
        (b'Date,"Close","Volume"\n"2024-01-02","1234.5","100000"\n"2024-01-03","0.25","7"\n', {}),
        (b'Note,Date,Close,Volume\n"a ""b"", c\nd",2024-01-02,1234.50,100000\n,2024-01-03,0.250,7\n', {}),
        (b'Date,Close,Volume\n2024-01-02,"1,234.5","100,000"\n2024-01-03,0.25,7\n', {"thousands": ","}),
        (b"Date;Close;Volume\n2024-01-02;1.234,5;100.000\n2024-01-03;0,25;7\n", {"thousands": ".", "decimal": ","}),
        (b"Date,Close,Volume\n2024-01-02,1.2345e3,1e5\n2024-01-03,25E-2,7.0\n", {}),
        (b"Date,Close,Volume\n20240102, 1234.5 ,100000\n20240103,+0.25,7\n\n\n", {}),
        (b"Date,Close,Volume\n2024-01-02T00:00:00Z,1234.5,100000\n2024-01-03T01:00:00+01:00,0.25,7\n", {}),
    ],
    ids=NAMES,
)
async def test_the_same_rows_however_they_are_spelled(
    lake: LakeStorage, tmp_path: Path, text: bytes, how: dict[str, Any]
) -> None:
    (tmp_path / "a.csv").write_bytes(text)
    result = await bring(lake, Source(tmp_path / "a.csv", **how))
    assert (result.inserted, result.rejected, result.rounded) == (2, 0, 0)
    assert await rows(lake) == ROWS


@pytest.mark.parametrize(
    "kind", ["gz", "bz2", "zst", "zip", "zip of gz", "zip of parquet", "parquet", "zip with strays"]
)
async def test_the_same_rows_however_they_are_packed(lake: LakeStorage, tmp_path: Path, kind: str) -> None:
    packed = {"gz": gzip.compress, "bz2": bz2.compress, "zst": lambda data: pa.compress(data, "zstd", asbytes=True)}
    frame = pa.table({"Date": ["2024-01-02", "2024-01-03"], "Close": [1234.5, 0.25], "Volume": [100_000, 7]})
    path = tmp_path / f"a.csv.{kind}"
    if kind in packed:
        path.write_bytes(packed[kind](PLAIN.encode()))
    elif kind == "parquet":
        path = tmp_path / "a.parquet"
        pq.write_table(frame, path)
    else:
        path = tmp_path / "a.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            if kind == "zip of gz":
                archive.writestr("in/a.csv.gz", gzip.compress(PLAIN.encode()))
            elif kind == "zip of parquet":
                pq.write_table(frame, sink := pa.BufferOutputStream())
                archive.writestr("a.parquet", sink.getvalue().to_pybytes())
            else:
                archive.writestr("a.csv", PLAIN)
            if kind == "zip with strays":
                archive.writestr("__MACOSX/._a.csv", b"\x00\x05\x16\x07")
                archive.writestr(".DS_Store", b"\x00")
                archive.writestr("none.csv", b"")
                archive.mkdir("empty")
    result = await bring(lake, path)
    assert (result.inserted, result.rejected) == (2, 0)
    assert await rows(lake) == ROWS


@pytest.mark.parametrize(
    ("name", "content", "kind", "message"),
    [
        ("a.csv", b"", InvalidInputError, "a.csv is empty"),
        ("a.csv", b"\n\n", InvalidInputError, "a.csv is empty"),
        ("a.zip", b"", CorruptFileError, "cannot be read"),
        ("a.csv.gz", gzip.compress(PLAIN.encode() * 999, mtime=0)[:60], CorruptFileError, "cannot be read"),
        ("a.csv", b'Date,Close,Volume\n"2024-01-02,1,1\n' + b"2024-01-03,1,1\n" * 9, CorruptFileError, "quote"),
        ("a.csv", b'Date,Close,Volume,Note\n2024-01-02,1,1,"\n2024-01-03,1,1,\n', CorruptFileError, "not closed"),
        ("a.csv", "Date,Close,Volume\n2024-01-02,1,ü\n".encode("latin-1"), InvalidInputError, "give its encoding"),
        ("a.csv", b"Date,Close,Close\n2024-01-02,1,1\n", InvalidInputError, "two columns 'Close'"),
    ],
)
async def test_what_cannot_be_read_says_why_and_stores_nothing(
    lake: LakeStorage, tmp_path: Path, name: str, content: bytes, kind: type[Exception], message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(kind, match=message):
        await bring(lake, tmp_path / name)
    assert await lake.list_data_types() == []
    assert names_in(tmp_path) == [name]


async def test_a_file_with_nothing_but_a_header_has_no_rows(lake: LakeStorage, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Date,Close,Volume\n")
    result = await bring(lake, tmp_path / "a.csv")
    assert (result.rows, result.commits, result.table_version) == (0, 0, None)


async def test_an_archive_that_ends_too_early_or_needs_a_password(lake: LakeStorage, tmp_path: Path) -> None:
    whole = tmp_path / "a.zip"
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("a.csv", PLAIN)
        archive.writestr("b.csv", PLAIN.replace("2024", "2023"))
    data = whole.read_bytes()
    whole.write_bytes(data[:-40])
    with pytest.raises(CorruptFileError, match=r"a\.zip cannot be read"):
        await bring(lake, whole)
    spoiled = data.replace(b"2023-01-02,1234.5", b"2023-01-02,9234.5")
    whole.write_bytes(spoiled)
    with pytest.raises(CorruptFileError, match=r"b\.csv in .*cannot be read.*CRC"):
        await bring(lake, whole)
    assert await lake.list_data_types() == []
    flags = bytearray(data)
    flags[data.rindex(b"PK\x01\x02") + 8] |= 1
    whole.write_bytes(bytes(flags))
    with pytest.raises(CorruptFileError, match=r"b\.csv in .* needs a password"):
        await bring(lake, whole)


async def test_a_mapping_that_leaves_fields_out_names_them_and_the_nearest_columns(
    lake: LakeStorage, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("Date,Prices,Volume\n2024-01-02,1,1\n")
    with pytest.raises(MappingError, match=r"'price' \(did you mean 'Prices'\?\).*columns are Date, Prices, Volume"):
        await bring(
            lake, tmp_path / "a.csv", Mapping(columns={"timestamp": "Date", "volume": "Volume"}, symbol="A", tz="UTC")
        )
    with pytest.raises(MappingError, match=r"'predicted_price'.* of forecasts.*columns are Date, Prices, Volume"):
        await import_file(lake, "forecasts", tmp_path / "a.csv", mapping=Mapping(symbol="A", constants=CONSTANTS))
    with pytest.raises(MappingError, match=r"'Prise'.*\(did you mean 'Prices'\?\)"):
        await bring(lake, tmp_path / "a.csv", Mapping(columns={"price": "Prise"}))
    with pytest.raises(InvalidInputError, match=r"no option 'symbol'.*Mapping\(constants"):
        await bring(lake, tmp_path / "a.csv", symbol="A")
    assert await lake.list_data_types() == []


class Oil(MarketData):
    """Barrels had a price below nothing on 20 April 2020."""

    price: Annotated[Price, "may be negative"]


async def test_prices_below_zero_where_the_contract_lets_them(lake: LakeStorage, tmp_path: Path) -> None:
    (tmp_path / "wti.csv").write_text("Date,Close,Volume\n2020-04-20,-37.63,247947\n2020-04-21,10.01,288305\n")
    refused = await bring(lake, tmp_path / "wti.csv")
    assert (refused.inserted, refused.rejected_counts) == (1, {"price: greater_than": 1})
    async with LakeStorage(MemoryStore(), SchemaManager([Oil])) as oil:
        result = await bring(oil, tmp_path / "wti.csv")
        assert (result.inserted, result.rejected) == (2, 0)
        assert [row[1] for row in await rows(oil)] == [Decimal("-37.63"), Decimal("10.01")]


async def test_a_key_in_two_members_is_stored_twice_in_order(lake: LakeStorage, tmp_path: Path) -> None:
    """As two files would be: the later one replaces; in one member it is an error."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("1.csv", PLAIN)
        archive.writestr("2.csv", PLAIN.replace("0.25", "0.5"))
        archive.writestr("3.csv", PLAIN.replace("0.25", "0.75") + "2024-01-03,9,9\n")
    result = await bring(lake, tmp_path / "a.zip")
    assert (result.rows, result.inserted, result.updated, result.unchanged, result.rejected) == (7, 2, 2, 2, 1)
    assert [row[1] for row in await rows(lake)] == [Decimal("1234.5"), Decimal("0.75")]
    assert (result.findings[0].member, result.findings[0].record_index) == ("3.csv", 2)


@pytest.mark.parametrize("mode", ["overwrite", "append"])
async def test_a_key_in_two_members_where_nothing_is_looked_up(lake: LakeStorage, tmp_path: Path, mode: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("1.csv", PLAIN)
        archive.writestr("2.csv", "Date,Close,Volume\n2024-01-03,0.5,7\n")
    await bring(lake, tmp_path / "a.zip")
    result = await bring(lake, tmp_path / "a.zip", mode=mode)
    assert (result.commits, result.inserted) == (1, 2 if mode == "overwrite" else 3)
    expected = [ROWS[0], (*ROWS[1][:1], Decimal("0.5"), 7)]
    if mode == "append":
        expected = [ROWS[0], *expected[:1], ROWS[1], expected[1], expected[1]]
    assert await rows(lake) == expected


async def test_a_key_goes_with_one_file(lake: LakeStorage, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(PLAIN)
    await bring(lake, tmp_path / "a.csv", idempotency_key="a")
    (tmp_path / "a.csv").write_text(PLAIN.replace("0.25", "0.26"))
    with pytest.raises(IdempotencyKeyReusedError):
        await bring(lake, tmp_path / "a.csv", idempotency_key="a")
    with pytest.raises(InvalidInputError, match="is a text"):
        await bring(lake, tmp_path / "a.csv", idempotency_key=("a", 1))
    assert await rows(lake) == ROWS


async def test_lines_that_are_no_rows_keep_the_numbers_of_the_others_right(lake: LakeStorage, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Date,Close,Volume\nx\n2024-01-02,1234.5,100000\na,b,c,d\n2024-01-03,-1,7\n")
    result = await bring(lake, tmp_path / "a.csv")
    assert result.rejected_counts == {"line: fields": 2, "price: greater_than": 1}
    assert [(found.record_index, found.field) for found in result.findings] == [(3, "price")]
    with (tmp_path / "a.rejected.csv").open(newline="") as file:
        told = {int(row["_record"]): row["_line"] for row in csv.DictReader(file)}
    assert told == {1: "x", 3: "a,b,c,d", 4: ""}


async def test_a_header_that_does_not_fit_is_told_at_once(lake: LakeStorage, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("2024-01-02,1,2,3\n" * 9)
    with pytest.raises(
        InvalidInputError, match=r"header has 3 names \(Date, Close, Volume\), but a\.csv has 4 columns"
    ):
        await bring(lake, Source(tmp_path / "a.csv", header=("Date", "Close", "Volume")))
    assert names_in(tmp_path) == ["a.csv"]


def test_many_lines_that_are_no_rows_are_not_held(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n" + ("x" * 49 + "\n") * 60_000 + "3,4\n")
    batches = list(Source(tmp_path / "a.csv", batch_rows=1000).batches())
    assert max(len(batch.malformed) for batch in batches) < 60_000
    assert sum(len(batch.malformed) for batch in batches) == 60_000
    assert [number for batch in batches for number in batch.numbers.tolist()] == [0, 60_001]


async def test_refused_rows_in_the_quarantine(lake: LakeStorage, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(PLAIN + "2024-01-04,-1,7\n2024-01-05,dear,7\nno row\n")
    result = await bring(lake, tmp_path / "a.csv", on_invalid="quarantine")
    assert (result.inserted, result.rejected, result.quarantined) == (2, 3, 2)
    assert (tmp_path / "a.rejected.csv").read_text().count("\n") == 2, "the line that is no row, below the header"
    again = await bring(lake, tmp_path / "a.csv", on_invalid="quarantine")
    assert (again.unchanged, again.quarantined) == (2, 2)
    kept = await lake.retrieve_data(DataQuery("market_data_quarantine"))
    assert kept.rows == 2
    assert await rows(lake) == ROWS


@pytest.mark.parametrize("data_type", ["trades", "quotes"])
async def test_ticks(lake: LakeStorage, tmp_path: Path, data_type: str) -> None:
    (tmp_path / "20240311_es.csv").write_text("34200000,5120.25,3\n34200000,5120.50,1\n34200001,5120.25,2\n")
    fields = ("price", "size") if data_type == "trades" else ("bid", "bid_size")
    mapping = Mapping(
        header=("ms", *fields),
        milliseconds="ms",
        file_pattern=r"(?P<date>\d{8})_(?P<symbol>\w+)\.",
        upper=("symbol",),
        tz="America/New_York",
        constants=CONSTANTS | {"sequence": 0},
    )
    result = await bring(lake, tmp_path / "20240311_es.csv", mapping, data_type=data_type)
    assert (result.inserted, result.rejected, result.commits) == (3, 0, 1)
    answer = await lake.retrieve_data(DataQuery(data_type))
    assert {row["timestamp"] for row in answer.to_pylist()} == {
        datetime(2024, 3, 11, 13, 30, tzinfo=UTC),
        datetime(2024, 3, 11, 13, 30, 0, 1000, tzinfo=UTC),
    }
