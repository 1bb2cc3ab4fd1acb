"""One value of any kind to one Python value of a column's type: what the kernels must agree with."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from enum import Enum
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeAlias
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
from pydantic import BaseModel

from buffetstore.schemas.rounding import EXACT, unscaled

if TYPE_CHECKING:
    from collections.abc import Callable

    Converter: TypeAlias = Callable[[Any], Any]

_SHOWN = 80
_FINER_THAN_MICROSECONDS = re.compile(r"[.,]\d{6}\d*[1-9]")
NAIVE = "has no time zone: pass tz=, e.g. tz='America/New_York'"


class UnfitValueError(ValueError):
    """A value does not fit its column's type; `error_type` is the finding's, named as pydantic names it."""

    def __init__(self, error_type: str, value: Any, problem: str) -> None:
        super().__init__(f"{shown(value)} {problem}")
        self.error_type = error_type


def shown(value: Any) -> str:
    """Return the value as a message shows it."""
    text = str(value) if isinstance(value, Decimal | datetime | date | float | np.generic) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def is_missing(value: Any) -> bool:
    """Tell whether the value means null: None, NaN, NaT, pandas.NA."""
    if value is None:
        return True
    if isinstance(value, Decimal):
        return value.is_nan()
    if isinstance(value, str | bytes | list | tuple | dict):
        return False
    try:
        return bool(value != value)  # noqa: PLR0124 only NaN and NaT differ from themselves
    except (TypeError, ValueError):
        return type(value).__name__ == "NAType"


def converter(kind: pa.DataType, tz: str | None = None) -> Converter:
    """Return the function that makes a Python value of the Arrow type, or raises `UnfitValueError`."""
    if pa.types.is_decimal(kind):
        return partial(to_decimal, precision=kind.precision, scale=kind.scale)
    if pa.types.is_integer(kind):
        return partial(to_int, bits=kind.bit_width)
    if pa.types.is_floating(kind):
        return to_float
    if pa.types.is_timestamp(kind):
        return partial(to_timestamp, tz=tz)
    if pa.types.is_date(kind):
        return to_date
    if pa.types.is_boolean(kind):
        return to_bool
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return to_string
    if pa.types.is_list(kind):
        return partial(to_list, item=converter(kind.value_type, tz))
    if pa.types.is_struct(kind):
        return partial(to_struct, fields={field.name: converter(field.type, tz) for field in kind})
    return partial(to_other, kind=kind)


def to_decimal(value: Any, *, precision: int, scale: int) -> Decimal | None:
    """Floats are rounded half-even to `scale`, more digits in a Decimal or str are an error."""
    if is_missing(value):
        return None
    number = _number(value, "decimal")
    if number is None:
        return None
    if not number.is_finite():
        raise UnfitValueError("finite_number", value, "is not a finite number")
    if number and number.adjusted() >= precision:
        raise UnfitValueError(
            "decimal_whole_digits", value, f"has more than {precision - scale} digits before the point"
        )
    whole = unscaled(number, scale)
    fitted = Decimal(whole).scaleb(-scale, EXACT)
    if fitted != number and not isinstance(value, float | np.floating):
        raise UnfitValueError("decimal_max_places", value, f"has more than {scale} decimal places; round it first")
    if abs(whole) >= 10**precision:
        raise UnfitValueError(
            "decimal_whole_digits", value, f"has more than {precision - scale} digits before the point"
        )
    return fitted


def was_rounded(value: Any, fitted: Any) -> bool:
    """Tell whether a float became another number when it became a decimal."""
    return isinstance(value, float | np.floating) and fitted is not None and Decimal(str(value)) != fitted


def to_int(value: Any, *, bits: int = 64) -> int | None:
    """Integral floats and decimals pass, bools do not."""
    if is_missing(value):
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    else:
        exact = _number(value, "int")
        if exact is None:
            return None
        if not exact.is_finite():
            raise UnfitValueError("finite_number", value, "is not a finite number")
        if exact.adjusted() > 40:
            raise UnfitValueError("int_parsing_size", value, f"does not fit {bits} bits")
        if exact != exact.to_integral_value():
            raise UnfitValueError("int_from_float", value, "is not a whole number")
        number = int(value) if isinstance(value, float | np.floating) else int(exact)
    if not -(1 << bits - 1) <= number < 1 << bits - 1:
        raise UnfitValueError("int_parsing_size", value, f"does not fit {bits} bits")
    return number


def to_float(value: Any) -> float | None:
    """Any finite number."""
    if is_missing(value):
        return None
    number = _number(value, "float")
    if number is None:
        return None
    fitted = float(value) if isinstance(value, float | np.floating) else float(number)
    if fitted in {float("inf"), float("-inf")}:
        raise UnfitValueError("finite_number", value, "is not a finite number")
    return fitted


def _number(value: Any, kind: str) -> Decimal | None:
    """Return the number that the value is or spells; None for the word NaN."""
    if isinstance(value, bool | np.bool_):
        raise UnfitValueError(f"{kind}_type", value, f"is a bool, not a number ({kind})")
    if isinstance(value, Decimal):
        return value
    if isinstance(value, int | np.integer):
        return Decimal(int(value))
    if isinstance(value, float | np.floating):
        return Decimal(str(value))
    if isinstance(value, str):
        try:
            number = Decimal(value.strip())
        except InvalidOperation:
            raise UnfitValueError(f"{kind}_parsing", value, f"is not a number ({kind})") from None
        return None if number.is_nan() else number
    raise UnfitValueError(f"{kind}_type", value, f"is {_a(value)}, not a number ({kind})")


def to_timestamp(value: Any, *, tz: str | None = None) -> datetime | None:
    """Aware datetimes, and ISO text; what has no zone is taken to be in `tz`."""
    if is_missing(value):
        return None
    moment = _datetime(value)
    if moment.tzinfo is None:
        if tz is None:
            raise UnfitValueError("timezone_aware", value, NAIVE)
        moment = localised(moment, tz, value)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise UnfitValueError("datetime_range", value, "is outside the years 1 to 9999 in UTC") from None


def _datetime(value: Any) -> datetime:
    if isinstance(value, datetime):
        if getattr(value, "nanosecond", 0):
            raise UnfitValueError("datetime_precision", value, "has nanoseconds, which do not fit microseconds")
        return value
    if isinstance(value, date):
        return datetime.combine(value, time())
    if isinstance(value, str):
        if _FINER_THAN_MICROSECONDS.search(value):
            raise UnfitValueError("datetime_precision", value, "is finer than microseconds")
        try:
            return datetime.fromisoformat(value.strip())
        except ValueError as error:
            raise UnfitValueError("datetime_parsing", value, f"is not an ISO 8601 timestamp: {error}") from None
    if isinstance(value, np.datetime64):
        moment = value.astype("datetime64[us]")
        if moment != value:
            raise UnfitValueError("datetime_precision", value, "is finer than microseconds")
        if isinstance(found := moment.item(), datetime):
            return found
    raise UnfitValueError("datetime_type", value, f"is {_a(value)}, not a timestamp; numbers do not say their unit")


@lru_cache(maxsize=64)
def zone(tz: str) -> ZoneInfo:
    """Return the zone of an IANA name."""
    return ZoneInfo(tz)


def localised(moment: datetime, tz: str, value: Any) -> datetime:
    """Return the local time as an instant, where the zone's clocks showed it exactly once."""
    early = moment.replace(tzinfo=zone(tz), fold=0)
    before, after = early.utcoffset(), early.replace(fold=1).utcoffset()
    if before != after and before is not None and after is not None:
        if before > after:
            raise UnfitValueError("ambiguous_time", value, f"happened twice in {tz}; give it with its UTC offset")
        raise UnfitValueError("nonexistent_time", value, f"was skipped by the clocks of {tz}")
    return early


def to_date(value: Any) -> date | None:
    """Dates, ISO text (also 20240119), and timestamps at midnight."""
    if is_missing(value):
        return None
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if isinstance(value, str):
        try:
            return date.fromisoformat(value.strip())
        except ValueError:
            pass
    elif not isinstance(value, datetime | np.datetime64):
        raise UnfitValueError("date_type", value, f"is {_a(value)}, not a date")
    try:
        moment = _datetime(value)
    except UnfitValueError as error:
        raise UnfitValueError("date_parsing", value, "is not an ISO 8601 date") from error
    if moment.time() != time():
        raise UnfitValueError("date_from_datetime_inexact", value, "has a time of day, which a date has not")
    return moment.date()


def to_bool(value: Any) -> bool | None:
    """Bools, and the words true and false."""
    if is_missing(value):
        return None
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, str):
        if value.strip().lower() in {"true", "false"}:
            return value.strip().lower() == "true"
        raise UnfitValueError("bool_parsing", value, "is neither true nor false")
    raise UnfitValueError("bool_type", value, f"is {_a(value)}, not a bool")


def to_string(value: Any) -> str | None:
    """Text only: a number is not taken for its digits."""
    if is_missing(value):
        return None
    if not isinstance(value, str):
        raise UnfitValueError("string_type", value, f"is {_a(value)}, not text")
    text = str(value.value) if isinstance(value, Enum) else str(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UnfitValueError("string_unicode", value, "is not valid Unicode") from None
    return text


def to_list(value: Any, *, item: Converter) -> list[Any] | None:
    """Each element by the element's own rule."""
    if is_missing(value):
        return None
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list | tuple):
        raise UnfitValueError("list_type", value, f"is {_a(value)}, not a list")
    return [item(element) for element in value]


def to_struct(value: Any, *, fields: dict[str, Converter]) -> dict[str, Any] | None:
    """A dict or a pydantic model with these fields and no others."""
    if is_missing(value):
        return None
    found = vars(value) if isinstance(value, BaseModel) else value
    if not isinstance(found, dict):
        raise UnfitValueError("dict_type", value, f"is {_a(value)}, not a dict")
    strays = [name for name in found if name not in fields]
    if strays:
        raise UnfitValueError("extra_forbidden", value, f"has {strays[0]!r}, which is none of {', '.join(fields)}")
    return {name: convert(found.get(name)) for name, convert in fields.items()}


def to_other(value: Any, *, kind: pa.DataType) -> Any:
    """What Arrow itself takes for the type."""
    if is_missing(value):
        return None
    try:
        return pa.scalar(value, kind).as_py()
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        raise UnfitValueError("type_error", value, f"is {_a(value)}, not {kind}") from None


def _a(value: Any) -> str:
    name = type(value).__name__
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"
