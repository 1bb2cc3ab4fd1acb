"""YAML of plain values: block style, every text in double quotes, so that no reader takes it for anything else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def to_yaml(value: Any) -> str:
    """Return dicts, lists, text, numbers, bools and None as a YAML document."""
    return "\n".join(_lines(value)) + "\n"


def _lines(value: Any) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for name, part in value.items():
            yield from _under(f"{_key(name)}:", part)
    elif isinstance(value, list) and value:
        for part in value:
            first, *rest = _lines(part)
            yield f"- {first}"
            yield from (f"  {line}" for line in rest)
    else:
        yield _scalar(value)


def _under(head: str, part: Any) -> Iterator[str]:
    if isinstance(part, dict | list) and part:
        yield head
        yield from (f"  {line}" for line in _lines(part))
    else:
        yield f"{head} {_scalar(part)}"


def _key(name: str) -> str:
    return name if name.isascii() and name.isidentifier() and name.lower() not in _WORDS else json.dumps(name)


def _scalar(value: Any) -> str:
    return json.dumps(value)  # JSON's scalars and empty collections are YAML's


_WORDS = {"y", "n", "yes", "no", "true", "false", "on", "off", "null"}
