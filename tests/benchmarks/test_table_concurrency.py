"""Writers at once on one table, beside deltalake and LanceDB; requests in turn; stalls of the event loop."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("deltalake", reason="needs deltalake")

SCRIPT = Path(__file__).with_name("table_concurrency.py")


def run(appends: int, tables: int) -> dict[str, Any]:
    command = [sys.executable, str(SCRIPT), str(appends), str(tables)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def report(found: dict[str, Any]) -> str:
    peers = {"deltalake": found["deltalake"], "LanceDB": found["lancedb"]}
    lines = [f"{'at once':16}{'ours s':>10}{'commits':>10}" + "".join(f"{f'{peer} s':>14}{'x':>8}" for peer in peers)]
    for name, ours in found["ours"].items():
        line = f"{name:16}{ours['seconds']:10.3f}{ours.get('commits', '-'):>10}"
        for figures in peers.values():
            theirs = figures.get(name) if isinstance(figures, dict) else None
            line += (
                f"{theirs['seconds']:14.2f}{theirs['seconds'] / ours['seconds']:8.1f}"
                if theirs
                else f"{'-':>14}{'-':>8}"
            )
        lines.append(line)
    if isinstance(found["lancedb"], str):
        lines.append(f"LanceDB: {found['lancedb']}")
    for peer, figures in peers.items():
        told = figures if isinstance(figures, dict) else {}
        lost = {name: held for name, held in told.items() if held["failed"] or held.get("unfinished")}
        lines += [
            f"{peer}, {name}: {held['failed']} failed, {held.get('unfinished', 0)} unfinished"
            for name, held in lost.items()
        ]
    lines += [f"round trips: {found['rounds']}", f"stalls, ms: {found['stalls']}"]
    return "\n".join(lines)


def check(found: dict[str, Any]) -> None:
    rounds = found["rounds"]
    assert rounds["append"] <= 2
    assert rounds["append, lists"] == 0
    assert rounds["refresh"] == 1
    assert rounds["open"] <= 3
    assert rounds["compact"] <= 5
    assert all(seconds > 0 for seconds in found["stalls"].values())
    assert "deltalake" in report(found)


@pytest.mark.benchmark
def test_the_figures() -> None:
    found = run(1000, 20)
    print("\n" + report(found))
    check(found)


def test_the_benchmark_itself_works() -> None:
    check(run(4, 2))
