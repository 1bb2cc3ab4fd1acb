"""`buffetstore schema`: what CI asks before a deploy, and what a person reads."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WEATHER = '''from __future__ import annotations

from buffetstore.schemas import Record
from buffetstore.schemas.types import Timestamp


class Weather(Record, data_type="weather", version="1.0.0", key=("station", "timestamp"), symbol="station"):
    """What a station measured."""

    station: str
    timestamp: Timestamp
    celsius: float
'''
WIND = WEATHER.replace("1.0.0", "1.1.0") + "    wind: float | None = None\n"
NEEDED = WEATHER.replace("1.0.0", "1.1.0") + "    wind: float\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "weather.py"
    found.write_text(WEATHER)
    return found


def test_versions_are_registered_listed_and_shown(cli: Callable[..., Any], file: Path) -> None:
    assert "no version is registered" in cli("schema", "list").out
    done = cli("schema", "register", "--path", "weather.py:Weather", "--reason", "first", "--by", "ada")
    assert done.code == 0, done.err
    assert "weather 1.0.0 is registered, by ada" in done.out
    listed = cli("schema", "list", "--json").json
    assert [(each["data_type"], each["version"], each["reason"]) for each in listed] == [("weather", "1.0.0", "first")]
    assert "ada" in cli("schema", "list", "weather").out
    assert "celsius" in cli("schema", "show", "weather").out
    assert cli("schema", "show", "weather", "--json").json["key"] == ["station", "timestamp"]
    assert "low_above_open" in cli("schema", "show", "market_data").out
    file.write_text(WIND)
    assert cli("schema", "register", "--path", "weather.py").code == 0
    told = cli("schema", "diff", "weather", "1.0.0")
    assert "added_optional wind" in told.out
    assert cli("schema", "diff", "weather", "1.1.0", "1.0.0", "--json").json[0]["subject"] == "wind"
    assert "nothing differs" in cli("schema", "diff", "weather", "1.0.0", "1.0.0").out


def test_a_check_against_a_store_says_no_by_its_exit_code(cli: Callable[..., Any], file: Path) -> None:
    assert cli("schema", "check", "--path", "weather.py:Weather").code == 0, "a first version"
    cli("schema", "register", "--path", "weather.py:Weather")
    file.write_text(NEEDED)
    refused = cli("schema", "check", "--path", "weather.py:Weather")
    assert refused.code == 1
    assert "wind: is new and required" in refused.err
    told = cli("schema", "check", "--path", "weather.py:Weather", "--json")
    assert (told.code, told.json["ok"], told.json["suggested_version"]) == (1, False, "2.0.0")
    assert cli("schema", "register", "--path", "weather.py:Weather").code == 2
    file.write_text(WIND)
    allowed = cli("schema", "check", "--path", "weather.py:Weather", "--mode", "full")
    assert allowed.code == 0
    assert "it may follow" in allowed.out
    file.write_text(WEATHER.replace("celsius: float", "celsius: int"))
    changed = cli("schema", "check", "--path", "weather.py:Weather")
    assert changed.code == 1
    assert "A version never changes" in changed.err


def test_a_check_against_a_git_commit(cli: Callable[..., Any], file: Path, tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )

    git("init", "-q", "-b", "main")
    git("add", "weather.py")
    git("commit", "-q", "-m", "first")
    check = ("schema", "check", "--against-ref", "main", "--path", "weather.py:Weather")
    assert cli(*check).code == 0, "as it was"
    file.write_text(NEEDED)
    refused = cli(*check)
    assert refused.code == 1
    assert "against 1.0.0" in refused.err
    file.write_text(WIND)
    assert cli(*check).code == 0
    file.write_text(WEATHER.replace("celsius: float", "kelvin: float"))
    same = cli(*check, "--json")
    assert (same.code, same.json["ok"]) == (1, False)
    assert "1.0.0 at main demands something else" in same.json["reasons"][0]
    (tmp_path / "new.py").write_text(WIND)
    assert cli("schema", "check", "--against-ref", "main", "--path", "new.py:Weather").code == 0, "not there yet"
    unknown = cli("schema", "check", "--against-ref", "nowhere", "--path", "weather.py:Weather")
    assert unknown.code == 2
    assert "no such commit" in unknown.err
    cli("schema", "export", "--path", "new.py", "-o", "contract.json")
    git("add", "contract.json")
    git("commit", "-q", "-m", "exported")
    assert cli("schema", "check", "--against-ref", "main", "--path", "contract.json").code == 0


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nowhere.py:Weather", "No such file"),
        ("weather.py:Wether", "there is Weather"),
        ("no.such.module:Weather", "No module named"),
        ("broken.py:Weather", "SyntaxError"),
        ("broken.json", "is not JSON"),
        ("json:JSONDecoder", "no record class"),
    ],
)
def test_what_is_no_schema_says_why(cli: Callable[..., Any], file: Path, tmp_path: Path, path: str, words: str) -> None:
    (tmp_path / "broken.py").write_text("class Weather(:\n")
    (tmp_path / "broken.json").write_text("{")
    found = cli("schema", "check", "--path", path)
    assert found.code != 0
    assert words in found.err.replace("\n", " ")


def test_a_version_is_exported_in_every_format(cli: Callable[..., Any], file: Path, tmp_path: Path) -> None:
    for form in ("json", "avro", "json-schema", "markdown", "odcs", "spark", "sql"):
        done = cli("schema", "export", "--path", "weather.py:Weather", "--format", form, "-o", f"out.{form}")
        assert done.code == 0, done.err
        assert "celsius" in (tmp_path / f"out.{form}").read_text()
    assert json.loads(cli("schema", "export", "market_data").out)["version"] == "1.2.0"
    assert cli("schema", "export").code == 2
    assert "is none of" in cli("schema", "export", "market_data", "--format", "xml").err


def test_a_class_is_drafted_from_data_and_from_other_schemas(
    cli: Callable[..., Any], file: Path, tmp_path: Path
) -> None:
    rows = pa.table({"site": ["a", "b"], "timestamp": pa.array([1, 2], pa.timestamp("us", "UTC")), "n": [1, 2]})
    pq.write_table(rows, tmp_path / "rows.parquet")
    feather.write_feather(rows, str(tmp_path / "rows.arrow"))
    for name in ("rows.parquet", "rows.arrow"):
        draft = cli("schema", "infer", name, "-t", "readings")
        assert draft.code == 0, draft.err
        assert "site" in draft.out
        (tmp_path / "draft.py").write_text(draft.out)
        assert cli("schema", "check", "--path", "draft.py").code == 0
    for form, name in (("avro", "w.avsc"), ("json-schema", "w.json")):
        cli("schema", "export", "--path", "weather.py", "--format", form, "-o", name)
        assert "celsius" in cli("schema", "infer", name, "-t", "weather").out
    assert "there is no file" in cli("schema", "infer", "none.arrow", "-t", "x").err
    assert "Give --format" in cli("schema", "infer", "weather.py", "-t", "x").err
