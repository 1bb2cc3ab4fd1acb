"""A pydantic model as Arrow columns: its annotations are read once, into frozen descriptions."""

from __future__ import annotations

import types
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, cast, get_args, get_origin

import pyarrow as pa
from annotated_types import BaseMetadata, Ge, GroupedMetadata, Gt, Le, Lt, MaxLen, MinLen
from pydantic import AwareDatetime, BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from buffetstore.errors import ConfigurationError
from buffetstore.schemas.types import Canonical

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

# Constraints that are kernels, and parameters of pydantic's own constraint that are in the Arrow type or a kernel.
_KNOWN = (Gt, Ge, Lt, Le, MinLen, MaxLen, Canonical)
_IN_THE_TYPE = {"max_digits", "decimal_places", "allow_inf_nan", "strict", "pattern"}
_PLAIN: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    datetime: pa.timestamp("us", "UTC"),
    AwareDatetime: pa.timestamp("us", "UTC"),
    date: pa.date32(),
}
SUPPORTED = (
    "str, int, float, bool, datetime, date, Decimal with max_digits and decimal_places, Literal of strings, StrEnum, "
    "a pydantic model, list of these, and | None"
)
MAX_DIGITS = 38


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One field of a model: its Arrow type and what its annotation demands of a value.

    Parameters
    ----------
    name:
        The column's name; for an element of a list, the list's name.
    type:
        The Arrow type of the column.
    nullable:
        Whether null is a value.
    filled:
        The store fills it: rows may leave it out although the column is not nullable.
    default:
        Stands in for an absent value or null; None where there is none.
    constraints:
        The annotation's own constraint objects (`Gt`, `MinLen`, pydantic's pattern).
    choices:
        The strings that are allowed; None means all.
    custom:
        The annotation carries a validator function, which no kernel can run.
    children:
        The fields of a nested model; the one element of a list.
    """

    name: str
    type: pa.DataType
    nullable: bool
    filled: bool
    default: Any
    constraints: tuple[Any, ...]
    choices: tuple[str, ...] | None
    custom: bool
    children: tuple[FieldSpec, ...]


@dataclass(frozen=True, slots=True)
class Filled:
    """Marks a field that the store fills, so that its column is never null although a row may leave it out."""


def fields_of(model: type[Any]) -> tuple[FieldSpec, ...]:
    """Describe every field of the model, in its order.

    Raises
    ------
    ConfigurationError
        A field has a type that no column can hold; the message names model and field.
    """
    return _fields_of(cast("Hashable", model))


@cache
def _fields_of(model: type[BaseModel]) -> tuple[FieldSpec, ...]:
    return tuple(
        _describe(
            name, _place(model, name), info.annotation, info.metadata, default=_default(info, _place(model, name))
        )
        for name, info in model.model_fields.items()
    )


def schema_of(model: type[Any]) -> pa.Schema:
    """Return the Arrow schema of the model; required fields are not nullable."""
    return pa.schema([pa.field(spec.name, spec.type, spec.nullable) for spec in fields_of(model)])


def _place(model: type[BaseModel], name: str) -> str:
    return f"{model.__qualname__}.{name}"


def _default(info: FieldInfo, place: str) -> Any:
    if info.default_factory is not None:
        raise ConfigurationError(f"{place} has a default_factory, which no column can repeat; give a plain default")
    default = info.default
    return None if default is PydanticUndefined else default


def _describe(name: str, place: str, annotation: Any, metadata: Iterable[Any], *, default: Any = None) -> FieldSpec:
    base, marks, optional = _unwrap(annotation, place)
    marks = (*marks, *_flat(metadata))
    filled = any(isinstance(mark, Filled) for mark in marks)
    choices = _choices(base, place)
    children = _children(name, place, base)
    return FieldSpec(
        name=name,
        type=_arrow_type(base, marks, choices, children, place),
        nullable=optional and not filled,
        filled=filled,
        default=default,
        constraints=tuple(mark for mark in marks if isinstance(mark, BaseMetadata)),
        choices=choices,
        custom=any(map(_is_custom, marks)) or any(child.custom for child in children) or has_validators(base),
        children=children,
    )


def _unwrap(annotation: Any, place: str) -> tuple[Any, tuple[Any, ...], bool]:
    """Take `Annotated` and `| None` off, in whatever order they are nested."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *marks = get_args(annotation)
        base, more, optional = _unwrap(inner, place)
        return base, (*more, *_flat(marks)), optional
    if origin in {Union, types.UnionType}:
        parts = [part for part in get_args(annotation) if part is not type(None)]
        if len(parts) != 1:
            raise _unsupported(annotation, place)
        base, marks_, _ = _unwrap(parts[0], place)
        return base, marks_, len(parts) < len(get_args(annotation))
    return annotation, (), False


def _flat(marks: Iterable[Any]) -> tuple[Any, ...]:
    """Open up `Field(...)`, `Len(...)` and the like into the constraints that they stand for."""
    found: list[Any] = []
    for mark in marks:
        if isinstance(mark, FieldInfo):
            found.extend(_flat(mark.metadata))
        elif isinstance(mark, GroupedMetadata):
            found.extend(_flat(mark))
        else:
            found.append(mark)
    return tuple(found)


def has_validators(model: Any, *, but: Iterable[str] = ()) -> bool:
    """Tell whether a model has validator functions of its own, which no kernel can run."""
    found = getattr(model, "__pydantic_decorators__", None)
    if found is None:
        return False
    named = {*found.field_validators, *found.model_validators, *found.validators, *found.root_validators}
    return bool(named - set(but)) or getattr(model, "model_post_init", None) is not BaseModel.model_post_init


def _is_custom(mark: Any) -> bool:
    """Tell whether a mark demands more than the kernels know."""
    if isinstance(mark, _KNOWN):
        return False
    if isinstance(mark, BaseMetadata):
        return bool({name for name, value in vars(mark).items() if value is not None} - _IN_THE_TYPE)
    return hasattr(mark, "__get_pydantic_core_schema__")


def _choices(base: Any, place: str) -> tuple[str, ...] | None:
    if get_origin(base) is Literal:
        values = get_args(base)
        if not all(isinstance(value, str) for value in values):
            raise _unsupported(base, place)
        return tuple(str(value) for value in values)
    if isinstance(base, type) and issubclass(base, StrEnum):
        return tuple(member.value for member in base)
    return None


def _children(name: str, place: str, base: Any) -> tuple[FieldSpec, ...]:
    if get_origin(base) is list:
        return (_describe(name, f"{place}[]", get_args(base)[0], ()),)
    if isinstance(base, type) and issubclass(base, BaseModel):
        return fields_of(base)
    return ()


def _arrow_type(
    base: Any, marks: tuple[Any, ...], choices: tuple[str, ...] | None, children: tuple[FieldSpec, ...], place: str
) -> pa.DataType:
    if choices is not None:
        return pa.string()
    if base is Decimal:
        return _decimal_type(marks, place)
    if get_origin(base) is list:
        return pa.list_(pa.field("element", children[0].type, children[0].nullable))
    if isinstance(base, type) and issubclass(base, BaseModel):
        return pa.struct([pa.field(child.name, child.type, child.nullable) for child in children])
    found = _PLAIN.get(base)
    if found is None:
        raise _unsupported(base, place)
    return found


def _decimal_type(marks: tuple[Any, ...], place: str) -> pa.DataType:
    digits = next((mark.max_digits for mark in reversed(marks) if getattr(mark, "max_digits", None)), None)
    places = next(
        (mark.decimal_places for mark in reversed(marks) if getattr(mark, "decimal_places", None) is not None), None
    )
    if digits is None or places is None or not 0 <= places <= digits <= MAX_DIGITS:
        raise ConfigurationError(
            f"{place} is a Decimal with max_digits={digits} and decimal_places={places}: a column needs both, at most "
            f"{MAX_DIGITS}; write Price, Money or Annotated[Decimal, Field(max_digits=18, decimal_places=8)]"
        )
    return pa.decimal128(digits, places)


def _unsupported(annotation: Any, place: str) -> ConfigurationError:
    return ConfigurationError(f"{place} has type {annotation!r}, which no column can hold; use {SUPPORTED}")
