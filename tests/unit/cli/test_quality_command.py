"""`buffetstore quality`: what it shows, what it keeps, and when it fails."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

Cli = Any
NULLS = json.dumps({"check": "null_rate", "column": "rsi", "name": "no_rsi"})
MILD = json.dumps({"check": "null_rate", "column": "rsi", "name": "mild", "severity": "warning"})


def test_declared_checks_are_run_and_kept(filled: Callable[..., Cli]) -> None:
    done = filled("quality", "run", "market_data", "--json")
    (report,) = done.json
    assert (done.code, report["data_type"], report["ok"]) == (0, "market_data", True)
    assert [result["check"] for result in report["results"]][:2] == ["gaps_1d", "duplicates"]
    kept = filled("quality", "results", "--json").json
    assert {result["check"] for result in kept} == {result["check"] for result in report["results"]}
    rows = filled("query", "quality_results", "--json").json
    assert rows["rows"] == len(report["results"])


def test_a_failure_is_exit_code_1_with_the_first_keys(filled: Callable[..., Cli]) -> None:
    done = filled("quality", "run", "market_data", "--check", NULLS, "--check", "duplicates")
    assert done.code == 1
    shown = " ".join(done.out.split())  # a narrow terminal breaks lines
    assert "3 of 3 rows (100.0000%), at most 0.0000%" in shown
    assert "symbol AAPL, timestamp 2024-01-02T00:00:00+00:00" in shown
    assert "market_data is not ok: 2 checks, 1 failure" in shown


def test_a_warning_is_shown_and_is_no_failure(filled: Callable[..., Cli]) -> None:
    done = filled("quality", "run", "market_data", "--check", MILD)
    assert (done.code, "warning" in done.out, "market_data is ok" in done.out) == (0, True, True)


def test_all_data_types_that_declare_checks(filled: Callable[..., Cli]) -> None:
    first, second = (filled("quality", "run", "--json").json for _ in range(2))
    assert [report["data_type"] for report in first] == [report["data_type"] for report in second] == ["market_data"]


def test_nothing_is_kept_where_it_is_not_wanted(filled: Callable[..., Cli]) -> None:
    assert filled("quality", "run", "market_data", "--no-keep").code == 0
    done = filled("quality", "results")
    assert (done.code, "no check has been run here" in done.out) == (0, True)


def test_the_last_result_of_each_check_or_every_one(filled: Callable[..., Cli]) -> None:
    for _ in range(2):
        assert filled("quality", "run", "market_data", "--check", "duplicates").code == 0
    assert len(filled("quality", "results", "market_data", "--json").json) == 1
    assert len(filled("quality", "results", "--all", "--json").json) == 2
    assert filled("quality", "results", "--since", "2999-01-01", "--json").json == []
    shown = filled("quality", "results").out
    assert "duplicates" in shown
    assert "0 of 3 rows" in shown


def test_only_these_rows(filled: Callable[..., Cli]) -> None:
    options = ("--check", "duplicates", "--from", "2024-01-03", "--symbol", "AAPL", "--json")
    (report,) = filled("quality", "run", "market_data", *options).json
    assert (report["scope"], report["results"][0]["rows"]) == ("2024-01-03.. AAPL", 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("market_data", "--check", "duplicats"), "declares no check 'duplicats'"),
        (("market_data", "--check", '{"check": "gabs"}'), "'gabs' is none of"),
        (("market_data", "--check", "{"), "is not JSON"),
        (("market_data", "--check", '{"check": "null_rate", "column": "x"}'), "names 'x'"),
        (("market_dat",), "market_dat"),
    ],
)
def test_wrong_usage_is_exit_code_2(filled: Callable[..., Cli], arguments: tuple[str, ...], message: str) -> None:
    done = filled("quality", "run", *arguments)
    assert (done.code, message in done.err) == (2, True), done.err


def test_an_empty_store(cli: Callable[..., Cli]) -> None:
    assert "nothing is stored here yet" in cli("quality", "run").out
    assert cli("quality", "run", "market_data").code == 1
