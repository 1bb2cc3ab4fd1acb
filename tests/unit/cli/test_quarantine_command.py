from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from buffetstore.manager import StorageManager
from buffetstore.testing.data_storage import bar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BAD = [bar("AAPL", 1, price=-1), bar("AAPL", 2, price="n/a [b]"), bar("MSFT", 3, volume=None)]


@pytest.fixture
def refused(cli: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Run a command where three rows were refused, and one stored."""

    async def put() -> None:
        async with StorageManager.open(tmp_path / "lake") as storage:
            await storage.store_data("market_data", [*BAD, bar("TSLA", 4)], on_invalid="quarantine", job="nightly")

    asyncio.run(put())
    return cli


def ids(cli: Callable[..., Any], *arguments: str) -> list[str]:
    return [row["quarantine_id"] for row in cli("quarantine", "show", "market_data", "--json", *arguments).json]


def test_what_there_is(cli: Callable[..., Any]) -> None:
    assert "nothing is in quarantine" in cli("quarantine", "list").out
    assert cli("quarantine", "list", "--json").json == []
    unknown = cli("quarantine", "show", "market_dta")
    assert unknown.code == 2
    assert "did you mean 'market_data'" in unknown.err
    assert "no such rows" in cli("quarantine", "show", "market_data").out


def test_rows_are_listed_and_shown(refused: Callable[..., Any]) -> None:
    listed = refused("quarantine", "list").out
    assert "market_data: 3 open, 0 replayed, 0 discarded" in listed
    assert "1 row    price: decimal_parsing" in listed
    (told,) = refused("quarantine", "list", "--json").json
    assert (told["open"], told["rules"]["volume: missing"]) == (3, 1)
    shown = refused("quarantine", "show", "market_data", "--filter", "symbol=AAPL", "--limit", "2")
    assert "price price -1 must be greater than 0" in shown.out
    assert '"price": "n/a [b]"' in shown.out
    assert "--limit shows more" in shown.err
    (row,) = refused("quarantine", "show", "market_data", "--filter", "rule=missing", "--json").json
    assert (row["symbol"], row["job"], row["reasons"][0]["field"]) == ("MSFT", "nightly", "volume")


def test_rows_are_mended_by_values(refused: Callable[..., Any]) -> None:
    done = refused("quarantine", "replay", "market_data", "--filter", "field=price", "--set", "price=185.64")
    assert done.code == 0
    assert "2 of 2 rows replayed to market_data" in done.out
    assert "2 new" in done.out
    rows = refused("query", "market_data", "--symbol", "AAPL", "--json").json["records"]
    assert [row["price"] for row in rows] == [185.64] * 2
    again = refused("quarantine", "replay", "market_data", "--all", "--json")
    assert again.code == 3
    assert again.json["refused"] == 1
    assert "volume is required" in str(again.json["reasons"])
    told = refused("quarantine", "replay", "market_data", "--all")
    assert (told.code, "1 row refused again" in told.out) == (3, True)
    assert len(ids(refused, "--status", "replayed")) == 2
    assert refused("quarantine", "show", "market_data", "--status", "all").out.count("replayed") == 2


def test_rows_are_mended_by_a_function(refused: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "mend.py").write_text(
        "def mend(row):\n    return None if row['volume'] is None else row | {'price': 5}\n\nother = 5\n"
    )
    done = refused("quarantine", "replay", "market_data", "--all", "--fix", "mend.py:mend")
    assert (done.code, "1 row left out by the fix" in done.out) == (0, True)
    (tmp_path / "broken.py").write_text("1 / 0\n")
    for fix, shown in (
        ("mend.py:nosuch", "has no function 'nosuch'"),
        ("mend.py:other", "has no function 'other'"),
        ("mend.py", "not FILE.py:FUNCTION"),
        ("nosuch.py:mend", "there is no file"),
        ("broken.py:mend", "ZeroDivisionError"),
    ):
        wrong = refused("quarantine", "replay", "market_data", "--all", "--fix", fix)
        assert (wrong.code, shown in wrong.err.replace("\n", " ")) == (2, True), wrong.err


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ([], "which rows"),
        (["--all", "--id", "x"], "no other choice"),
        (["--all", "--set", "price"], "FIELD=VALUE"),
        (["--all", "--set", "price=1", "--fix", "a.py:b"], "choose one"),
        (["--all", "--set", "prise=1"], "did you mean 'price'"),
    ],
)
def test_wrong_usage(refused: Callable[..., Any], arguments: list[str], shown: str) -> None:
    done = refused("quarantine", "replay", "market_data", *arguments)
    assert (done.code, shown in done.err.replace("\n", " ")) == (2, True), done.err


def test_rows_are_discarded_and_purged(refused: Callable[..., Any]) -> None:
    (one,) = ids(refused, "--filter", "rule=missing")
    dry = refused("quarantine", "discard", "market_data", "--id", one, "--reason", "x", "--dry-run")
    assert "1 row of market_data would be discarded" in dry.out
    asked = refused("quarantine", "discard", "market_data", "--id", one, "--reason", "x")
    assert (asked.code, "--yes" in asked.err) == (2, True)
    done = refused("quarantine", "discard", "market_data", "--id", one, "--reason", "a test row", "--yes", "--json")
    assert done.json == {"data_type": "market_data", "rows": 1, "dry_run": False}
    assert ids(refused, "--status", "discarded") == [one]
    kept = refused("quarantine", "purge", "market_data", "--yes")
    assert "0 rows deleted" in kept.out
    gone = refused("quarantine", "purge", "market_data", "--older-than", "0", "--yes", "--json")
    assert gone.json["rows"] == 1
    assert len(ids(refused, "--status", "all")) == 2


def test_columns_that_are_no_fields(cli: Callable[..., Any], tmp_path: Path) -> None:
    async def put() -> None:
        async with StorageManager.open(tmp_path / "lake") as storage:
            row = bar("AAPL", 1, dividends=0, timestamp=datetime(2024, 1, 1, tzinfo=UTC))
            await storage.store_data("market_data", [row], on_invalid="quarantine")

    asyncio.run(put())
    done = cli("quarantine", "replay", "market_data", "--all", "--extra", "ignore", "--version", "1.2.0")
    assert "1 of 1 row replayed" in done.out
