"""Which validator functions a record class has, and the smallest models that run them."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainValidator,
    WrapValidator,
    create_model,
)

from buffetstore.schemas.arrow import fields_of
from buffetstore.schemas.custom import OWN_VALIDATORS

if TYPE_CHECKING:
    from collections.abc import Iterator

_MODES = {"before": BeforeValidator, "after": AfterValidator, "wrap": WrapValidator, "plain": PlainValidator}
_ARGUMENTS = {"before": 1, "after": 1, "wrap": 2, "plain": 1}


@dataclass(frozen=True, slots=True)
class Part:
    """Validators that are run together.

    Parameters
    ----------
    name:
        The functions' names, for the people who look for what is slow.
    columns:
        What they are given.
    model:
        The model that runs them: the record class itself, or one with a single field.
    is_whole:
        They may look at the whole row.
    """

    name: str
    columns: tuple[str, ...]
    model: type[BaseModel]
    is_whole: bool


@cache
def parts_of(model: Any) -> tuple[Part, ...]:
    """Return the parts of a record class that need Python: a column each, or the row where one looks at all of it.

    A field validator that asks for `info` may read other fields by it, and so counts as one of the row.
    """
    of_row = sorted(_of_row(model))
    if of_row:
        return (Part(", ".join(of_row), tuple(model.model_fields), model, is_whole=True),)
    found = []
    for spec in fields_of(model):
        validators = list(_of_field(model, spec.name))
        if validators or spec.custom:
            names = [*(["annotation"] if spec.custom else []), *(name for name, _ in validators)]
            slim = _slim(model, spec.name, [mark for _, mark in validators])
            found.append(Part(f"{spec.name}: {', '.join(names)}", (spec.name,), slim, is_whole=False))
    return tuple(found)


def _of_row(model: type[BaseModel]) -> Iterator[str]:
    decorators = model.__pydantic_decorators__
    yield from decorators.model_validators.keys() - OWN_VALIDATORS
    yield from decorators.root_validators
    yield from decorators.validators
    if getattr(model, "model_post_init", None) is not BaseModel.model_post_init:
        yield "model_post_init"
    for name, decorator in decorators.field_validators.items():
        if name not in OWN_VALIDATORS and _arguments(decorator.func) != _ARGUMENTS[decorator.info.mode]:
            yield name


def _arguments(function: Any) -> int:
    """Return how many arguments must or may be given by place; 0 where it cannot be told."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 0
    by_place = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    return sum(one.kind in by_place and one.default is inspect.Parameter.empty for one in parameters)


def _of_field(model: type[BaseModel], field: str) -> Iterator[tuple[str, Any]]:
    for name, decorator in model.__pydantic_decorators__.field_validators.items():
        if name not in OWN_VALIDATORS and (field in decorator.info.fields or "*" in decorator.info.fields):
            yield name, _MODES[decorator.info.mode](decorator.func)


def _slim(model: type[BaseModel], field: str, validators: list[Any]) -> type[BaseModel]:
    """Return a model of the one field: the same annotation, with the class's validators in their order behind it."""
    info = model.model_fields[field]
    annotation: Any = info.annotation
    marks = (*info.metadata, *validators)
    config: ConfigDict = {**model.model_config, "extra": "ignore"}
    fields: dict[str, Any] = {field: (Annotated[(annotation, *marks)] if marks else annotation, ...)}
    made: type[BaseModel] = create_model(model.__name__, __config__=config, **fields)
    return made
