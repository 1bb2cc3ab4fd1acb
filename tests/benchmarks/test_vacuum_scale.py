"""Vacuum over a million listed objects; and beside deltalake, over files that are there.

Each measurement has a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("deltalake", reason="needs deltalake")
if not Path("/proc/self/clear_refs").exists():
    pytest.skip("needs Linux: peak memory is read from /proc", allow_module_level=True)

SCRIPT = Path(__file__).with_name("vacuum_scale.py")
FIGURES = (("ms", "ms"), ("ms of CPU", "cpu_ms"), ("peak MiB", "peak_mib"), ("ms stalled", "stall_ms"))


def run(*arguments: object) -> dict[str, Any]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1]) if done.stdout else {}
    return answer


def of_a_listing(files: int, orphans: int) -> tuple[dict[str, Any], str]:
    found = run("listing", files, orphans)
    lines = [f"{found['listed']:,} objects listed, {found['files']:,} of them deleted"]
    lines.append(f"{'the listing alone, ms':30}{found['listing_ms']:10,.1f}")
    for prefix, what in (("dry_", "dry run"), ("", "vacuum")):
        lines += [f"{f'{what}, {name}':30}{found[prefix + figure]:10,.1f}" for name, figure in FIGURES]
    lines.append(f"{'of it the answer, MiB':30}{found['answer_mib']:10,.1f}")
    lines.append(f"{'doing nothing, ms stalled':30}{found['idle_stall_ms']:10,.1f}")
    return found, "\n".join(lines)


def on_disk(folder: Path, files: int, orphans: int) -> tuple[dict[str, dict[str, Any]], str]:
    run("generate", folder, files, orphans)
    found = {side: run(side, folder) for side in ("ours", "deltalake")}
    lines = [f"{f'{files:,} files, dry run':30}{'buffetstore':>14}{'deltalake':>14}"]
    for name, figure in FIGURES[:3]:
        lines.append(f"{name:30}{found['ours'][figure]:14,.1f}{found['deltalake'][figure]:14,.1f}")
    return found, "\n".join(lines)


@pytest.mark.benchmark
@pytest.mark.timeout(900)
def test_a_million_objects(tmp_path: Path) -> None:
    found, report = of_a_listing(900_000, 100_000)
    print(f"\n{report}")
    assert found["peak_mib"] < 200
    _, beside = on_disk(tmp_path, 50_000, 5000)
    print(beside)


def test_the_benchmark_itself_works(tmp_path: Path) -> None:
    """A small run, so that the benchmark does not rot between the times that somebody runs it."""
    found, report = of_a_listing(1000, 100)
    assert (found["dry_files"], found["files"], found["listed"] >= 1100) == (100, 100, True)
    assert "dry run, ms" in report
    both, beside = on_disk(tmp_path, 1000, 100)
    assert {side: held["files"] for side, held in both.items()} == {"ours": 100, "deltalake": 100}
    assert "peak MiB" in beside
