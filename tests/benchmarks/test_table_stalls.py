"""How long calls of a table of 100,000 files keep the event loop from everybody else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("table_stalls.py")


def measure(folder: Path, files: int) -> dict[str, dict[str, float]]:
    command = [sys.executable, str(SCRIPT), str(folder), str(files)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def report(found: dict[str, dict[str, float]]) -> str:
    heads = {"ms": "ms", "stall_ms": "longest stall", "step_ms": "longest step", "loop_ms": "CPU on the loop"}
    lines = [f"{'':20}" + "".join(f"{name:>17}" for name in heads.values())]
    lines += [f"{call:20}" + "".join(f"{figures[name]:17,.1f}" for name in heads) for call, figures in found.items()]
    return "\n".join(lines)


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
def test_the_loop_beside_a_hundred_thousand_files(tmp_path: Path) -> None:
    found = measure(tmp_path, 100_000)
    print(f"\n100,000 files; stalls include what the machine does besides, steps are CPU of the loop\n{report(found)}")
    assert max(figures["step_ms"] for figures in found.values()) < 10


def test_the_benchmark_itself_works(tmp_path: Path) -> None:
    assert "repair" in report(measure(tmp_path, 600))
