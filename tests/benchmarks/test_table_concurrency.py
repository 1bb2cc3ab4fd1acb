"""Writers at once on one Delta table, beside deltalake; requests one after the other; stalls of the event loop."""

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
    lines = [f"{'at once':16}{'ours s':>10}{'commits':>10}{'deltalake s':>14}{'x':>8}"]
    for name, ours in found["ours"].items():
        theirs = found["deltalake"].get(name, {}).get("seconds")
        beside = f"{theirs:14.2f}{theirs / ours['seconds']:8.1f}" if theirs else f"{'-':>14}{'-':>8}"
        lines.append(f"{name:16}{ours['seconds']:10.3f}{ours.get('commits', '-'):>10}{beside}")
    lines += [f"LanceDB: {found['lancedb']}", f"round trips: {found['rounds']}", f"stalls, ms: {found['stalls']}"]
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
