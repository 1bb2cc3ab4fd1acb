"""A pydantic model as Arrow columns: its annotations are read once, into frozen descriptions."""

from __future__ import annotations

import types
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, cast, get_args, get_origin
from uuid import UUID

import pyarrow as pa
from annotated_types import BaseMetadata, Ge, GroupedMetadata, Gt, Le, Lt, MaxLen, MinLen, MultipleOf
from annotated_types import Unit as PhysicalUnit
from pydantic import AwareDatetime, BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from buffetstore.errors import ConfigurationError
from buffetstore.schemas.markers import Aliases, Sensitivity, Unit
from buffetstore.schemas.types import Canonical, Remainder

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

# Constraints that are kernels, and parameters of pydantic's own constraint that are in the Arrow type or a kernel.
_KNOWN = (MinLen, MaxLen, Canonical, PhysicalUnit)
_ORDERED = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_temporal)
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
_INSTEAD: tuple[tuple[tuple[Any, ...], str], ...] = (
    ((dict,), "a pydantic model with these fields, a list of models with key and value, or str that holds JSON"),
    ((set, frozenset, tuple), "list[...]"),
    ((list,), "list[str], with the type of its elements"),
    ((bytes, bytearray), "str, in hex or base64"),
    ((timedelta,), "int, with Unit('seconds')"),
    ((time,), "str such as '09:30:00', or a Timestamp"),
    ((UUID,), "str"),
    ((Enum,), "StrEnum, or a class of str and Enum"),
    ((complex,), "two float fields"),
)
_open: ContextVar[frozenset[type[Any]]] = ContextVar("_open", default=frozenset())
"""The nested models that are being described."""


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
    description:
        What the column means, in words.
    unit:
        What its numbers count.
    sensitivity:
        Who may see it; None is not said.
    aliases:
        Its names in earlier versions.
    spellings:
        Bring spellings that mean the same to one.
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
    description: str = ""
    unit: str | None = None
    sensitivity: Sensitivity | None = None
    aliases: tuple[str, ...] = ()
    spellings: tuple[Canonical, ...] = ()


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
    if model.model_config.get("strict"):
        raise _strict(f"class {model.__qualname__}")
    return tuple(
        _describe(name, _place(model, name), info.annotation, [info], default=_default(info, _place(model, name)))
        for name, info in model.model_fields.items()
    )


def schema_of(model: type[Any]) -> pa.Schema:
    """Return the Arrow schema of the model; required fields are not nullable."""
    return pa.schema([pa.field(spec.name, spec.type, spec.nullable) for spec in fields_of(model)])


def _strict(place: str) -> ConfigurationError:
    return ConfigurationError(
        f"{place} is strict, which no column can be: it takes what is exactly of its type however it is written ('5' "
        "for an int, never '5.5'); leave strict out"
    )


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
    if any(getattr(mark, "strict", None) is True for mark in marks):
        raise _strict(place)
    filled = any(isinstance(mark, Filled) for mark in marks)
    choices = _choices(base, place)
    children = _children(name, place, base)
    kind = _arrow_type(base, marks, choices, children, place)
    return FieldSpec(
        name=name,
        type=kind,
        nullable=optional and not filled,
        filled=filled,
        default=default,
        constraints=tuple(mark for mark in marks if isinstance(mark, BaseMetadata)),
        choices=choices,
        custom=any(_is_custom(mark, kind) for mark in marks)
        or any(child.custom for child in children)
        or has_validators(base),
        children=children,
        spellings=tuple(mark for mark in marks if isinstance(mark, Canonical)),
        **_said(marks, place),
    )


def _said(marks: Iterable[Any], place: str) -> dict[str, Any]:
    """Return what the marks say in words; of several, the last."""
    said: dict[str, Any] = {}
    for mark in marks:
        if isinstance(mark, FieldInfo):
            if mark.description:
                said["description"] = mark.description
            extra = mark.json_schema_extra
            marks_ = extra if isinstance(extra, dict) else {}
            if "unit" in marks_:
                said["unit"] = str(marks_["unit"])
            if "sensitivity" in marks_:
                said["sensitivity"] = _sensitivity(marks_["sensitivity"], place)
        elif isinstance(mark, Unit):
            said["unit"] = mark.name
        elif isinstance(mark, PhysicalUnit):
            said["unit"] = str(mark.unit)
        elif isinstance(mark, Sensitivity):
            said["sensitivity"] = mark
        elif isinstance(mark, Aliases):
            said["aliases"] = (*said.get("aliases", ()), *mark.names)
    return said


def _sensitivity(word: Any, place: str) -> Sensitivity:
    try:
        return Sensitivity(word)
    except ConfigurationError as error:
        raise ConfigurationError(f"{place}: {error}") from None


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
            found.extend([mark, *_flat(mark.metadata)])
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


def _is_custom(mark: Any, kind: pa.DataType) -> bool:
    """Tell whether a mark demands more than the kernels know of columns of this type."""
    if isinstance(mark, Gt | Ge | Lt | Le):
        return not any(is_one(kind) for is_one in _ORDERED)
    if isinstance(mark, MultipleOf):
        return not (pa.types.is_decimal(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind))
    if isinstance(mark, _KNOWN):
        return False
    if isinstance(mark, BaseMetadata) and hasattr(mark, "__dict__"):  # pydantic's own
        return bool({name for name, value in vars(mark).items() if value is not None} - _IN_THE_TYPE)
    return isinstance(mark, BaseMetadata) or hasattr(mark, "__get_pydantic_core_schema__")


def _choices(base: Any, place: str) -> tuple[str, ...] | None:
    if get_origin(base) is Literal:
        values = get_args(base)
        if not all(isinstance(value, str) for value in values):
            raise _unsupported(base, place)
        return tuple(str(value) for value in values)
    if isinstance(base, type) and issubclass(base, Enum) and issubclass(base, str):
        return tuple(str(member.value) for member in base)
    return None


def _children(name: str, place: str, base: Any) -> tuple[FieldSpec, ...]:
    if get_origin(base) is list:
        return (_describe(name, f"{place}[]", get_args(base)[0], ()),)
    if isinstance(base, type) and issubclass(base, BaseModel):
        return _fields_of_part(base, place)
    return ()


def _fields_of_part(model: type[BaseModel], place: str) -> tuple[FieldSpec, ...]:
    """Describe a nested model, which may not hold itself."""
    if model in _open.get():
        raise ConfigurationError(
            f"{place} holds {model.__qualname__} inside itself: a column has a fixed depth; refer to the other row by "
            "its key instead"
        )
    if model.model_config.get("extra") == "allow":
        raise ConfigurationError(
            f"{place} is {model.__qualname__}, which takes any extra field; a column has fixed ones: set "
            "extra='forbid', or keep the rest in a str field as JSON"
        )
    token = _open.set(_open.get() | {model})
    try:
        return fields_of(model)
    finally:
        _open.reset(token)


def _arrow_type(
    base: Any, marks: tuple[Any, ...], choices: tuple[str, ...] | None, children: tuple[FieldSpec, ...], place: str
) -> pa.DataType:
    if choices is not None:
        return pa.string()
    if base is Decimal:
        return _decimal_type(marks, place)
    if base is int and any(isinstance(mark, Remainder) for mark in marks):
        return pa.int16()
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
    base = get_origin(annotation) or annotation
    if base is Literal:
        instead = "Literal of strings only, or int with ge= and le="
    elif base in {Union, types.UnionType}:
        instead = "one type, or a field for each"
    elif base is Any or base is object:
        instead = f"the type that the values have: {SUPPORTED}"
    else:
        kinds = base.__mro__ if isinstance(base, type) else ()
        instead = next((words for those, words in _INSTEAD if any(kind in those for kind in kinds)), SUPPORTED)
    return ConfigurationError(f"{place} has type {annotation!r}, which no column can hold; use {instead}")
