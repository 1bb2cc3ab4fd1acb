"""The words that a record is written in: annotated types that fix precision, time zone and spelling."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import Field
from pydantic_core import core_schema

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import GetCoreSchemaHandler


@dataclass(frozen=True, slots=True)
class Canonical:
    """Spellings that mean the same are brought to one before the value is checked.

    Parameters
    ----------
    spell:
        Gives the one spelling of a value; what it does not know it returns as it is.
    """

    spell: Callable[[Any], Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Call `spell` before the type's own validation."""
        return core_schema.no_info_before_validator_function(self.spell, handler(source))


@dataclass(frozen=True, slots=True)
class Remainder:
    """Marks the field that keeps the nanoseconds of a time; its column is an int16."""


def decimal(precision: int, scale: int) -> Any:
    """Return the type of exact numbers with `precision` digits, `scale` of them after the point.

    Floats are rounded half-even to `scale`; more digits in a `Decimal` or `str` are an error.
    """
    return Annotated[Decimal, Field(max_digits=precision, decimal_places=scale)]


def canonical_version(version: Any) -> Any:
    """Return '1.2.0' for 'v1.2.0'."""
    return version[1:] if isinstance(version, str) and version[:1] in {"v", "V"} else version


_OPTION_TYPES = {"c": "call", "call": "call", "calls": "call", "p": "put", "put": "put", "puts": "put"}


def canonical_option_type(value: Any) -> Any:
    """Return 'call' for 'C' and 'CALL', 'put' for 'P' and 'PUT'."""
    return _OPTION_TYPES.get(value.strip().lower(), value) if isinstance(value, str) else value


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


Price = Annotated[Decimal, Field(max_digits=18, decimal_places=8)]
Money = Annotated[Decimal, Field(max_digits=22, decimal_places=2)]
Quantity = Annotated[Decimal, Field(max_digits=28, decimal_places=8)]
Timestamp: TypeAlias = datetime
"""UTC, microseconds; a naive datetime is refused."""
Nanoseconds = Annotated[int, Field(ge=0, le=999), Remainder()]
"""What a time has beyond its microseconds: ``timestamp_nanoseconds: Nanoseconds | None = None`` beside `timestamp`.

Times that are given in nanoseconds are split; `with_nanoseconds` joins them again.
"""
Date: TypeAlias = date
Symbol = Annotated[str, Field(min_length=1)]
Name = Annotated[str, Field(min_length=1)]
Version = Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$"), Canonical(canonical_version)]
OptionType = Annotated[Literal["call", "put"], Canonical(canonical_option_type)]
ExerciseStyle = Annotated[Literal["american", "european", "bermudan"], Canonical(_lower)]
SPELLINGS: dict[str, Callable[[Any], Any]] = {
    "version": canonical_version,
    "option_type": canonical_option_type,
    "lower": _lower,
}
"""The functions of `Canonical` that a stored contract can name."""
