"""S3 requests beside aiobotocore and obstore, against one stub in another process: a figure is a ratio of one run."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("s3_client.py")
CLIENTS = ("ours", "stack", "aiobotocore", "obstore")
INSTALLED = [name for name in CLIENTS if name != "aiobotocore" or importlib.util.find_spec(name)]


@pytest.fixture
def stub():
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield process.stdout.readline().strip()
    process.communicate()


def run(client: str, loop: str, url: str, seconds: float, mib: int) -> dict[str, Any]:
    command = [sys.executable, str(SCRIPT), "run", client, loop, url, str(seconds), str(mib)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def report(loop: str, sides: dict[str, dict[str, Any]]) -> str:
    units = {"ops": "op/s", "loop_us": "us of the loop", "cpu_us": "us of CPU", "mb_s": "MB/s", "cpu_s_gb": "CPU s/GB"}
    peer = "aiobotocore" if "aiobotocore" in sides else "obstore"
    lines = [f"{loop:34}" + "".join(f"{name:>13}" for name in sides) + f"{f'ours/{peer}':>18}"]
    for case, figures in sides["ours"].items():
        for unit in figures:
            values = [side[case][unit] for side in sides.values()]
            ratio = sides["ours"][case][unit] / sides[peer][case][unit]
            name = f"{case}, {units[unit]}"
            lines.append(f"{name:34}" + "".join(f"{value:13,.1f}" for value in values) + f"{ratio:18.2f}")
    return "\n".join(lines)


@pytest.mark.benchmark
@pytest.mark.timeout(600)
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_requests_beside_aiobotocore_and_obstore(stub: str, loop: str) -> None:
    pytest.importorskip("aiobotocore")
    if loop == "uvloop" and importlib.util.find_spec("uvloop") is None:
        pytest.skip("needs uvloop")
    sides = {client: run(client, loop, stub, 2.0, 64) for client in CLIENTS}
    print("\n" + report(loop, sides))
    # CPU time, not the clock: how the work of one run compares does not hang on who else has the machine.
    assert sides["ours"]["get x64"]["loop_us"] < sides["aiobotocore"]["get x64"]["loop_us"]


def test_the_benchmark_itself_works(stub: str) -> None:
    """A small run, so that the benchmark does not rot between the times that somebody runs it."""
    sides = {client: run(client, "asyncio", stub, 0.05, 1) for client in INSTALLED}
    assert "op/s" in report("asyncio", sides)
