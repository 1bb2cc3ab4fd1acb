"""A file of a million rows brought in: rows a second beside pyarrow and deltalake, memory, and the loop's stalls."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("ingest.py")
SIDES = ("append", "upsert", "pyarrow", "deltalake")
STEP_MS = 25  # a call must not keep the loop longer
GROWTH_MIB = 128  # of three million rows more, which are 200 MiB of text and more than that in columns


def script(*arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run(side: str, file: Path, batch_rows: int = 500_000) -> dict[str, Any]:
    folder = file.with_name(f"{file.stem}-{side}-{batch_rows}")
    answer: dict[str, Any] = json.loads(script("run", side, file, folder, batch_rows).splitlines()[-1])
    return answer


def report(sides: list[dict[str, Any]]) -> str:
    lines = [f"{'':12}{'rows/s':>12}{'rows/CPU s':>12}{'peak MiB':>10}{'step ms':>9}{'stall ms':>10}"]
    for side in sides:
        rows, loop = side["rows"], [f"{side[name]:.1f}" if name in side else "" for name in ("step_ms", "stall_ms")]
        lines.append(
            f"{side['side']:12}{rows / side['seconds']:12,.0f}{rows / side['cpu_s']:12,.0f}{side['peak_mib']:10,.0f}"
            f"{loop[0]:>9}{loop[1]:>10}"
        )
    lines.append("(append and upsert validate every row, and commit every 500,000; the others do not)")
    return "\n".join(lines)


@pytest.mark.benchmark
def test_a_million_rows(tmp_path: Path) -> None:
    pytest.importorskip("deltalake", reason="needs deltalake")
    script("make", tmp_path / "bars.csv", 1_000_000)
    sides = [run(side, tmp_path / "bars.csv") for side in SIDES]
    print("\n" + report(sides))
    assert [side["rows"] for side in sides] == [1_000_000] * len(SIDES)
    assert max(side.get("step_ms", 0) for side in sides) < STEP_MS


@pytest.mark.benchmark
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    peaks = {}
    for rows in (1_000_000, 4_000_000):
        script("make", tmp_path / f"{rows}.csv", rows)
        peaks[rows] = run("append", tmp_path / f"{rows}.csv", 250_000)["peak_mib"]
    print(f"\npeak MiB by rows: {peaks}")
    assert peaks[4_000_000] < peaks[1_000_000] + GROWTH_MIB


def test_the_benchmark_itself_works(tmp_path: Path) -> None:
    """A small run, so that the benchmark does not rot, which holds the loop's own steps to their bound too."""
    pytest.importorskip("deltalake", reason="needs deltalake")
    script("make", tmp_path / "bars.csv", 50_000)
    sides = [run(side, tmp_path / "bars.csv", 20_000) for side in SIDES]
    assert "rows/CPU s" in report(sides)
    assert [side["rows"] for side in sides] == [50_000] * len(SIDES)
    assert [side["commits"] for side in sides[:2]] == [3, 3]
    assert max(side.get("step_ms", 0) for side in sides) < STEP_MS
