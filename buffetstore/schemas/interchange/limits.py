"""A field's constraints as plain values, which every format can write, and back."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any

import annotated_types as at
import pyarrow as pa
from pydantic import Field

from buffetstore.schemas.arrow import FieldSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from buffetstore.schemas.markers import Sensitivity

_MADE: dict[str, Any] = {
    "gt": at.Gt,
    "ge": at.Ge,
    "lt": at.Lt,
    "le": at.Le,
    "multiple_of": at.MultipleOf,
    "min_length": at.MinLen,
    "max_length": at.MaxLen,
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a value must keep, the strictest of each kind; None is no limit."""

    gt: Any = None
    ge: Any = None
    lt: Any = None
    le: Any = None
    multiple_of: Any = None
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None

    @classmethod
    def of(cls, spec: FieldSpec) -> Limits:
        """Return the limits of a field; of several patterns the last, which subclasses add."""
        found = cls()
        for constraint in spec.constraints:
            for name, made in _MADE.items():
                if isinstance(constraint, made):
                    found = found.with_limit(name, getattr(constraint, name))
            pattern = getattr(constraint, "pattern", None)
            if pattern is not None:
                found = replace(found, pattern=getattr(pattern, "pattern", pattern))
        return found

    def with_limit(self, name: str, value: Any) -> Limits:
        """Return the limits with one more, where it is stricter."""
        known = getattr(self, name)
        if known is not None and name != "multiple_of":
            value = max(known, value) if name in {"gt", "ge", "min_length"} else min(known, value)
        return replace(self, **{name: value})

    def stated(self) -> dict[str, Any]:
        """Return the limits that there are."""
        return {one.name: getattr(self, one.name) for one in fields(self) if getattr(self, one.name) is not None}

    def constraints(self) -> tuple[Any, ...]:
        """Return the limits as constraints of a field."""
        found = [_MADE[name](value) for name, value in self.stated().items() if name in _MADE]
        return (*found, *(Field(pattern=self.pattern).metadata if self.pattern is not None else ()))


def limits_from(values: Mapping[str, Any], kind: pa.DataType) -> Limits:
    """Return limits of a column of the type from plain values, of which those of times are text."""
    return Limits(**{name: _read(value, kind) if name in _BOUNDS else value for name, value in values.items()})


_BOUNDS = {"gt", "ge", "lt", "le", "multiple_of"}


def _read(value: Any, kind: pa.DataType) -> Any:
    if pa.types.is_timestamp(kind):
        return datetime.fromisoformat(value)
    if pa.types.is_date(kind):
        return date.fromisoformat(value)
    if pa.types.is_decimal(kind):
        return natural_number(Decimal(str(value)))
    return value


def natural_number(number: Decimal) -> int | Decimal:
    """Return whole numbers as int."""
    return int(number) if number == number.to_integral_value() else number


def plain(value: Any) -> Any:
    """Return a bound or a default as JSON has it: times as ISO text, decimals as the shortest number."""
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        whole = natural_number(value)
        return whole if isinstance(whole, int) else float(value)
    return value.value if isinstance(value, Enum) else value


def field(
    name: str,
    kind: pa.DataType,
    *,
    nullable: bool = False,
    limits: Limits | None = None,
    choices: Iterable[str] | None = None,
    default: Any = None,
    children: Iterable[FieldSpec] = (),
    description: str = "",
    unit: str | None = None,
    sensitivity: Sensitivity | None = None,
    aliases: Iterable[str] = (),
) -> FieldSpec:
    """Return the description of a field that was read from another format."""
    return FieldSpec(
        name=name,
        type=kind,
        nullable=nullable,
        filled=False,
        default=default,
        constraints=(limits or Limits()).constraints(),
        choices=None if choices is None else tuple(choices),
        custom=False,
        children=tuple(children),
        description=description,
        unit=unit,
        sensitivity=sensitivity,
        aliases=tuple(aliases),
    )


def list_field(name: str, element: FieldSpec, **facts: Any) -> FieldSpec:
    """Return the description of a list."""
    kind = pa.list_(pa.field("element", element.type, element.nullable))
    return field(name, kind, children=[element], **facts)


def struct_field(name: str, children: Iterable[FieldSpec], **facts: Any) -> FieldSpec:
    """Return the description of a nested model."""
    parts = list(children)
    kind = pa.struct([pa.field(part.name, part.type, part.nullable) for part in parts])
    return field(name, kind, children=parts, **facts)
