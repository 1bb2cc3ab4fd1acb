"""A `Mapping` kept in a file: JSON, TOML or YAML."""

from __future__ import annotations

import json
import tomllib
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buffetstore.errors import MappingError, MissingDependencyError, NotFoundError, PermissionDeniedError
from buffetstore.schemas.mapping_document import load_mapping

if TYPE_CHECKING:
    import os

    from buffetstore.schemas import Mapping


def read_mapping(path: str | os.PathLike[str]) -> Mapping:
    """Return the mapping that a file states. It blocks, for as long as a small file takes.

    Parameters
    ----------
    path:
        `.json`, `.toml`, `.yaml` or `.yml`; its keys are the parameters of `Mapping`.

    Raises
    ------
    NotFoundError, PermissionDeniedError
        It is not there, or may not be read.
    MappingError
        It is of another kind, or states something else; the message names the line or the key.
    MissingDependencyError
        It is YAML, and the package that reads it is not installed.
    """
    file = Path(path)
    read = _READERS.get(file.suffix.lower())
    if read is None:
        raise MappingError(f"{file} is no mapping file: it ends in none of {', '.join(_READERS)}")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {file}", key=str(file)) from None
    except PermissionError as error:
        raise PermissionDeniedError(f"{file} may not be read", key=str(file)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise MappingError(f"{file} cannot be read: {error}", key=str(file)) from error
    try:
        return load_mapping(read(text))
    except MissingDependencyError:
        raise
    except (ValueError, _Unreadable) as error:  # a MappingError is one
        raise MappingError(f"{file}: {error}", key=str(file)) from error


class _Unreadable(Exception):  # noqa: N818 never leaves the module
    """What is wrong with a text."""


def _json(text: str) -> Any:
    return json.loads(text, parse_float=Decimal, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _Unreadable(f"key {name!r} is there twice")
        found[name] = value
    return found


def _toml(text: str) -> Any:
    return tomllib.loads(text, parse_float=Decimal)


def _yaml(text: str) -> Any:
    try:
        yaml: Any = import_module("yaml")
    except ImportError as error:
        raise MissingDependencyError("PyYAML", "yaml") from error

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # the package has no types
        """Takes no key twice."""

    def mapping(loader: Any, node: Any) -> dict[str, Any]:
        pairs = loader.construct_pairs(node, deep=True)
        try:
            return _once(pairs)
        except _Unreadable as error:
            raise _Unreadable(f"{error} (line {node.start_mark.line + 1} and below)") from None

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise _Unreadable(str(error)) from error


_READERS = {".json": _json, ".toml": _toml, ".yaml": _yaml, ".yml": _yaml}
