"""Values of any kind as JSON text that reads back as what was given, for rows that were refused.

What JSON has is written as it is. The rest is tagged: ``{"decimal": "1.50"}``, ``{"timestamp":
"2024-01-19T09:30:00-05:00"}``, ``{"date": ...}``, ``{"time": ...}``, ``{"microseconds": 5}`` (a duration), ``{"float":
"nan"}``, ``{"float32": "0.1"}``, ``{"bytes": "<base64>"}``, ``{"int": "<hexadecimal>"}`` (of more than 4,000 digits),
``{"struct": {...}}`` (a dict that looks like one of these) and ``{"object": ["UUID", "<text>"]}``: what no column
holds, of which the text is kept. Null, NaT and pandas.NA are one.
"""

from __future__ import annotations

import base64
import json
import math
import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel

from buffetstore.errors import CorruptFileError
from buffetstore.schemas.values import is_missing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_TAGS = frozenset(
    {"decimal", "timestamp", "date", "time", "microseconds", "float", "float32", "bytes", "int", "struct", "object"}
)
_MICROSECOND = timedelta(microseconds=1)
_PLAIN_INT_BITS = 13_000  # Python reads and writes at most 4,300 digits
_FINER = re.compile(r"\.\d{7}")
_FINE = re.compile(r"(?<=\.\d{6})(\d{3})(?!\d)")
_TEXT = 10_000


@dataclass(frozen=True, slots=True)
class Opaque:
    """Stands for an object that has no form in JSON: no column takes it, as none took the object itself."""

    kind: str
    text: str


class FineTime(datetime):
    """A moment with nanoseconds, told as pandas does: `nanosecond` is what comes behind the microseconds."""

    nanosecond: int = 0

    @classmethod
    def of(cls, moment: datetime, nanosecond: int) -> FineTime:
        """Return the moment, and so many nanoseconds."""
        found = cls(*moment.timetuple()[:6], moment.microsecond, moment.tzinfo, fold=moment.fold)
        found.nanosecond = nanosecond
        return found

    def to_pydatetime(self, warn: bool = True) -> datetime:  # noqa: ARG002 - as pandas has it
        """Return the moment without its nanoseconds."""
        return datetime.combine(self.date(), self.timetz())

    def isoformat(self, sep: str = "T", timespec: str = "auto") -> str:  # noqa: ARG002 - always to the nanosecond
        """Return the moment with nine digits behind its second."""
        text = super().isoformat(sep, "microseconds")
        return f"{text[:26]}{self.nanosecond:03}{text[26:]}"


def to_json(record: Mapping[Any, Any]) -> str:
    """Return a row as one line of JSON."""
    try:
        text = json.dumps({str(name): _encode(value) for name, value in record.items()}, ensure_ascii=False)
    except RecursionError:  # a value too deep for JSON, or one that holds itself
        text = json.dumps({str(name): _shallow(value) for name, value in record.items()}, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair: no UTF-8, but JSON has an escape for it
        return json.dumps(json.loads(text))
    return text


def from_json(text: str) -> dict[str, Any]:
    """Return the row that `to_json` wrote.

    Raises
    ------
    CorruptFileError
        It did not write this.
    """
    try:
        found = json.loads(text)
        if isinstance(found, dict):
            return {name: _decode(value) for name, value in found.items()}
    except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
        raise CorruptFileError(f"{text[:80]!r} is no row as the quarantine keeps it: {error}") from error
    raise CorruptFileError(f"{text[:80]!r} is no row as the quarantine keeps it: not an object")


def value_to_json(value: Any) -> str:
    """Return one value as JSON text."""
    return to_json({"value": value})[len('{"value": ') : -1]


def _shallow(value: Any) -> Any:
    try:
        json.dumps(found := _encode(value))
    except RecursionError:
        return _object(value)
    return found


def _encode(value: Any) -> Any:
    if value is None or value is True or value is False:
        return value
    for kinds, encode in _ENCODERS:
        if isinstance(value, kinds):
            return encode(value)
    return None if is_missing(value) else _object(value)


def _float(value: float) -> Any:
    return float(value) if math.isfinite(value) else {"float": str(float(value))}


def _int(value: int) -> Any:
    return int(value) if value.bit_length() <= _PLAIN_INT_BITS else {"int": hex(value)}


def _moment(value: datetime) -> Any:
    return None if is_missing(value) else {"timestamp": value.isoformat()}


def _duration(value: timedelta) -> Any:
    if is_missing(value):
        return None
    return _object(value) if getattr(value, "nanoseconds", 0) else {"microseconds": value // _MICROSECOND}


def _dict(value: Mapping[Any, Any]) -> Any:
    if not all(isinstance(name, str) for name in value):
        return _object(value)
    found = {name: _encode(inner) for name, inner in value.items()}
    return {"struct": found} if len(found) == 1 and not _TAGS.isdisjoint(found) else found


def _numpy(value: np.generic) -> Any:
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else {"timestamp": str(np.datetime_as_string(value))}
    if isinstance(value, np.float32 | np.float16):
        return {"float32": str(value)}  # which prints as another number than the double that it equals
    if isinstance(value, np.bool_ | np.integer):
        return value.item()
    return None if is_missing(value) else _object(value)


def _object(value: Any) -> dict[str, list[str]]:
    try:
        text = str(value)
    except Exception as error:  # noqa: BLE001 a user's class may raise anything
        text = f"(its text cannot be had: {type(error).__name__})"
    return {"object": [type(value).__name__, text if len(text) <= _TEXT else f"{text[:_TEXT]}..."]}


_ENCODERS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (Enum, lambda value: _encode(value.value)),
    (str, str),
    (int, _int),
    (float, _float),
    (np.generic, _numpy),
    (Decimal, lambda value: {"decimal": str(value)}),
    (datetime, _moment),
    (date, lambda value: {"date": value.isoformat()}),
    (time, lambda value: {"time": value.isoformat()}),
    (timedelta, _duration),
    ((bytes, bytearray, memoryview), lambda value: {"bytes": base64.b64encode(value).decode()}),
    ((list, tuple), lambda value: [_encode(item) for item in value]),
    (np.ndarray, lambda value: _encode(value.tolist())),
    (BaseModel, lambda value: _dict({**vars(value), **(value.model_extra or {})})),
    (dict, _dict),
    (Opaque, lambda value: {"object": [value.kind, value.text]}),
)


def _decode(given: Any) -> Any:
    if isinstance(given, list):
        return [_decode(item) for item in given]
    if not isinstance(given, dict):
        return given
    if len(given) == 1:
        [(tag, inner)] = given.items()
        if tag in _DECODERS:
            return _DECODERS[tag](inner)
    return {name: _decode(inner) for name, inner in given.items()}


def _time(text: str) -> datetime | Opaque:
    fine = _FINE.search(text)
    try:
        if fine is None:
            return Opaque("datetime64", text) if _FINER.search(text) else datetime.fromisoformat(text)
        return FineTime.of(datetime.fromisoformat(f"{text[: fine.start(1)]}{text[fine.end() :]}"), int(fine[1]))
    except ValueError:  # a year that no datetime has, or attoseconds
        return Opaque("datetime64", text)


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "decimal": Decimal,
    "timestamp": _time,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "microseconds": lambda number: timedelta(microseconds=number),
    "float": float,
    "float32": np.float32,
    "bytes": base64.b64decode,
    "int": lambda text: int(text, 16),
    "struct": lambda inner: {name: _decode(value) for name, value in inner.items()},
    "object": lambda inner: Opaque(*inner),
}
