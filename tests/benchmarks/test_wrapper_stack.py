"""The layers around a store beside the bare store and beside one HTTP request."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("wrapper_stack.py")


def run(calls: int) -> dict[str, float]:
    done = subprocess.run([sys.executable, str(SCRIPT), str(calls)], capture_output=True, text=True, check=True)
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def report(found: dict[str, float]) -> str:
    bare, request = found["memory"], found["aiohttp"]
    lines = [f"{'small get + read':24}{'us CPU':>10}{'added us':>10}{'x memory':>10}{'x aiohttp':>10}"]
    lines += [
        f"{name:24}{cost:10.2f}{cost - bare:10.2f}{cost / bare:10.2f}{cost / request:10.3f}"
        for name, cost in found.items()
    ]
    return "\n".join(lines)


@pytest.mark.benchmark
def test_the_stack() -> None:
    found = run(10_000)
    print("\n" + report(found))
    assert found["metrics+retry+prefix"] > found["memory"] > 0


def test_the_benchmark_itself_works() -> None:
    found = run(20)
    assert all(cost > 0 for cost in found.values())
    assert "metrics+retry+prefix" in report(found)
