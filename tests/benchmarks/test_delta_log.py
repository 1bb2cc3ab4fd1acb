"""The log of a table of many files: opened, followed, pruned and checkpointed, beside deltalake on the same log.

Each measurement has a process of its own. The data files do not exist: nothing here reads them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("delta_log.py")
OPEN = (("ms", "open_ms"), ("ms of CPU", "open_cpu_ms"), ("peak MiB", "peak_mib"), ("ms stalled", "open_stall_ms"))
WRITE = (
    ("ms", "checkpoint_ms"),
    ("ms of CPU", "checkpoint_cpu_ms"),
    ("peak MiB, snapshot included", "total_peak_mib"),
    ("ms stalled", "checkpoint_stall_ms"),
)
FOLLOW = (
    ("ms without news", "no_news_ms"),
    ("ms for 10 files", "news_ms"),
    ("ms for a removed file", "news_with_remove_ms"),
)
PRUNE = (
    ("ms by time", "prune_by_time_ms"),
    ("ms by time and symbol", "prune_ms"),
    ("ms by symbol", "prune_by_symbol_ms"),
)
FIRST = tuple((f"{name}, the first time", f"first_{figure}") for name, figure in PRUNE)
PEAK = (("peak MiB", "pruned_peak_mib"), ("ms stalled, the first time", "first_prune_by_time_stall_ms"))
FIGURES = (
    *(("open JSON, " + name, "json", figure) for name, figure in OPEN),
    *(("JSON, prune, " + name, "json", figure) for name, figure in (*FIRST, *PRUNE, *PEAK)),
    *(("write checkpoint, " + name, "write", figure) for name, figure in WRITE),
    *(("open checkpoint, " + name, "checkpoint", figure) for name, figure in OPEN),
    *(("refresh, " + name, "checkpoint", figure) for name, figure in FOLLOW),
    *(("checkpoint, prune, " + name, "checkpoint", figure) for name, figure in (*FIRST, *PRUNE, *PEAK)),
)


def run(*arguments: object) -> dict[str, Any]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1]) if done.stdout else {}
    return answer


def measure(folder: Path, commits: int, files: int) -> dict[str, dict[str, Any]]:
    run("generate", folder / "json", commits, files)
    found = {}
    for side in ("ours", "deltalake"):
        found[side] = {"json": run(side, "open", folder / "json", commits, files)}
        copytree(folder / "json", folder / side)
        found[side]["write"] = run(side, "checkpoint", folder / side, commits, files)
        found[side]["checkpoint"] = run(side, "open", folder / side, commits, files)
    found["ours"]["theirs"] = run("ours", "open", folder / "deltalake", commits, files)
    return found


def report(found: dict[str, dict[str, Any]]) -> str:
    lines = [f"{'':52}{'buffetstore':>14}{'deltalake':>14}"]
    for name, measurement, figure in FIGURES:
        mine, theirs = (found[side][measurement].get(figure) for side in ("ours", "deltalake"))
        lines.append(f"{name:52}{mine:14,.1f}" + (f"{theirs:14,.1f}" if theirs is not None else f"{'-':>14}"))
    lines.append(f"{'open from their checkpoint, ms':52}{found['ours']['theirs']['open_ms']:14,.1f}")
    for measurement in ("json", "checkpoint"):
        for figure in ("open_ms", "open_cpu_ms", "peak_mib"):
            ratio = found["deltalake"][measurement][figure] / found["ours"][measurement][figure]
            lines.append(f"{f'ratio, open {measurement}, {figure}':52}{ratio:14,.2f}")
    return "\n".join(lines)


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("files", [100_000, 1_000_000])
def test_a_thousand_commits(tmp_path: Path, files: int) -> None:
    found = measure(tmp_path, 1000, files)
    print(f"\n{files:,} files\n{report(found)}")
    assert found["ours"]["checkpoint"]["prune_by_time_to"] == 500
    assert found["ours"]["checkpoint"]["prune_to"] == 1


def test_the_benchmark_itself_works(tmp_path: Path) -> None:
    """A small run, so that the benchmark does not rot between the times that somebody runs it."""
    found = measure(tmp_path, 10, 1000)
    assert {side: held["checkpoint"]["files"] for side, held in found.items()} == {"ours": 1000, "deltalake": 1000}
    assert "checkpoint, prune, ms by time" in report(found)
