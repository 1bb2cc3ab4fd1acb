from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from buffetstore.cli.app import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BARS = """Date,Open,High,Low,Close,Volume,Dividends
2024-01-02,187.15,188.44,183.89,185.64,82488700,0
2024-01-03,184.22,185.88,183.43,184.25,58414500,0
2024-01-04,182.15,183.09,180.88,181.91,71983600,0
"""
MAPPED = [
    *("--map", "Date=timestamp", "--map", "Open=open", "--map", "High=high", "--map", "Low=low"),
    *("--map", "Close=price", "--map", "Volume=volume", "--set", "data_source=yahoo", "--tz", "UTC"),
]


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def no_blocking_calls() -> None:
    """A command has its loop to itself: it may print and open its user's files there."""


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Run a command in an empty folder, with a store in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BUFFETSTORE_URL", "lake")

    def call(*arguments: str) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run([*arguments])
        captured = capsys.readouterr()
        code = ended.value.code
        return Outcome(code if isinstance(code, int) else 0, captured.out, captured.err)

    return call


@pytest.fixture
def filled(cli: Callable[..., Outcome], tmp_path: Path) -> Callable[..., Outcome]:
    """The same, with three bars in the store."""
    (tmp_path / "aapl.csv").write_text(BARS)
    assert cli("ingest", "aapl.csv", "-t", "market_data", "--symbol", "AAPL", *MAPPED).code == 0
    return cli
