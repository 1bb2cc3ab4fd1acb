"""The floors of the design hold: imports only go down, nothing goes round, and nothing grows past reading."""

from __future__ import annotations

import ast
import statistics
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "buffetstore"

FLOORS = [
    {"errors"},
    {"monitoring", "expressions"},
    {"resilience", "caching", "security"},
    {"objects", "formats"},
    {"schemas"},
    {"tables"},
    {"query"},
    {"storage"},
    {"config", "ingest", "ml", "engines", "operations", "testing"},
    {"manager"},
    {"sync", "demo"},
    {"cli"},
]
FLOOR = {package: number for number, packages in enumerate(FLOORS) for package in packages}
MODULE_LINES, MODULE_MEDIAN, FUNCTION_LINES, FUNCTION_P90 = 400, 150, 60, 25


@cache
def modules() -> dict[str, ast.Module]:
    return {module_name(path): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.Module) -> set[str]:
    """Every absolute import of our own package, in-function ones too."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are banned"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    return {name for name in found if name.split(".")[0] == "buffetstore"}


def package_of(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else None


def targets(name: str, tree: ast.Module) -> set[str]:
    """The modules that `name` really imports (an imported class counts as its module)."""
    known = modules()
    return {found for found in imports(tree) if found in known and found != name}


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_only_go_down(name: str) -> None:
    own = package_of(name)
    if own is None:
        return
    assert own in FLOOR, f"{own} is on no floor: add it to FLOORS and to the README"
    for imported in imports(modules()[name]):
        other = package_of(imported)
        if other is None or other == own or other not in FLOOR:
            continue
        assert FLOOR[other] < FLOOR[own], f"{name} (floor {FLOOR[own]}) imports {imported} (floor {FLOOR[other]})"


def test_no_module_cycle() -> None:
    graph = {
        # A package's __init__ re-exports its modules, so importing the package from inside it would be a cycle too.
        name: {found for found in targets(name, tree) if not name.startswith(found + ".")}
        for name, tree in modules().items()
        if name != "buffetstore"
    }
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"cycle: {error.args[1]}")


def test_modules_stay_readable() -> None:
    lengths = {
        path.relative_to(ROOT).as_posix(): path.read_text().count("\n") + 1
        for path in PACKAGE.rglob("*.py")
        if path.stat().st_size
    }
    assert {name: lines for name, lines in lengths.items() if lines > MODULE_LINES} == {}
    assert statistics.median(lengths.values()) <= MODULE_MEDIAN


def test_functions_stay_short() -> None:
    lengths = {
        f"{name}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: lines for name, lines in lengths.items() if lines > FUNCTION_LINES} == {}
    assert statistics.quantiles(lengths.values(), n=10)[-1] <= FUNCTION_P90


def test_no_environment_below_config() -> None:
    """Configuration is read by `config` and the entry points only."""
    readers = {
        name
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"} and ast.unparse(node.value) == "os"
    }
    assert {name for name in readers if package_of(name) not in {"config", "cli", "demo"}} == set()


def test_every_public_name_is_documented() -> None:
    missing = [
        f"{name}.{node.name}"
        for name, tree in modules().items()
        for node in tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if not node.name.startswith("_") and ast.get_docstring(node) is None
    ]
    assert missing == []


def test_every_cloud_sdk_stays_in_its_own_module() -> None:
    """Optional packages are imported by the one module that is about them."""
    homes = {
        "azure": "buffetstore.objects.azure",
        "botocore": "buffetstore.objects.s3",
        "asyncssh": "buffetstore.objects.fsspec",
        "fsspec": "buffetstore.objects.fsspec",
        "gcloud": "buffetstore.objects.gcs",
        "typer": "buffetstore.cli",
        "rich": "buffetstore.",
        "matplotlib": "buffetstore.demo",
    }
    for name, tree in modules().items():
        for node in ast.walk(tree):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            for imported in names:
                home = homes.get(imported.split(".")[0])
                assert home is None or name.startswith(home), f"{name} imports {imported}"
