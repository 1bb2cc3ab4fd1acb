from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from buffetstore.errors import MappingError, MissingDependencyError, NotFoundError
from buffetstore.ingest import mapping_file, read_mapping
from buffetstore.schemas import Mapping

if TYPE_CHECKING:
    from pathlib import Path

EXPECTED = Mapping(
    columns={"price": "Close"},
    constants={"data_source": "lean", "multiplier": 100},
    tz="America/New_York",
    scale=Decimal("0.0001"),
    header=("ms", "Close"),
    file_pattern=r"(?P<date>\d{8})_(?P<symbol>[a-z]+)",
    upper=("symbol",),
    milliseconds="ms",
    date=date(2014, 6, 6),
)
JSON = r"""{
  "columns": {"price": "Close"}, "constants": {"data_source": "lean", "multiplier": 100}, "tz": "America/New_York",
  "scale": 0.0001, "header": ["ms", "Close"], "file_pattern": "(?P<date>\\d{8})_(?P<symbol>[a-z]+)",
  "upper": ["symbol"], "milliseconds": "ms", "date": "2014-06-06"
}"""
TOML = r"""
tz = "America/New_York"
scale = 0.0001
header = ["ms", "Close"]
file_pattern = '(?P<date>\d{8})_(?P<symbol>[a-z]+)'
upper = ["symbol"]
milliseconds = "ms"
date = 2014-06-06
columns.price = "Close"
constants = {data_source = "lean", multiplier = 100}
"""
YAML = r"""
columns:
  price: Close
constants: {data_source: lean, multiplier: 100}
tz: America/New_York
scale: 0.0001
header: [ms, Close]
file_pattern: (?P<date>\d{8})_(?P<symbol>[a-z]+)
upper: [symbol]
milliseconds: ms
date: 2014-06-06
"""


@pytest.mark.parametrize(("name", "text"), [("a.json", JSON), ("a.toml", TOML), ("a.yaml", YAML), ("a.YML", YAML)])
def test_a_mapping_is_read_from_a_file(tmp_path: Path, name: str, text: str) -> None:
    if name.lower().startswith("a.y"):
        pytest.importorskip("yaml", reason="needs PyYAML")
    (tmp_path / name).write_text(text)
    assert read_mapping(tmp_path / name) == EXPECTED


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", '{\n"tz": "UTC",\n}', r"a\.json: .*line 3"),
        ("a.json", '{"tz": "UTC", "tz": "UTC"}', "key 'tz' is there twice"),
        ("a.json", '{"colums": {}}', r"a\.json: .*did you mean 'columns'"),
        ("a.json", "", r"a\.json: "),
        ("a.toml", 'tz = "UTC"\nscale = \n', r"a\.toml: .*line 2"),
        ("a.toml", 'tz = "UTC"\ntz = "UTC"\n', r"a\.toml: .*line 2"),
        ("a.yaml", "tz: UTC\n  scale: 1\n", r"(?s)a\.yaml: .*line 2"),
        ("a.yaml", "tz: UTC\ncolumns:\n  price: a\n  price: b\n", r"'price' is there twice \(line 3"),
        ("a.yaml", "!!python/object/apply:os.system [ls]", r"(?s)a\.yaml: .*constructor"),
        ("a.yaml", "columns: Close", r"key columns: "),
        ("a.ini", "tz=UTC", "ends in none of .json, .toml, .yaml, .yml"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, name: str, text: str, message: str) -> None:
    if name.endswith(".yaml"):
        pytest.importorskip("yaml", reason="needs PyYAML")
    (tmp_path / name).write_text(text)
    with pytest.raises(MappingError, match=message):
        read_mapping(tmp_path / name)


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no file"):
        read_mapping(tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MappingError, match="cannot be read"):
        read_mapping(tmp_path / "a.json")


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(mapping_file, "import_module", missing)
    (tmp_path / "a.yaml").write_text("tz: UTC")
    with pytest.raises(MissingDependencyError, match="PyYAML"):
        read_mapping(tmp_path / "a.yaml")
