"""Which types hold every value of which, and which demands on a field ask for more than others."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import Enum
from fractions import Fraction
from math import isinf
from typing import TYPE_CHECKING, Any

import annotated_types as at
import pyarrow as pa

if TYPE_CHECKING:
    from buffetstore.schemas.arrow import FieldSpec

_EXACT_IN_DOUBLE = 2**53
_INT64_DIGITS = 19


class Fit(Enum):
    """How the values of a new type lie to those of the old."""

    SAME = "same"
    WIDER = "wider"
    NARROWER = "narrower"
    NESTED = "nested"
    """Both are lists, or both structs: their parts tell."""
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Demand:
    """What a constraint asks of a value.

    Parameters
    ----------
    order:
        Compares demands of one name: the greater one lets fewer values pass.
    shown:
        The demand, for people.
    """

    order: Any
    shown: str

    def is_stricter_than(self, other: Demand) -> bool:
        """Tell whether fewer values pass."""
        return bool(self.order > other.order)


def numbers_of(version: str) -> tuple[int, ...]:
    """Return (1, 2, 0) for '1.2.0'; versions compare so."""
    return tuple(map(int, version.split(".")))


def fit_of(old: FieldSpec, new: FieldSpec) -> Fit:
    """Return whether the new field's type holds every value of the old one's, exactly."""
    if (pa.types.is_list(old.type) and pa.types.is_list(new.type)) or (
        pa.types.is_struct(old.type) and pa.types.is_struct(new.type)
    ):
        return Fit.NESTED
    if old.type == new.type:
        return Fit.SAME
    wider, narrower = _holds(new, old), _holds(old, new)
    if wider == narrower:
        return Fit.SAME if wider else Fit.OTHER
    return Fit.WIDER if wider else Fit.NARROWER


def _holds(wide: FieldSpec, narrow: FieldSpec) -> bool:
    """Tell whether every value of the narrow field is one of the wide one's type."""
    target, source = wide.type, narrow.type
    if pa.types.is_decimal(target) and pa.types.is_decimal(source):
        whole = target.precision - target.scale >= source.precision - source.scale
        return bool(whole and target.scale >= source.scale)
    if pa.types.is_decimal(target) and pa.types.is_integer(source):
        digits = target.precision - target.scale
        return digits >= _INT64_DIGITS or _is_within(narrow, 10**digits - 1)
    if pa.types.is_floating(target) and pa.types.is_integer(source):
        return _is_within(narrow, _EXACT_IN_DOUBLE)
    return False


def _is_within(spec: FieldSpec, limit: int) -> bool:
    """Tell whether the field's bounds keep its whole numbers within ±limit."""
    found = demands_of(spec)
    lower, upper = found.get("lower bound"), found.get("upper bound")
    return (
        lower is not None and upper is not None and lower.order[0] >= -limit and -upper.order[0] <= limit
    )  # the order of an upper bound is turned round


def demands_of(spec: FieldSpec) -> dict[str, Demand]:
    """Return what the field's constraints ask, the strictest of each sort."""
    found: dict[str, Demand] = {}
    for constraint in spec.constraints:
        for name, demand in _demands(constraint):
            if name not in found or demand.is_stricter_than(found[name]):
                found[name] = demand
    return found


def _demands(constraint: Any) -> list[tuple[str, Demand]]:
    match constraint:
        case at.Gt(gt):
            return [("lower bound", Demand((_number(gt), 1), f"above {gt}"))]
        case at.Ge(ge):
            return [("lower bound", Demand((_number(ge), 0), f"{ge}"))]
        case at.Lt(lt):
            return [("upper bound", Demand((-_number(lt), 1), f"below {lt}"))]
        case at.Le(le):
            return [("upper bound", Demand((-_number(le), 0), f"{le}"))]
        case at.MinLen(length):
            return [("least length", Demand(length, f"{length}"))] if length else []
        case at.MaxLen(length):
            return [("greatest length", Demand(-length, f"{length}"))]
        case at.MultipleOf(step):
            return [(f"multiple of {step}", Demand(0, "demanded"))]
    pattern = getattr(constraint, "pattern", None)
    if pattern is None:
        return []
    text = getattr(pattern, "pattern", pattern)
    return [(f"pattern {text!r}", Demand(0, "demanded"))]


def _number(bound: Any) -> Any:
    """Return the bound as a number that compares exactly."""
    if isinstance(bound, date):
        return Fraction(bound.toordinal()) if not hasattr(bound, "timestamp") else Fraction(bound.timestamp())
    return bound if isinstance(bound, float) and isinf(bound) else Fraction(str(bound))
