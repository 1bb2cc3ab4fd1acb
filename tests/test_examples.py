"""Every example runs to its end, in a process of its own and with nothing in the environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
ARGUMENTS = {"web_service.py": ["--check"]}
SAYS = {
    "basic_local.py": "a correction: 1 row replaced",
    "contracts_over_time.py": "stored 1, put aside 1",
    "exactly_once.py": "the rows are there once",
    "gcs_storage_example.py": "30 rows from",
    "ingest_real_files_example.py": "mended: 2 rows",
    "notebook_style.py": "rows in batches",
    "own_data_type.py": "above the venue's cap",
    "questions.py": "the latest: 2 rows",
    "time_travel.py": "brought back: 10 rows",
    "web_service.py": "twenty requests at once",
}


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_example_runs(script: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", str(script), *ARGUMENTS.get(script.name, [])],
        cwd=tmp_path,
        env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stderr == ""
    assert SAYS[script.name] in done.stdout


def test_every_example_is_known() -> None:
    assert {script.name for script in EXAMPLES.glob("*.py")} == set(SAYS)
