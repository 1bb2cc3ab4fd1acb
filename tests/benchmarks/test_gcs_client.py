"""GETs through `open_store`'s whole stack, beside raw aiohttp, gcloud-aio-storage and obstore, against a stub."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = Path(__file__).with_name("gcs_client.py")
CLIENTS = ("buffetstore", "buffetstore+prefix", "aiohttp", "gcloud-aio-storage", "obstore")


@contextmanager
def stub() -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def run(client: str, url: str, seconds: float) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "run", client, url, str(seconds)], capture_output=True, text=True, check=True
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def report(sides: list[dict[str, Any]]) -> str:
    lines = ["".join([f"{'':28}", *(f"{side['client']:>22}" for side in sides)])]
    raw = next(side for side in sides if side["client"] == "aiohttp")
    figures = {}
    for number in raw["small"]:
        figures[f"small GET/s at {number}"] = lambda side, number=number: side["small"][number]["per_second"]
        figures[f"loop CPU, us each at {number}"] = lambda side, number=number: side["small"][number]["loop_us"]
    figures["4 x 64 MiB, MB/s"] = lambda side: side["large"]["mb_per_second"]
    figures["CPU s per GB"] = lambda side: side["large"]["cpu_s_per_gb"]
    figures["200 downloads: stall, ms"] = lambda side: side["stall_ms"]
    figures["of it CPU of the loop, ms"] = lambda side: side["stall_cpu_ms"]
    for name, figure in figures.items():
        cells = [f"{figure(side):12,.1f} ({figure(side) / figure(raw):5.2f} x)" for side in sides]
        lines.append("".join([f"{name:28}", *(f"{cell:>22}" for cell in cells)]))
    lines.append("(x: of raw aiohttp's in this run. obstore and its threads are outside of the loop.)")
    return "\n".join(lines)


def installed(client: str) -> bool:
    return client != "obstore" or bool(pytest.importorskip("obstore", reason="needs obstore"))


@pytest.mark.benchmark
def test_clients() -> None:
    with stub() as url:
        sides = [run(client, url, 2.0) for client in CLIENTS if installed(client)]
    print("\n" + report(sides))
    assert {side["client"] for side in sides} >= {"buffetstore", "aiohttp"}


def test_the_benchmark_itself_works() -> None:
    """A short run, so that the benchmark does not rot between the times that somebody runs it."""
    with stub() as url:
        sides = [run(client, url, 0.05) for client in ("buffetstore+prefix", "aiohttp")]
    assert "small GET/s at 64" in report(sides)
    assert all(side["small"]["1"]["per_second"] > 0 for side in sides)
