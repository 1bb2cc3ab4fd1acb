from __future__ import annotations

import gzip
from pathlib import Path

from buffetstore.cli.common import REJECTED, USAGE

BARS = "Date,Close,Volume,Dividends\n2024-01-02,185.64,100,0\n2024-01-03,184.25,200,0\n"
OPTIONS = [
    *("-t", "market_data", "--symbol", "AAPL", "--tz", "America/New_York", "--set", "data_source=yahoo"),
    *("--map", "Date=timestamp", "--map", "Close=price", "--map", "Volume=volume"),
]


def test_rows_are_stored_and_the_second_time_unchanged(cli) -> None:
    Path("aapl.csv").write_text(BARS)
    first = cli("ingest", "aapl.csv", *OPTIONS)
    assert first.code == 0
    assert "2 rows read, 2 stored as market_data" in first.out
    assert "2 new, 0 updated, 0 unchanged" in first.out
    assert "ignored columns, which are no fields: Dividends" in first.out
    again = cli("ingest", "aapl.csv", *OPTIONS, "--json")
    assert (again.code, again.json["unchanged"], again.json["inserted"]) == (0, 2, 0)


def test_bad_rows_are_exit_code_3_and_set_aside(cli) -> None:
    Path("aapl.csv").write_text(BARS + "2024-01-04,-1,300,0\n")
    done = cli("ingest", "aapl.csv", *OPTIONS)
    assert done.code == REJECTED
    assert "1 row rejected, see aapl.rejected.csv" in done.out
    assert "greater than 0" in done.out
    assert "-1" in Path("aapl.rejected.csv").read_text()
    assert cli("query", "market_data", "--json").json["rows"] == 2


def test_a_dry_run_stores_nothing(cli) -> None:
    Path("aapl.csv").write_text(BARS + "2024-01-04,-1,300,0\n")
    done = cli("ingest", "aapl.csv", *OPTIONS, "--dry-run", "--json")
    assert (done.code, done.json["accepted"], done.json["rejected"]) == (REJECTED, 2, 1)
    assert done.json["findings"][0]["record_index"] == 2
    assert cli("ls", "--json").json == []
    assert not Path("aapl.rejected.csv").exists()


def test_strays_are_an_error_when_asked(cli) -> None:
    Path("aapl.csv").write_text(BARS)
    done = cli("ingest", "aapl.csv", *OPTIONS, "--extra", "error", "--json")
    assert (done.code, done.json["rejected"]) == (REJECTED, 2)
    assert "Dividends" in done.json["findings"][0]["message"]


def test_packed_headerless_and_scaled(cli) -> None:
    with gzip.open("aapl.csv.gz", "wt") as file:
        file.write("20240102 00:00,1856400,100\n")
    done = cli(
        *("ingest", "aapl.csv.gz", "-t", "market_data", "--symbol", "AAPL", "--set", "data_source=lean"),
        *("--header", "timestamp,price,volume", "--scale", "0.0001", "--tz", "America/New_York"),
    )
    assert done.code == 0
    (row,) = cli("query", "market_data", "--json").json["records"]
    assert (row["price"], row["timestamp"]) == (185.64, "2024-01-02T05:00:00+00:00")


def test_what_cannot_be_right_is_usage(cli) -> None:
    Path("aapl.csv").write_text(BARS)
    for arguments, code in (
        (["aapl.csv", "-t", "market_dta"], "unknown_data_type"),
        (["aapl.csv", "-t", "market_data", "--map", "Clos=price"], "mapping"),
        (["aapl.csv", "-t", "market_data", "--tz", "New York"], "mapping"),
    ):
        done = cli("ingest", *arguments)
        assert done.code == USAGE
        assert f"[{code}]" in done.err
        assert "Traceback" not in done.err


def test_a_file_that_is_not_there_fails(cli) -> None:
    done = cli("ingest", "nowhere.csv", *OPTIONS)
    assert done.code == 1
    assert "there is no file nowhere.csv" in done.err
