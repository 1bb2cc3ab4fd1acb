from __future__ import annotations

import json
import sys

import pytest

VERSIONED = ("history", "restore", "changes", "analyze", "compact", "vacuum", "verify", "repair")
ALONE = [(name,) for name in VERSIONED if name != "restore"]
SHORT = ("--retention", "0 hours", "--allow-short-retention")


def rows(cli) -> int:
    return len(cli("query", "market_data", "--json").json["records"])


def test_history(filled) -> None:
    shown = filled("history", "market_data")
    assert shown.code == 0
    assert "3 inserted" in shown.out
    assert "CREATE TABLE" in shown.out
    newest, first = filled("history", "market_data", "--json").json
    assert (newest["version"], first["operation"]) == (1, "CREATE TABLE")
    (told,) = newest["lineage"]
    assert (told["schema_version"], told["inputs"], told["code_version"]) == ("1.2.0", ["aapl.csv"], None)
    assert "aapl.csv" in shown.out
    assert "more with --limit" in filled("history", "market_data", "--limit", "1").out
    assert len(filled("history", "market_data", "--limit", "0", "--json").json) == 2


def test_lineage(filled) -> None:
    shown = filled("lineage", "market_data")
    assert shown.code == 0
    assert "market_data@1" in shown.out
    assert "aapl.csv" in shown.out
    assert "market_data@1: 1 write, 1 source outside" in shown.out
    told = filled("lineage", "market_data", "--up", "--json").json
    assert told["sources"] == ["aapl.csv"]
    assert told["start"] == {"data_type": "market_data", "table_version": 1}
    assert '"aapl.csv" -> "market_data"' in filled("lineage", "market_data", "--dot").out
    assert "nothing is known of market_data@1" in filled("lineage", "market_data", "--down").out
    assert filled("lineage", "market_data", "--dot", "--json").code == 2
    missing = filled("lineage", "market_data", "--version", "9")
    assert (missing.code, "no version 9" in missing.err) == (1, True)


def test_delete_and_restore(filled) -> None:
    looked = filled("delete", "market_data", "--to", "2024-01-03", "--dry-run", "--json").json
    assert (looked["rows"], looked["dry_run"]) == (2, True)
    assert "2 rows of market_data would be deleted" in filled(
        "delete", "market_data", "--to", "2024-01-03", "--dry-run"
    ).out.replace("\n", " ")
    assert rows(filled) == 3
    done = filled("delete", "market_data", "--to", "2024-01-03", "--yes")
    assert "2 rows of market_data deleted; table version 2" in done.out
    assert "buffetstore restore market_data --version 1" in done.out
    assert rows(filled) == 1
    would = filled("restore", "market_data", "--version", "1", "--dry-run")
    assert "from version 2 (1 row) to what it was at version 1 (3 rows)" in " ".join(would.out.split())
    assert filled("restore", "market_data", "--version", "1", "--dry-run", "--json").json["rows_then"] == 3
    back = filled("restore", "market_data", "--version", "1", "--yes", "--json").json
    assert (back["version"], back["restored_version"]) == (3, 1)
    assert rows(filled) == 3
    assert "nothing was done" in filled("restore", "market_data", "--version", "3", "--yes").out
    assert "--version 3" in filled("restore", "market_data", "--version", "2", "--yes").out
    none = filled("delete", "market_data", "--symbol", "ZZZ", "--yes", "--json").json
    assert (none["rows"], none["table_version"]) == (0, 4)


@pytest.mark.parametrize(
    "command", [("delete", "market_data", "--all"), ("restore", "market_data", "--version", "0")], ids=lambda c: c[0]
)
def test_it_asks_first(filled, command, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = filled(*command)
    assert nobody.code == 2
    assert "--yes" in nobody.err
    assert filled(*command, "--json").code == 2
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    answers = iter(["n", "y"])
    monkeypatch.setattr("typer.confirm", lambda question, **_: "3 rows" in question and next(answers) == "y")
    no = filled(*command)
    assert (no.code, "nothing was done" in no.err) == (1, True)
    assert rows(filled) == 3
    assert filled(*command).code == 0
    assert rows(filled) == 0


def test_the_files_of_a_data_type(filled) -> None:
    shown = filled("ls", "market_data", "--files")
    assert shown.out.count("1 row  raw/market_data/year=2024/month=01/") == 3
    (file,) = filled("ls", "market_data", "--prefix", "year=2024/month=01/day=03", "--json").json
    assert (file["rows"], file["start"]) == (1, "2024-01-03T00:00:00+00:00")
    assert filled("ls", "--files").code == 2
    assert filled("ls", "forecasts", "--files").code == 1


def test_compact(filled) -> None:
    assert filled("compact", "market_data", "--from", "2024-01-04").out.startswith("market_data has nothing to gain")
    done = filled("compact", "market_data")
    assert "3 files" in done.out
    assert "became 1 file" in done.out
    assert filled("compact", "market_data", "--json").json["commits"] == 0
    assert rows(filled) == 3


def test_analyze(filled) -> None:
    shown = filled("analyze", "market_data")
    assert shown.code == 0
    assert "fine_buckets: 3 buckets of time hold 1 rows each" in shown.out
    assert "buffetstore analyze market_data --apply does it: compact to files of 128 MiB" in shown.out
    would = filled("analyze", "market_data", "--apply", "--dry-run", "--json").json
    assert (would["change"]["results"][0]["files_added"], would["change"]["after"]) == (1, None)
    assert filled("analyze", "market_data", "--json").json["files"] == 3
    done = filled("analyze", "market_data", "--apply")
    assert "3 files became 1 file; 0 findings left" in done.out
    assert rows(filled) == 3
    again = filled("analyze", "market_data", "--apply", "--unneeded")
    assert "nothing hurts" in again.out


def test_vacuum(filled) -> None:
    filled("compact", "market_data")
    assert "that nothing needs" in filled("vacuum", "market_data").out
    would = filled("vacuum", "market_data", *SHORT, "--dry-run")
    assert would.out.count(".parquet") == 3
    assert "would be deleted" in would.out
    asked = filled("vacuum", "market_data", *SHORT)
    assert (asked.code, "--yes" in asked.err) == (2, True)
    assert rows_at(filled, 1) == 3
    done = filled("vacuum", "market_data", *SHORT, "--yes", "--json").json
    assert (done["files"], len(done["listing"]), done["dry_run"]) == (3, 3, False)
    assert filled("query", "market_data", "--table-version", "1").code == 1
    assert rows(filled) == 3
    gone = filled("restore", "market_data", "--version", "1", "--yes")
    assert (gone.code, "vacuumed" in gone.err) == (1, True)
    assert "0 files brought back" in filled("restore", "market_data", "--version", "1", "--yes", "--ignore-missing").out


def rows_at(cli, version: int) -> int:
    return len(cli("query", "market_data", "--table-version", str(version), "--json").json["records"])


def test_verify_and_repair(filled, tmp_path) -> None:
    assert "ok" in filled("verify").out
    assert "needs no repair" in filled("repair", "market_data").out
    (deep,) = filled("verify", "market_data", "--deep", "--json").json
    assert (deep["ok"], deep["deep"], deep["data_type"]) == (True, True, "market_data")
    next((tmp_path / "lake").rglob("day=03/*.parquet")).unlink()
    found = filled("verify")
    assert found.code == 1
    assert "missing" in found.out
    assert "buffetstore repair market_data" in found.out
    assert filled("verify", "--json").code == 1
    asked = filled("repair", "market_data")
    assert (asked.code, "Their rows are lost to it" in asked.err) == (2, True)
    assert "would be taken out" in filled("repair", "market_data", "--dry-run").out
    assert len(filled("repair", "market_data", "--yes", "--json").json["removed"]) == 1
    assert filled("verify").code == 0
    assert rows(filled) == 2


def test_verify_of_nothing(cli) -> None:
    assert "buffetstore ingest --help" in cli("verify").out


def test_changes(filled) -> None:
    filled("delete", "market_data", "--to", "2024-01-02", "--yes")
    shown = filled("changes", "market_data")
    lines = [line.strip() for line in shown.out.splitlines()]
    assert [line[0] for line in lines if line[0] in "+-"] == ["+", "+", "+", "-"]
    assert "to go on: buffetstore changes market_data --since 2" in shown.err
    assert "nothing changed" in filled("changes", "market_data", "--since", "2").err
    told = filled("changes", "market_data", "--json", "--columns", "timestamp,volume", "--since", "1")
    (row,) = (json.loads(line) for line in told.out.splitlines())
    assert (row["volume"], row["_change_type"], row["_cursor"]) == (82488700, "delete", "2")
    some = filled("changes", "market_data", "--limit", "2", "--json").out.splitlines()
    assert len(some) == 2
    cursor = json.loads(some[-1])["_cursor"]
    rest = filled("changes", "market_data", "--since", cursor, "--json").out.splitlines()
    assert len(rest) == 2, "a file of a commit is a place to go on from"


@pytest.mark.parametrize(
    ("command", "code", "shown"),
    [
        (("delete", "market_data"), 2, "--all deletes every row"),
        (("delete", "market_data", "--all", "--symbol", "AAPL"), 2, "--all goes with no other"),
        (("delete", "market_data", "--filter", "prise=1", "--yes"), 2, "did you mean 'price'"),
        (("delete", "market_data", "--filter", "price"), 2, "--filter 'price' is not"),
        (("delete", "market_data", "--from", "soon", "--yes"), 2, "'soon'"),
        (("restore", "market_data"), 2, "buffetstore history"),
        (("restore", "market_data", "--version", "1", "--timestamp", "2024-01-01T00:00:00Z"), 2, "--version N"),
        (("restore", "market_data", "--version", "9", "--yes"), 1, "versions 0 to 1"),
        (("restore", "market_data", "--timestamp", "2024-01-05", "--yes"), 2, "write 2024-01-05T00:00:00Z for UTC"),
        (("restore", "market_data", "--timestamp", "noon", "--yes"), 2, "'noon' is no moment"),
        (("restore", "market_data", "--timestamp", "2001-01-01T00:00:00Z", "--yes"), 1, "oldest entry"),
        (("compact", "market_data", "--target-mib", "0"), 2, "--target-mib"),
        (("compact", "market_data", "--filter", "symbl=AAPL"), 2, "did you mean 'symbol'"),
        (("history", "market_data", "--limit", "-1"), 2, "--limit"),
        (("vacuum", "market_data", "--retention", "soon"), 2, "interval 7 days"),
        (("vacuum", "market_data", "--retention", "1 day"), 2, "shorter than the 168 hours"),
        (("changes", "market_data", "--since", "x"), 2, "'12' or '12:3'"),
        (("changes", "market_data", "--since", "9"), 1, "the latest is 1"),
        (("changes", "market_data", "--until", "9"), 1, "the latest is 1"),
        (("changes", "market_data", "--columns", "symbl"), 2, "did you mean 'symbol'"),
        (("changes", "market_data", "--timestamp", "noon"), 2, "'noon' is no moment"),
    ],
)
def test_wrong_input_is_told_what_to_do(filled, command, code: int, shown: str) -> None:
    done = filled(*command)
    assert done.code == code
    assert shown in " ".join(done.err.split())
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    "command", [("delete", "--all"), ("restore", "--version=0"), *((name,) for name in VERSIONED if name != "restore")]
)
def test_a_data_type_that_is_not_there(filled, command) -> None:
    name, *options = command
    yes = ["--yes"] if name in {"delete", "restore"} else []
    unknown = filled(name, "market_dta", *options, *yes)
    assert (unknown.code, "unknown data type" in unknown.err) == (2, True)
    absent = filled(name, "forecasts", *options, *yes, "--json")
    assert absent.code == 1
    assert json.loads(absent.err)["error"]["code"] == "table_not_found"


@pytest.mark.parametrize("command", ["delete", *VERSIONED])
def test_help_tells_of_store_and_json(cli, command: str) -> None:
    shown = cli(command, "--help").out
    assert "--store" in shown
    assert "--json" in shown
