from __future__ import annotations

import json
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from buffetstore.cli.common import USAGE
from buffetstore.cli.query import cell, parse_filters
from buffetstore.errors import InvalidQueryError


def test_rows_are_shown_with_what_was_pruned(filled) -> None:
    done = filled("query", "market_data", "--symbol", "AAPL", "--from", "2024-01-03", "--to", "2024-01-04")
    assert done.code == 0
    assert "184.25" in done.out
    assert "185.64" not in done.out
    assert "symbol AAPL, data_source yahoo" in done.out, "what is the same in all rows is said once"
    assert "2 rows in" in done.err
    assert "pruned" in done.err


def test_columns_filters_and_limit(filled) -> None:
    done = filled(
        "query", "market_data", "--columns", "price,volume", "--filter", "price>=182", "--limit", "1", "--json"
    )
    assert done.json["records"] == [{"price": 185.64, "volume": 82488700}]


def test_an_earlier_version(filled) -> None:
    now = filled("query", "market_data", "--json").json
    assert now["rows"] == 3
    assert filled("query", "market_data", "--table-version", "0", "--json").json["rows"] == 0
    beyond = filled("query", "market_data", "--table-version", "99")
    assert (beyond.code, "[table_version_not_found]" in beyond.err) == (1, True)


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_rows_are_written_to_a_file(filled, suffix: str) -> None:
    path = Path(f"rows.{suffix}")
    done = filled("query", "market_data", "--columns", "symbol,price", "--out", str(path))
    assert "3 rows written" in done.out
    rows = (
        json.loads(path.read_text())
        if suffix == "json"
        else pq.read_table(path).to_pylist()
        if suffix == "parquet"
        else pyarrow.csv.read_csv(path).to_pylist()
    )
    assert [float(row["price"]) for row in rows] == [185.64, 184.25, 181.91]
    assert not list(Path().glob(".*.partial"))


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_no_rows_make_a_file_too(filled, suffix: str) -> None:
    path = Path(f"rows.{suffix}")
    done = filled("query", "market_data", "--symbol", "NONE", "--out", str(path), "--json")
    assert (done.code, done.json["rows"]) == (0, 0)
    assert path.exists()
    if suffix == "json":
        assert json.loads(path.read_text()) == []


def test_a_failed_query_leaves_an_older_file_as_it_was(filled) -> None:
    Path("rows.csv").write_text("precious")
    done = filled("query", "market_data", "--columns", "nope", "--out", "rows.csv")
    assert done.code == USAGE
    assert Path("rows.csv").read_text() == "precious"
    assert not list(Path().glob(".*.partial"))


def test_what_cannot_be_right_is_one_line_and_usage(filled) -> None:
    for arguments, code in (
        (["market_data", "--filter", "rsy<15"], "invalid_query"),
        (["market_data", "--filter", "nonsense"], "invalid_query"),
        (["market_data", "--from", "2024-02-01", "--to", "2024-01-01"], "invalid_query"),
        (["market_data", "--from", "2024-13-01"], "invalid_query"),
        (["market_data", "--symbol", "A", "--filter", "symbol=B"], "invalid_query"),
        (["market_dat"], "unknown_data_type"),
        (["market_data", "--out", "rows.xlsx"], "invalid_input"),
    ):
        done = filled("query", *arguments)
        assert (done.code, done.out) == (USAGE, "")
        assert f"[{code}]" in done.err
        assert len(done.err.strip().splitlines()) == 1
    as_json = filled("query", "market_data", "--filter", "rsy<15", "--json")
    assert json.loads(as_json.err)["error"]["code"] == "invalid_query"


def test_nothing_stored_yet(cli) -> None:
    done = cli("query", "market_data")
    assert done.code == 1
    assert "[table_not_found]" in done.err


@pytest.mark.parametrize(
    ("texts", "filters"),
    [
        (["price>=100"], {"price": {"gte": "100"}}),
        (["price>1", "price<=2"], {"price": {"gt": "1", "lte": "2"}}),
        (["symbol=AAPL"], {"symbol": "AAPL"}),
        (["symbol == AAPL", "symbol=^GSPC"], {"symbol": ["AAPL", "^GSPC"]}),
        (["symbol=ES=F"], {"symbol": "ES=F"}),
        (["beta="], {"beta": None}),
        (["symbol!=BRK.B"], {"symbol": {"ne": "BRK.B"}}),
        ([], {}),
    ],
)
def test_filters_are_read(texts: list[str], filters: dict[str, object]) -> None:
    assert parse_filters(texts) == filters


@pytest.mark.parametrize("texts", [["price"], [">=3"], ["price>1", "price>2"], ["price=1", "price>2"]])
def test_filters_that_cannot_be_read(texts: list[str]) -> None:
    with pytest.raises(InvalidQueryError):
        parse_filters(texts)


def test_cells_are_short_and_exact() -> None:
    from datetime import UTC, date, datetime
    from decimal import Decimal

    assert cell(Decimal("185.64000000")) == "185.64"
    assert cell(Decimal("100.00000000")) == "100.00"
    assert cell(Decimal("0.00012340")) == "0.0001234"
    assert cell(Decimal("1E+3")) == "1000.00"
    assert cell(0.123456) == "0.1235"
    assert cell(datetime(2024, 1, 2, tzinfo=UTC)) == "2024-01-02"
    assert cell(datetime(2024, 1, 2, 14, 30, tzinfo=UTC)) == "2024-01-02 14:30:00"
    assert cell(date(2024, 1, 2)) == "2024-01-02"
    assert cell(None) == ""


def test_a_query_is_explained(filled) -> None:
    asked = ("query", "market_data", "--symbol", "AAPL", "--from", "2024-01-03", "--explain")
    told = filled(*asked)
    assert told.code == 0
    for part in ("left after", "all there are", "estimated: ", "1 round trip", "file:// is free"):
        assert part in told.out
    assert "counted" not in told.out
    assert "184.25" not in told.out, "no row is shown"
    done = filled(*asked, "--analyze", "--json").json
    assert done["counted"]["rows"] == 2
    assert done["counted"]["files"] == done["estimated"]["files"]


def test_what_goes_with_explain_alone(filled) -> None:
    done = filled("query", "market_data", "--analyze")
    assert (done.code, "go with --explain" in done.err) == (USAGE, True)
