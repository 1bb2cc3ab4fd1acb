"""1,000,000 market rows validated: columns beside polars and its kin, dicts beside pydantic; memory; stalls."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("validation.py")
PEAKS = (
    "polars expressions",
    "pandera polars",
    "dataframely filter",
    "ours: Arrow, plain strings",
    "ours: 4 floats to decimals",
    "pydantic models, dumped, from_pylist",
    "ours: dicts",
)


def run(*arguments: object) -> Any:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def report(found: dict[str, Any], peaks: dict[str, float], stalls: dict[str, Any]) -> str:
    times = found["times"]
    lines = [f"{'':40}{'rows':>11}{'ms':>10}{'CPU ms':>10}{'times as fast':>15}{'peak MiB':>10}"]
    for name, one in times.items():
        peer = times.get(one["peer"])
        ratio = f"{peer['ms'] / peer['rows'] / (one['ms'] / one['rows']):.1f} x" if peer else ""
        peak = f"{peaks[name]:,.0f}" if name in peaks else ""
        lines.append(f"{name:40}{one['rows']:11,}{one['ms']:10.1f}{one['cpu_ms']:10.1f}{ratio:>15}{peak:>10}")
    lines += [f"{name}: not installed" for name in found["absent"]]
    lines.append("(per row, beside polars expressions for columns, beside pydantic models for dicts)")
    held = ", ".join(f"{name} {one['stall_ms']:.1f} of {one['ms']:,.0f}" for name, one in stalls.items())
    lines.append(f"longest stall of the loop in `await storage.validate`, ms: {held}")
    return "\n".join(lines)


def measure(folder: Path, rows: int, rounds: int, peaks: tuple[str, ...]) -> tuple[Any, dict[str, float], Any]:
    found = run("time", rows, rounds)
    measured = {name: run("peak", rows, name)["peak_mib"] for name in peaks if name in found["times"]}
    return found, measured, run("stall", rows, folder)


@pytest.mark.benchmark
def test_validation_of_a_million_rows(tmp_path: Path) -> None:
    print("\n" + report(*measure(tmp_path, 1_000_000, 7, PEAKS)))


def test_the_validation_benchmark_works(tmp_path: Path) -> None:
    """A small run, so that the benchmark does not rot between the times that somebody runs it."""
    found, peaks, stalls = measure(tmp_path, 3_000, 1, PEAKS[-1:])
    told = report(found, peaks, stalls)
    for name in found["absent"]:
        assert f"{name}: not installed" in told
    assert all(one["ms"] > 0 for one in found["times"].values())
    assert peaks["ours: dicts"] >= 0
    assert stalls.keys() == {"Arrow", "polars", "pandas", "dicts"}
