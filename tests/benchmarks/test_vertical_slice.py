"""1,000,000 rows stored and one symbol-month read back on the local store, beside deltalake on the same rows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("vertical_slice.py")


def run(side: str, folder: Path, rows: int) -> dict[str, Any]:
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, str(SCRIPT), side, str(folder), str(rows)], capture_output=True, text=True, check=True
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def report(ours: dict[str, Any], peer: dict[str, Any]) -> str:
    lines = [f"{'':24}{'buffetstore':>14}{'deltalake':>14}{'ratio':>8}"]
    figures = {
        "store, rows/s": lambda side: side["rows"] / side["store_seconds"],
        "read symbol-month, ms": lambda side: side["read_seconds"] * 1e3,
        "read it again, ms": lambda side: side["again_seconds"] * 1e3,
        "peak MiB above input": lambda side: side["peak_mib_above_input"],
        "MB stored": lambda side: side["bytes_stored"] / 1e6,
        "longest stall store, ms": lambda side: side["store_stall_ms"],
        "longest stall read, ms": lambda side: side["read_stall_ms"],
    }
    for name, figure in figures.items():
        mine, theirs = figure(ours), figure(peer)
        lines.append(f"{name:24}{mine:14,.1f}{theirs:14,.1f}{mine / theirs if theirs else float('nan'):8.2f}")
    lines.append(
        "(buffetstore validates, fills and stores all 24 columns of the contract; deltalake stores the 6 given)"
    )
    lines.append(f"rows read {ours['read_rows']:,}, bytes read {ours['read_bytes']:,}, requests {ours['requests']}")
    return "\n".join(lines)


@pytest.mark.benchmark
def test_a_million_rows(tmp_path: Path) -> None:
    ours, peer = run("ours", tmp_path / "ours", 1_000_000), run("deltalake", tmp_path / "deltalake", 1_000_000)
    print("\n" + report(ours, peer))
    assert ours["read_rows"] == peer["read_rows"] > 0
    assert ours["again_hit"]


def test_the_benchmark_itself_works(tmp_path: Path) -> None:
    """A small run, so that the benchmark does not rot between the times that somebody runs it."""
    ours, peer = run("ours", tmp_path / "ours", 40_000), run("deltalake", tmp_path / "deltalake", 40_000)
    assert ours["read_rows"] == peer["read_rows"] == 80
    assert "rows/s" in report(ours, peer)
