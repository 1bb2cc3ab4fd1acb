"""Large objects up and down beside raw aiohttp and obstore, against the GCS test server; and the memory they take."""

from __future__ import annotations

import filecmp
import json
import subprocess
import sys
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = Path(__file__).with_name("transfers.py")
CLIENTS = ("buffetstore", "aiohttp", "obstore")
OPERATIONS = ("up", "down", "buffer")
MIB = 1024 * 1024
ALLOWED_MIB = 100


@contextmanager
def served() -> Iterator[str]:
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


def run(client: str, operation: str, url: str, folder: Path, size: int) -> dict[str, Any]:
    command = [sys.executable, str(SCRIPT), "run", client, operation, url, str(folder), str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def write_source(folder: Path, size: int) -> None:
    spec = spec_from_file_location("transfers_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    module.write_source(folder / "source", size)


def report(sides: list[dict[str, Any]]) -> str:
    lines = [f"{'':10}{'':14}{'MB/s':>10}{'CPU s/GB':>10}{'peak MiB':>10}"]
    lines += [
        f"{side['operation']:10}{side['client']:14}{side['mb_per_second']:10,.0f}{side['cpu_s_per_gb']:10.2f}"
        f"{side['peak_mib']:10,.0f}"
        for side in sides
    ]
    lines.append("(buffetstore alone compares checksums; peak is above what the process held before)")
    return "\n".join(lines)


def transferred(clients: tuple[str, ...], folder: Path, size: int) -> list[dict[str, Any]]:
    write_source(folder, size)
    with served() as url:
        return [run(client, operation, url, folder, size) for operation in OPERATIONS for client in clients]


def memory_taken(where: str, folder: Path, size: int) -> dict[str, float]:
    """Send a file up and bring it back, each in a process of its own; return the growth of its memory in MiB."""
    write_source(folder, size)
    if where == "local":
        url = (folder / "store").as_uri()
        sides = [run("local", operation, url, folder, size) for operation in ("up", "down")]
    else:
        with served() as url:
            sides = [run("buffetstore", operation, url, folder, size) for operation in ("up", "down")]
    assert filecmp.cmp(folder / "source", folder / "down", shallow=False)
    return {side["operation"]: side["peak_mib"] for side in sides}


@pytest.mark.benchmark
def test_transfers(tmp_path: Path) -> None:
    pytest.importorskip("obstore", reason="needs obstore")
    sides = transferred(CLIENTS, tmp_path, 256 * MIB)
    print("\n" + report(sides))
    assert len(sides) == len(CLIENTS) * len(OPERATIONS)


@pytest.mark.benchmark
@pytest.mark.parametrize("where", ["local", "gcs"])
def test_a_gibibyte_takes_little_memory(tmp_path: Path, where: str) -> None:
    taken = memory_taken(where, tmp_path, 1024 * MIB)
    print(f"\n1 GiB, {where}: {taken['up']:.0f} MiB up, {taken['down']:.0f} MiB down")
    assert max(taken.values()) < ALLOWED_MIB


@pytest.mark.parametrize("where", ["local", "gcs"])
def test_a_large_object_takes_little_memory(tmp_path: Path, where: str) -> None:
    """A quarter of a GiB, so that it is soon done: more than twice what is allowed, so that holding it would show."""
    assert max(memory_taken(where, tmp_path, 256 * MIB).values()) < ALLOWED_MIB


def test_the_benchmark_itself_works(tmp_path: Path) -> None:
    """A small run, so that the benchmark does not rot between the times that somebody runs it."""
    sides = transferred(("buffetstore", "aiohttp"), tmp_path, 20 * MIB)
    assert "CPU s/GB" in report(sides)
    assert filecmp.cmp(tmp_path / "source", tmp_path / "down", shallow=False)
