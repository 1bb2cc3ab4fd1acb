"""What is public is exported, once, and importable; what is exported belongs to us."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import buffetstore

ROOT = Path(__file__).parents[1]
PACKAGES = sorted(
    ".".join(path.parent.relative_to(ROOT).parts)
    for path in (ROOT / "buffetstore").rglob("__init__.py")
    if path.stat().st_size
)


@pytest.mark.parametrize("name", PACKAGES)
def test_exported_names_are_there(name: str) -> None:
    module = importlib.import_module(name)
    assert len(module.__all__) == len(set(module.__all__))  # their order is ruff's business (RUF022)
    assert [exported for exported in module.__all__ if not hasattr(module, exported)] == []


@pytest.mark.parametrize("exported", buffetstore.__all__)
def test_top_level_names_have_docs(exported: str) -> None:
    value = getattr(buffetstore, exported)
    if callable(value):
        assert value.__doc__


def test_errors_are_all_drawn_in_the_tree() -> None:
    text = (ROOT / "buffetstore" / "errors.py").read_text()
    tree = ast.parse(text)
    drawn = ast.get_docstring(tree) or ""
    classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    assert [name for name in classes if name not in drawn] == []


def test_importing_is_light() -> None:
    """No extra, no cloud SDK and no data frame library is loaded by `import buffetstore`."""
    heavy = ["pandas", "polars", "duckdb", "aiobotocore", "botocore", "gcloud", "typer", "rich", "matplotlib", "pytest"]
    code = f"import sys, buffetstore; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_blocking_face_is_reached_by_attribute() -> None:
    code = "import buffetstore; buffetstore.sync.open('memory://').close()"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
