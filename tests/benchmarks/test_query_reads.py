"""Five questions over an HTTP object store at 30 ms a request: requests, round trips, bytes and time, beside peers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = str(Path(__file__).with_name("query_reads.py"))
ROWS = int(os.environ.get("BUFFETSTORE_BENCHMARK_ROWS", "1000000"))
PEERS = ("polars", "deltalake")


def run(*words: str) -> Any:
    done = subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]) if done.stdout else None


@pytest.fixture
def url() -> Iterator[str]:
    with subprocess.Popen(
        [sys.executable, SCRIPT, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.stdin.close()
        server.wait()


def report(layout: str, ours: dict[str, Any], limit: dict[str, Any], peers: dict[str, Any]) -> str:
    lines = [
        f"{layout:11}{'rows':>9}  {'cold ms (requests, rounds)':28}{'warm ms (requests, rounds, MB)':34}{'limit':>8}"
    ]
    lines[0] += "".join(f"  {name + ' first / again':26}" for name in peers)
    for name, found in ours.items():
        cold, warm = found["cold"], found["warm"]
        line = f"{name:11}{found['rows']:9,}  {f'{cold[0]:,.0f} ({cold[1]}, {cold[2]})':28}"
        line += f"{f'{warm[0]:,.0f} ({warm[1]}, {warm[2]}, {warm[3] / 1e6:.2f})':34}"
        line += f"{limit[name]['warm'][0]:8,.0f}" if name in limit else f"{'':8}"
        for theirs in peers.values():
            if name in theirs:
                first, again = theirs[name]["cold"], theirs[name]["warm"]
                line += f"  {f'{first[0]:,.0f} ({first[1]}) / {again[0]:,.0f} ({again[1]})':26}"
        lines.append(line)
    return "\n".join(lines)


@pytest.mark.benchmark
def test_five_questions(url: str) -> None:
    run("fill", url, str(ROWS))
    for layout in ("daily", "compacted"):
        ours, limit = run("ours", url, layout, "0.03"), run("limit", url, layout, "0.03")
        peers = {name: run(name, url, layout, "0.03") for name in PEERS}
        print("\n" + report(layout, ours, limit, peers))
        for name, found in ours.items():
            assert found["cold"][2] <= 3, name
            assert found["warm"][2] <= 1, name
            for theirs in (limit, *peers.values()):
                assert theirs.get(name, found)["rows"] == found["rows"], name


def test_the_benchmark_itself_works(url: str) -> None:
    """A small run, so that the benchmark does not rot between the times that somebody runs it."""
    run("fill", url, "80000")
    ours, limit = run("ours", url, "compacted", "0"), run("limit", url, "compacted", "0")
    assert [found["rows"] for found in ours.values()] == [80, 160, 40_000, 80_000, 500]
    assert limit["q2"]["rows"] == 160
    assert "cold ms" in report("compacted", ours, limit, {})
