"""Schemas that a command names: classes in files, of this tree or of a git commit, and contracts as JSON."""

from __future__ import annotations

import importlib
import subprocess
import sys
import uuid
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from buffetstore.errors import CorruptFileError, InvalidInputError, StorageError
from buffetstore.schemas import Record, contract_of, load_contract
from buffetstore.schemas.json_values import NotJSONError
from buffetstore.schemas.stored import parse_json

if TYPE_CHECKING:
    from buffetstore.schemas import Contract

_EXAMPLE = "pkg/module.py:Class, pkg.module:Class or contract.json"


def contract_at(place: str) -> Contract:
    """Return the contract that a path names.

    Raises
    ------
    InvalidInputError
        There is no such file or class, or the file fails.
    CorruptFileError
        The JSON is no contract.
    """
    path, _, name = place.partition(":")
    if path.endswith(".json"):
        return _document(_read(Path(path)), path)
    if path.endswith(".py"):
        return _named(_module(_read(Path(path)).decode(), path), name, place)
    try:
        return _named(importlib.import_module(path), name, place)
    except ImportError as error:
        raise InvalidInputError(f"{place}: {error}; name a schema as {_EXAMPLE}") from error


def contracts_at_ref(place: str, ref: str, data_type: str) -> list[Contract]:
    """Return the versions of a data type that a file holds at a git commit; none where it was not there yet.

    Classes are run with the modules of this tree.

    Raises
    ------
    InvalidInputError
        There is no such commit, this is no git repository, or the file fails.
    """
    path = place.partition(":")[0]
    if not path.endswith((".py", ".json")):
        raise InvalidInputError(f"--against-ref compares files: give --path {_EXAMPLE.partition(',')[0]}, not {place}")
    source = _at_ref(path, ref)
    if source is None:
        return []
    if path.endswith(".json"):
        found = [_document(source, f"{ref}:{path}")]
    else:
        found = [contract_of(model) for model in _models(_module(source.decode(), f"{ref}:{path}"))]
    return [contract for contract in found if contract.data_type == data_type]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"{path}: {error.strerror}; name a schema as {_EXAMPLE}") from error


def _document(stored: bytes, origin: str) -> Contract:
    """Return the contract of a document, or of a registry's entry."""
    try:
        told = parse_json(stored)
    except NotJSONError as error:
        raise CorruptFileError(f"{origin}: {error}", key=origin) from error
    if isinstance(told, dict) and isinstance(told.get("contract"), dict):
        told = told["contract"]
    return load_contract(told, origin=origin)


def _module(source: str, origin: str) -> ModuleType:
    """Run the source as a module of its own, which stays: annotations are looked up in it."""
    module = ModuleType(f"buffetstore_schema_{uuid.uuid4().hex}")
    module.__file__ = origin
    sys.modules[module.__name__] = module
    try:
        exec(compile(source, origin, "exec"), module.__dict__)  # noqa: S102 - the user's own file
    except StorageError:
        raise
    except Exception as error:
        raise InvalidInputError(f"{origin} fails: {type(error).__name__}: {error}") from error
    return module


def _models(module: ModuleType) -> list[type[Record]]:
    """Return the record classes that a module defines, and that state a data type."""
    own = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Record)]
    return [model for model in own if model.__module__ == module.__name__ and model.contract_facts.get("data_type")]


def _named(module: ModuleType, name: str, place: str) -> Contract:
    found = vars(module).get(name) if name else None
    if isinstance(found, type) and issubclass(found, Record):
        return contract_of(found)
    models = _models(module)
    if not name and len(models) == 1:
        return contract_of(models[0])
    there = ", ".join(model.__name__ for model in models) or "no record class"
    raise InvalidInputError(f"{place} names no record class: there is {there}; write {_EXAMPLE}")


def _at_ref(path: str, ref: str) -> bytes | None:
    """Return a file's content at a commit; None where it was not there."""
    file = Path(path).resolve()
    folder = file.parent if file.parent.is_dir() else Path.cwd()
    known = _git(folder, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
    if known.returncode:
        detail = known.stderr.decode(errors="replace").strip() or "there is no such commit"
        raise InvalidInputError(f"--against-ref {ref}: {detail}")
    shown = _git(folder, "show", f"{ref}:./{file.name}")
    return None if shown.returncode else shown.stdout


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, check=False)  # noqa: S603, S607
    except OSError as error:
        raise InvalidInputError(f"git cannot be run: {error}") from error
