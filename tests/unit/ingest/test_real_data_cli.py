"""The same files by the command line: the same rows, in one store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from buffetstore.cli.app import run
from buffetstore.cli.common import FAILED, REJECTED, USAGE

if TYPE_CHECKING:
    from pathlib import Path

Cli = "Callable[..., tuple[int, str, str]]"


@pytest.fixture(autouse=True)
def no_blocking_calls() -> None:
    """A command has its loop to itself."""


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BUFFETSTORE_URL", "lake")

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run([*arguments])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call


def ingested(cli: Cli, case: Any, file: Path, *options: str) -> tuple[int, dict[str, Any]]:
    code, out, err = cli("ingest", str(file), "-t", case.data_type, *case.options, "--json", *options)
    assert not err
    return code, json.loads(out)


def test_each_file_by_the_command_line(case, file, expected, rejected_file, cli) -> None:
    where = ("--rejected", str(rejected_file))
    code, told = ingested(cli, case, file, *where, "--idempotency-key", "nightly", "--mode", "append")
    assert code == (REJECTED if expected.rejected else 0)
    assert (told["rows"], told["inserted"]) == (len(expected.rows) + len(expected.rejected), len(expected.rows))
    assert (told["rejected"], told["warnings"], told["rounded"]) == (len(expected.rejected), expected.warnings, 0)
    assert sum(told["warning_counts"].values()) == expected.warnings
    assert rejected_file.exists() == bool(expected.rejected)
    _, again = ingested(cli, case, file, *where, "--idempotency-key", "nightly", "--mode", "append")
    assert (again["inserted"], again["done_before"]) == (0, len(expected.rows))
    _, upserted = ingested(cli, case, file, *where)
    assert (upserted["inserted"], upserted["unchanged"]) == (0, len(expected.rows))
    _, out, _ = cli("query", case.data_type, "--json", "--limit", "1000000")
    assert json.loads(out)["rows"] == len(expected.rows)


def test_a_mapping_in_a_file_says_the_same_as_options(case, file, expected, rejected_file, cli, tmp_path) -> None:
    written = tmp_path / "mapping.json"
    written.write_text(json.dumps(case.document))
    code, out, _ = cli(
        *("ingest", str(file), "-t", case.data_type, "--mapping", str(written), "--json"),
        *("--rejected", str(rejected_file)),
    )
    assert (code in {0, REJECTED}, json.loads(out)["inserted"]) == (True, len(expected.rows))


def test_what_is_told_of_bad_rows(case, file, expected, rejected_file, cli) -> None:
    code, out, _ = cli("ingest", str(file), "-t", case.data_type, *case.options, "--rejected", str(rejected_file))
    assert f"{len(expected.rows):,} stored as {case.data_type}" in out
    assert (code == REJECTED) == bool(expected.rejected)
    if expected.rejected:
        assert f"rejected, see {rejected_file}" in out.replace("\n", "")


def test_lineage_is_kept_with_the_commit(cli, tmp_path) -> None:
    (tmp_path / "a.csv").write_text("symbol,timestamp,price,volume\nA,2024-01-02T00:00:00Z,1,1\n")
    code, *_ = cli(
        *(
            "ingest",
            "a.csv",
            "-t",
            "market_data",
            "--set",
            "data_source=x",
            "--inputs",
            "ftp://vendor/a",
            "--job",
            "j1",
        ),
        *("--job", "j1", "--code-version", "abc", "--param", "day=2024-01-02", "--param", "empty="),
    )
    assert code == 0
    _, out, _ = cli("history", "market_data", "--json")
    (told,) = [each["user_metadata"] for each in json.loads(out) if each.get("user_metadata")]
    lineage = json.loads(told) if isinstance(told, str) else told
    assert (lineage["inputs"], lineage["job"], lineage["codeVersion"]) == (["a.csv", "ftp://vendor/a"], "j1", "abc")
    assert lineage["parameters"] == {"day": "2024-01-02", "empty": ""}


def test_an_overwrite_replaces_what_is_stored_in_one_commit(cli, tmp_path) -> None:
    for name, symbols in (("a.csv", "ABC"), ("b.csv", "DE")):
        lines = [f"{symbol},2024-01-02T00:00:00Z,1,1" for symbol in symbols]
        (tmp_path / name).write_text("\n".join(["symbol,timestamp,price,volume", *lines]))
    base = ("-t", "market_data", "--set", "data_source=x", "--json", "--batch-rows", "1")
    cli("ingest", "a.csv", *base)
    code, out, _ = cli("ingest", "b.csv", *base, "--mode", "overwrite")
    assert (code, json.loads(out)["commits"]) == (0, 1)
    _, out, _ = cli("query", "market_data", "--json")
    assert sorted(row["symbol"] for row in json.loads(out)["records"]) == ["D", "E"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--map", "Clos=price"], "did you mean 'Close'"),
        (["--map", "Date=timestamp", "--tz", "UTC", "--symbol", "A"], "'price'"),
        (["--mode", "upsrt"], "upsrt"),
        (["--param", "x"], "NAME=VALUE"),
        (["--date", "yesterday"], "ISO date"),
        (["--mapping", "nowhere.yaml"], "there is no file nowhere.yaml"),
        (["--delimiter", ";;"], "one character"),
        (["--encoding", "klingon"], "klingon"),
        (["--thousands", "."], "differs"),
        (["--rejected", "bars.csv"], "the file that they come from"),
        (["--rejected", "x.parquet"], "name a .csv file"),
        (["--upper", "symbol"], "no group of file_pattern"),
        (["--file-pattern", r"^(?P<symbol>\d+)$"], "does not match"),
    ],
)
def test_what_cannot_be_right_says_so_and_stores_nothing(cli, tmp_path, options, said) -> None:
    (tmp_path / "bars.csv").write_text("Date,Close,Volume\n2024-01-02,185.64,100\n")
    code, _, err = cli("ingest", "bars.csv", "-t", "market_data", "--set", "data_source=x", *options)
    assert code in {USAGE, FAILED}
    assert said in " ".join(err.split())
    assert "Traceback" not in err
    assert json.loads(cli("ls", "--json")[1]) == []
    assert (tmp_path / "bars.csv").exists()


def test_a_killed_process_is_sent_again_and_every_row_lands_once(tmp_path, cli) -> None:
    """It is ended by force wherever it is, while commits are made, and at the end nobody can tell."""
    rows = 400
    lines = [f"S{number},2024-01-02T00:00:00Z,{number + 1},1" for number in range(rows)]
    (tmp_path / "a.csv").write_text("\n".join(["symbol,timestamp,price,volume", *lines]))
    command = (
        *("ingest", "a.csv", "-t", "market_data", "--set", "data_source=x", "--mode", "append", "--json"),
        *("--idempotency-key", "a", "--batch-rows", "10"),
    )
    log = tmp_path / "lake/raw/market_data/_delta_log"
    for stop_at in (3, 12):
        process = subprocess.Popen(
            [sys.executable, "-c", "from buffetstore.cli.entry import main; main()", *command],
            cwd=tmp_path,
            env={**os.environ, "BUFFETSTORE_URL": "lake"},
            stdout=subprocess.DEVNULL,
        )
        try:
            while process.poll() is None and not (log / f"{stop_at:020}.json").exists():
                time.sleep(0.002)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    code, out, err = cli(*command)
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["inserted"] + told["done_before"] == rows
    assert told["done_before"] >= 100
    _, out, _ = cli("query", "market_data", "--json", "--limit", "1000000")
    assert sorted(row["price"] for row in json.loads(out)["records"]) == list(range(1, rows + 1))
