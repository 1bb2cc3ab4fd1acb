from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from buffetstore.testing.gcs import serve_in_thread

COMMAND = [sys.executable, "-c", "from buffetstore.cli import main; main()"]


def test_ls_and_describe(filled) -> None:
    listed = filled("ls")
    assert "market_data" in listed.out
    (entry,) = filled("ls", "--json").json
    assert (entry["data_type"], entry["rows"], entry["start"]) == ("market_data", 3, "2024-01-02T00:00:00+00:00")
    described = filled("describe", "market_data")
    assert "key: symbol, timestamp, interval, data_source" in described.out
    assert "delta_scan" in described.out
    columns = filled("describe", "market_data", "--json").json["columns"]
    assert {"name": "price", "type": "decimal128(18, 8)", "required": True} in columns
    assert filled("describe", "forecasts").code == 1
    assert filled("describe", "nope").code == 2


def test_an_empty_store_says_how_to_begin(cli) -> None:
    assert "buffetstore ingest --help" in cli("ls").out
    assert cli("ls", "--json").json == []


def test_which_store(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BUFFETSTORE_URL")
    done = cli("ls")
    assert done.code == 2
    assert all(name in done.err for name in ("--store", "BUFFETSTORE_URL", "GCS_DATA_BUCKET"))
    assert cli("ls", "--store", "other").code == 0
    assert cli("ls", "--store", "gopher://x").code == 2


def test_the_environments_bucket(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BUFFETSTORE_URL")
    with serve_in_thread(buckets=["bars"]) as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "p")
        monkeypatch.setenv("GCS_DATA_BUCKET", "bars")
        assert cli("ls", "--json").json == []
        found = cli("doctor", "--json").json
        assert found["ok"]
        assert [check["name"] for check in found["checks"]][-1] == "delete"
        monkeypatch.setenv("GCS_DATA_BUCKET", "nowhere")
        done = cli("doctor")
        assert done.code == 1
        assert "gcloud storage buckets create gs://nowhere" in done.out


def test_doctor_on_a_folder(cli) -> None:
    Path("lake").mkdir()
    done = cli("doctor")
    assert (done.code, "all is well" in done.out) == (0, True)
    assert cli("doctor", "--store", "missing").code == 1, "it looks, and makes nothing"
    assert not Path("missing").exists()


def test_the_demo_tells_its_story_and_the_second_time_nothing_changes(cli) -> None:
    first = cli("demo", "--no-chart")
    assert first.code == 0, first.err
    for said in ("12,154", "is above high", "pruned", "the same", "random_walk_drift", "Computed, not quoted"):
        assert said in first.out
    assert "not the same" not in first.out
    second = cli("demo", "--store", "demo-data", "--chart", "picture.png")
    assert second.out.count("unchanged, nothing written") == 3
    assert Path("picture.png").read_bytes().startswith(b"\x89PNG")


def test_help_names_the_exit_codes_and_every_option(cli) -> None:
    assert "3 rows were rejected" in " ".join(cli("--help").out.split())
    for command in ("ingest", "query", "ls", "describe", "doctor"):
        assert "--store" in cli(command, "--help").out
    assert cli("--version").out.startswith("buffetstore ")
    assert cli("nonsense").code == 2


def test_the_emulator_serves_until_interrupted() -> None:
    started = subprocess.Popen(
        [*COMMAND, "emulate", "gcs", "--port", "0", "--bucket", "bars", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    url = json.loads(started.stdout.readline())["url"]
    with urllib.request.urlopen(f"{url}/storage/v1/b/bars") as answer:
        assert json.load(answer)["name"] == "bars"
    started.send_signal(signal.SIGINT)
    out, err = started.communicate(timeout=30)
    assert (started.returncode, out) == (0, "")
    assert f"STORAGE_EMULATOR_HOST={url}" in err
    assert "Traceback" not in err


def test_a_port_that_is_taken(cli) -> None:
    with serve_in_thread() as server:
        done = cli("emulate", "gcs", "--port", server.url.rsplit(":", 1)[1])
    assert done.code == 1
    assert "choose another --port" in done.err


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_without_the_extra_it_says_what_to_install(tmp_path: Path, package: str) -> None:
    (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError('no {package}', name={package!r})")
    done = subprocess.run(
        [*COMMAND, "ls"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[3]}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr == f"the command needs {package}: pip install 'buffetstore[cli]'\n"


def test_a_broken_off_pipe_is_no_traceback(filled) -> None:
    code = " ".join(
        [*COMMAND[:2], "'from buffetstore.cli import main; main()'", "query market_data --json | head -c 5"]
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == '{"row'
    assert "Traceback" not in done.stderr
