"""Every code block of the README and of docstrings runs; one that cannot says why, in a comment above it."""

from __future__ import annotations

import ast
import asyncio
import doctest
import importlib
import inspect
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from buffetstore.config import LayerConfig
from buffetstore.testing.gcs import serve_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]+) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
NO_CODE = {"text", "mermaid", "hcl", ""}


@pytest.fixture(autouse=True)
def no_blocking_calls() -> None:
    """Not here: a reader's script may read its settings file where it likes."""


@dataclass(frozen=True)
class Block:
    language: str
    code: str
    reason: str | None
    line: int


def blocks(path: Path) -> list[Block]:
    text = path.read_text()
    return [
        Block(found["language"], found["code"], found["reason"], text[: found.start("code")].count("\n"))
        for found in BLOCK.finditer(text)
    ]


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """What a reader has: an own bucket (here on the emulator), an own folder, and the installed package."""
    with serve_in_thread(buckets=["my-market-data"]) as server:
        settings = {
            "STORAGE_EMULATOR_HOST": server.url,
            "GOOGLE_CLOUD_PROJECT": "my-project",
            "GCS_DATA_BUCKET": "my-market-data",
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        yield {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "120"}


def run_python(block: Block, names: dict[str, object]) -> None:
    code = compile(
        "\n" * block.line + block.code, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
    )
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(eval(code, names))
    else:
        exec(code, names)


def run_console(block: Block, environment: dict[str, str]) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, f"README.md:{block.line}\n{block.code}\n{done.stdout}\n{done.stderr}"


@pytest.mark.timeout(400)
def test_the_readme_runs(surroundings: dict[str, str]) -> None:
    names: dict[str, object] = {"__name__": "readme"}
    ran = 0
    for block in blocks(ROOT / "README.md"):
        if block.reason is not None or block.language in NO_CODE:
            continue
        ran += 1
        if block.language == "python":
            run_python(block, names)
        else:
            assert block.language == "bash", f"README.md:{block.line}: {block.language} blocks need a way to run"
            run_console(block, surroundings)
    assert ran >= 4


def test_the_readme_names_every_setting_of_the_layers() -> None:
    table = (ROOT / "README.md").read_text().partition("What lies around a store")[2].partition("### Settings")[0]
    named = set(re.findall(r"`([A-Z0-9_]+)`", table))
    assert named == {variables[0] for variables in LayerConfig.VARIABLES.values()}


def documented_modules() -> list[str]:
    return sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "buffetstore").rglob("*.py")
        if ">>> " in path.read_text()
    )


@pytest.mark.parametrize("name", documented_modules())
def test_docstring_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert tried > 0
    assert failed == 0


def test_the_readme_links_to_files_that_exist() -> None:
    text = (ROOT / "README.md").read_text()
    linked = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target]
    assert [target for target in linked if not (ROOT / target).exists()] == []
