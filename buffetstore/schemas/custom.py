"""What of a record class is code rather than data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from buffetstore.schemas.arrow import fields_of
from buffetstore.schemas.contract import Custom
from buffetstore.schemas.fill import BUILT_IN
from buffetstore.schemas.types import SPELLINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buffetstore.schemas.arrow import FieldSpec

OWN_VALIDATORS = frozenset({"_as_column", "_split_times"})
"""Validators of `Record` itself: they do as the kernels do."""


def custom_of(model: type[Any]) -> tuple[Custom, ...]:
    """Return the code of a record class that its stored contract cannot hold, sorted."""
    found = {*_of_class(model), *_of_fields(model)}
    found |= {Custom("upcast", step.name, step.field) for step in model.upcasts}
    found |= {Custom("fill", fill.name) for fill in model.fills if fill.same is None and fill not in BUILT_IN}
    return tuple(sorted(found))


def _of_class(model: type[Any]) -> Iterator[Custom]:
    decorators = model.__pydantic_decorators__
    for name, decorator in {**decorators.field_validators, **decorators.validators}.items():
        if name not in OWN_VALIDATORS:
            for field in decorator.info.fields:
                yield Custom("validator", name, "" if field == "*" else field)
    for name in {**decorators.model_validators, **decorators.root_validators}:
        if name not in OWN_VALIDATORS:
            yield Custom("validator", name)
    if getattr(model, "model_post_init", None) is not BaseModel.model_post_init:
        yield Custom("validator", "model_post_init")


def _of_fields(model: type[Any]) -> Iterator[Custom]:
    for spec in fields_of(model):
        if spec.custom:
            yield Custom("validator", "annotation", spec.name)
        yield from _spellings(spec, spec.name)


def _spellings(spec: FieldSpec, path: str) -> Iterator[Custom]:
    for spelling in spec.spellings:
        if spelling.spell not in SPELLINGS.values():
            yield Custom("spelling", getattr(spelling.spell, "__qualname__", repr(spelling.spell)), path)
    for child in spec.children:
        yield from _spellings(child, path)
