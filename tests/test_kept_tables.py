"""The tables of every release stay readable, and writable, by this one."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from buffetstore import DataQuery, StorageManager

if TYPE_CHECKING:
    from types import ModuleType

KEPT = Path(__file__).with_name("kept")
RELEASES = sorted(path for path in KEPT.iterdir() if (path / "expected.json").exists())


@pytest.fixture(scope="module")
def make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make", KEPT / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=RELEASES, ids=lambda path: path.name)
def release(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copytree(request.param, tmp_path / "release"))


def test_there_is_a_table_to_read() -> None:
    assert RELEASES


async def test_rows_are_as_they_were(release: Path, make: Any) -> None:
    assert await make.read(release) == json.loads((release / "expected.json").read_text(encoding="utf-8"))


async def test_earlier_versions_are_still_there(release: Path) -> None:
    async with StorageManager.open(release) as storage:
        first = await storage.retrieve_data(DataQuery("market_data", table_version=1, filters={"symbol": "^GSPC"}))
        assert first.rows == 1


async def test_writing_goes_on(release: Path, make: Any) -> None:
    async with StorageManager.open(release) as storage:
        again = await storage.store_data("market_data", [make.ROWS["market_data"][1]])
        assert (again.unchanged, again.file_path) == (1, None)
        changed = await storage.store_data("market_data", [make.ROWS["market_data"][1] | {"volume": 8}])
        assert changed.updated == 1
