from __future__ import annotations

import json
import sys

import pytest

VERSIONED = ("history", "restore", "compact")


def rows(cli) -> int:
    return len(cli("query", "market_data", "--json").json["records"])


def test_history(filled) -> None:
    shown = filled("history", "market_data")
    assert shown.code == 0
    assert "3 inserted" in shown.out
    assert "CREATE TABLE" in shown.out
    newest, first = filled("history", "market_data", "--json").json
    assert (newest["version"], first["operation"]) == (1, "CREATE TABLE")
    assert newest["lineage"] == [{"schema_version": "1.2.0", "inputs": ["aapl.csv"], "code_version": None}]
    assert "aapl.csv" in shown.out
    assert "more with --limit" in filled("history", "market_data", "--limit", "1").out
    assert len(filled("history", "market_data", "--limit", "0", "--json").json) == 2


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
    assert "from version 2 (1 row) to what it was at version 1 (3 rows)" in would.out
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


def test_compact(filled) -> None:
    assert filled("compact", "market_data", "--from", "2024-01-04").out.startswith("market_data has nothing to gain")
    done = filled("compact", "market_data")
    assert "3 files" in done.out
    assert "became 1 file" in done.out
    assert filled("compact", "market_data", "--json").json["commits"] == 0
    assert rows(filled) == 3


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
    ],
)
def test_wrong_input_is_told_what_to_do(filled, command, code: int, shown: str) -> None:
    done = filled(*command)
    assert done.code == code
    assert shown in " ".join(done.err.split())
    assert "Traceback" not in done.err


@pytest.mark.parametrize("command", [("delete", "--all"), ("restore", "--version=0"), ("history",), ("compact",)])
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
