"""Encryption beside `AESGCM` on one buffer, cache hits beside the stores themselves, in one run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("crypto_cache.py")


def run(mebibytes: int, calls: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(mebibytes), str(calls)], capture_output=True, text=True, check=True
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def report(answer: dict[str, Any]) -> str:
    ciphers, small, large = answer["ciphers"], answer["small"], answer["large"]
    lines = [f"{'':28}{'buffetstore':>14}{'the least':>14}{'ratio':>8}"]

    def line(name: str, ours: float, least: float) -> None:
        lines.append(f"{name:28}{ours:14,.2f}{least:14,.2f}{ours / least:8.2f}")

    line("seal, GB/s", ciphers["seal"], ciphers["AESGCM.encrypt"])
    line("open, GB/s", ciphers["open"], ciphers["AESGCM.decrypt"])
    line("stream up, GB/s", large["stream up"], ciphers["AESGCM.encrypt"])
    line("stream down, GB/s", large["stream down"], ciphers["AESGCM.decrypt"])
    line("memory tier, us", small["cache, memory tier"], small["memory store"])
    line("disk tier, us", small["cache, disk tier"], small["local store"])
    line("sealed 4 KiB, us", small["sealed in memory"], small["memory store"])
    lines.append(f"longest stall of the loop while streaming: {large['stall_ms']:.1f} ms")
    return "\n".join(lines)


@pytest.mark.benchmark
def test_encryption_and_cache() -> None:
    print("\n" + report(run(256, 5_000)))


def test_the_benchmark_itself_works() -> None:
    """A small run, so that the benchmark does not rot between the times that somebody runs it."""
    assert "memory tier, us" in report(run(2, 5))
