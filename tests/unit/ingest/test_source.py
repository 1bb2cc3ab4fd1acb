from __future__ import annotations

import gzip
import zipfile
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from buffetstore.errors import CorruptFileError, InvalidInputError, NotFoundError
from buffetstore.ingest import Source

if TYPE_CHECKING:
    from pathlib import Path

CSV = "symbol,price\nAAPL,1.5\nNA,\n"
ROWS = [{"symbol": "AAPL", "price": "1.5"}, {"symbol": "NA", "price": None}]


def rows_of(source: Source) -> list[dict[str, object]]:
    return [row for batch in source.batches() for row in batch.rows.to_pylist()]


def test_csv_plain_packed_and_many_in_one(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(CSV)
    with gzip.open(tmp_path / "a.csv.gz", "wt") as packed:
        packed.write(CSV)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("one.csv", CSV)
        archive.writestr("deep/two.csv", CSV)
    assert rows_of(Source(tmp_path / "a.csv")) == ROWS
    assert rows_of(Source(tmp_path / "a.csv.gz")) == ROWS
    batches = list(Source(tmp_path / "a.zip").batches())
    assert [(batch.member, batch.numbers.tolist(), batch.share) for batch in batches] == [
        ("one.csv", [0, 1], 0.5),
        ("two.csv", [0, 1], 1.0),
    ]
    assert [row for batch in batches for row in batch.rows.to_pylist()] == ROWS * 2
    assert next(iter(Source(tmp_path / "a.csv.gz").batches())).member == "a.csv"


def test_parquet_in_batches_keeps_its_types(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": range(10)}), tmp_path / "a.parquet")
    batches = list(Source(tmp_path / "a.parquet", batch_rows=4).batches())
    assert [(int(batch.numbers[0]), len(batch.rows), batch.share) for batch in batches] == [
        (0, 4, 0.4),
        (4, 4, 0.8),
        (8, 2, 1.0),
    ]
    assert batches[0].rows["n"].type == pa.int64()


def test_large_csv_comes_in_batches_of_about_the_size_asked(tmp_path: Path) -> None:
    line = "x" * 90
    (tmp_path / "a.csv").write_text("a,b\n" + "".join(f"{number},{line}\n" for number in range(200_000)))
    batches = list(Source(tmp_path / "a.csv", batch_rows=50_000).batches())
    assert len(batches) > 1
    assert [int(batch.numbers[0]) for batch in batches] == [
        sum(len(earlier.rows) for earlier in batches[:number]) for number in range(len(batches))
    ]
    assert sum(len(batch.rows) for batch in batches) == 200_000
    shares = [batch.share for batch in batches]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_without_a_header_names_are_given(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("AAPL,1.5\n")
    assert rows_of(Source(tmp_path / "a.csv", header=("symbol", "price"))) == ROWS[:1]


def test_tabs_and_semicolons(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text(CSV.replace(",", "\t"))
    (tmp_path / "a.csv").write_text(CSV.replace(",", ";"))
    assert rows_of(Source(tmp_path / "a.tsv")) == ROWS
    assert rows_of(Source(tmp_path / "a.csv", delimiter=";")) == ROWS


def test_lines_that_are_no_rows_are_told_with_their_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n1,2,3\n4,5\n6\n")
    (batch,) = Source(tmp_path / "a.csv").batches()
    assert batch.rows.to_pylist() == [{"a": "1", "b": "2"}, {"a": "4", "b": "5"}]
    assert batch.numbers.tolist() == [0, 2]
    assert [(line.record, line.text, line.reason) for line in batch.malformed] == [
        (1, "1,2,3", "3 fields instead of 2"),
        (3, "6", "1 fields instead of 2"),
    ]


def test_quoted_fields_hold_commas_and_lines(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('a,b\n"1,5","x\ny"\n')
    assert rows_of(Source(tmp_path / "a.csv")) == [{"a": "1,5", "b": "x\ny"}]


@pytest.mark.parametrize(
    ("name", "content", "kind", "message"),
    [
        ("a.csv", b"", InvalidInputError, "is empty"),
        ("a.csv", b"a,a\n1,2\n", InvalidInputError, "two columns 'a'"),
        ("a.csv", "a\nM\u00fcnchen\n".encode("latin-1"), InvalidInputError, "latin-1"),
        ("a.parquet", b"PAR1 not really", CorruptFileError, "cannot be read"),
        ("a.zip", b"PK not really", CorruptFileError, "cannot be read"),
        ("a.csv.gz", b"not packed at all", CorruptFileError, "cannot be read"),
    ],
)
def test_files_that_cannot_be_read_say_why(
    tmp_path: Path, name: str, content: bytes, kind: type[Exception], message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(kind, match=message):
        list(Source(path).batches())


def test_other_encodings(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("a\nM\u00fcnchen\n".encode("latin-1"))
    assert rows_of(Source(tmp_path / "a.csv", encoding="latin-1")) == [{"a": "M\u00fcnchen"}]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no file"):
        list(Source(tmp_path / "a.csv").batches())


def test_a_truncated_archive_is_corrupt(tmp_path: Path) -> None:
    whole = gzip.compress(("a\n" + "1\n" * 100_000).encode())
    (tmp_path / "a.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptFileError):
        list(Source(tmp_path / "a.csv.gz").batches())
