"""Constants of SQL as values of a column's type, where engines agree on what they are."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from buffetstore.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable

_WHOLE_TYPES = {"tinyint", "smallint", "int", "integer", "bigint", "long"}
_ZONE = re.compile(r"(Z|[+-]\d\d:?\d\d)$")
_FAMILIES: tuple[tuple[Callable[[Any], Any], str], ...] = (
    (pa.types.is_boolean, "truth"),
    (pa.types.is_integer, "whole number"),
    (pa.types.is_floating, "float"),
    (pa.types.is_decimal, "decimal"),
    (pa.types.is_string, "text"),
    (pa.types.is_date, "date"),
    (pa.types.is_timestamp, "time"),
)


def family(kind: pa.DataType) -> str:
    """Return which values a column of this type is compared with."""
    return next((name for holds, name in _FAMILIES if holds(kind)), str(kind))


def number(text: str) -> int | Decimal | float:
    """Return a number as SQL writes it: with an exponent it is a float."""
    if "e" in text.lower():
        return float(text)
    return Decimal(text) if "." in text else int(text)


def in_utc(text: str) -> str:
    """Return the text of a time, which is one of UTC where it names no zone."""
    return text if _ZONE.search(text) else f"{text}Z"


def cast_to(value: Any, kind: str) -> Any:
    """Return the constant as one of SQL's type `kind`.

    Raises
    ------
    InvalidInputError
        The type is not known, or cannot hold exactly this value.
    """
    name, _, sizes = kind.partition("(")
    try:
        found = _cast(value, name, sizes.rstrip(")"))
    except (ValueError, TypeError, IndexError, OverflowError, InvalidOperation):
        found = None
    if found is None:
        raise InvalidInputError(f"{value!r} as {kind or 'what follows'} is not read")
    return found


def fitted_value(value: Any, name: str, kind: pa.DataType) -> Any:
    """Return the constant as a value of the column `name`, which has the type `kind`.

    Raises
    ------
    InvalidInputError
        Engines would have to convert it, and do that in different ways.
    """
    wanted = family(kind)
    if isinstance(value, bool):
        fits = wanted == "truth"
    elif isinstance(value, int | Decimal | float):
        if wanted == "float":
            return float(value)
        fits = wanted in {"whole number", "decimal"}
        if fits and isinstance(value, float):
            return int(cast_to(Decimal(value), "long"))
    elif isinstance(value, str) and wanted in {"date", "time"}:
        return cast_to(value, "date" if wanted == "date" else "timestamp")
    else:
        given = "time" if isinstance(value, datetime) else "date" if isinstance(value, date) else "text"
        fits = wanted == given
    if not fits:
        raise InvalidInputError(f"{name!r} is a {wanted}, and {value!r} is none")
    return value


def _cast(value: Any, name: str, sizes: str) -> Any:
    if name in {"decimal", "numeric"}:
        found = Decimal(str(value)).quantize(Decimal(1).scaleb(-int(sizes.split(",")[1])))
        return found if found == Decimal(str(value)) else None
    if name in _WHOLE_TYPES:
        return int(value) if int(value) == Decimal(str(value)) else None
    match name:
        case "double" | "float":
            return float(value)
        case "date":
            return date.fromisoformat(value)
        case "timestamp":
            return _instant(value)
        case _:
            return None


def _instant(text: str) -> datetime | None:
    if _ZONE.search(text) is None:
        return None
    # Finer digits than a column can hold stand for nothing when they are zeros.
    cut = re.sub(r"(\.\d{6})0{1,3}(?=Z|[+-])", r"\1", text)
    return None if re.search(r"\.\d{7}", cut) else datetime.fromisoformat(cut).astimezone(UTC)
