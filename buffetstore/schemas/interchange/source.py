"""A first draft of a record class, and the Python source that states it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from textwrap import indent
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
from pydantic import Field, TypeAdapter
from pydantic_core import SchemaError

from buffetstore.expressions import Column, Comparison
from buffetstore.schemas.interchange.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buffetstore.schemas.arrow import FieldSpec
    from buffetstore.schemas.contract import Rule

_DECIMALS = {(18, 8): "Price", (22, 2): "Money", (28, 8): "Quantity"}
_PLAIN: dict[pa.DataType, str] = {
    pa.string(): "str",
    pa.int64(): "int",
    pa.int16(): "Nanoseconds",
    pa.float64(): "float",
    pa.bool_(): "bool",
    pa.date32(): "Date",
    pa.timestamp("us", "UTC"): "Timestamp",
}
_IMPORTS = {
    "datetime": ("date", "datetime", "timedelta", "timezone"),
    "decimal": ("Decimal",),
    "typing": ("Annotated", "ClassVar", "Literal"),
    "pydantic": ("BaseModel", "ConfigDict", "Field"),
    "buffetstore.expressions": ("Column", "Comparison"),
    "buffetstore.schemas": (
        "Aliases",
        "Date",
        "Money",
        "Nanoseconds",
        "Price",
        "Quantity",
        "Record",
        "Rule",
        "Sensitivity",
        "Timestamp",
        "Unit",
    ),
}
_GROUPS = (("datetime", "decimal", "typing"), ("pydantic",), ("buffetstore.expressions", "buffetstore.schemas"))


@dataclass(frozen=True, slots=True)
class Draft:
    """What a record class would say, for a person to correct.

    Parameters
    ----------
    notes:
        For a field, what the person should know of it; for another name, why it is no field.
    """

    data_type: str
    fields: tuple[FieldSpec, ...]
    key: tuple[str, ...]
    event_time: str
    version: str = "1.0.0"
    description: str = ""
    rules: tuple[Rule, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)

    def source(self) -> str:
        """Return the Python source of the class, ready to be run and to be edited."""
        return source_of(self)


def source_of(draft: Draft) -> str:
    """Return the source of the draft's class, and of the nested models before it."""
    writer = _Writer(draft)
    body = writer.body()
    groups = ["\n".join(filter(None, (_import(module, body) for module in group))) for group in _GROUPS]
    head = ["from __future__ import annotations", *filter(None, groups)]
    return "\n\n".join(head) + "\n\n\n" + body + "\n"


def _import(module: str, code: str) -> str:
    names = [name for name in _IMPORTS[module] if re.search(rf"\b{name}\b", code)]
    return f"from {module} import {', '.join(names)}" if names else ""


class _Writer:
    """Writes one draft; nested models become classes of their own."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._classes: list[str] = []
        self._taken: set[str] = set()

    def body(self) -> str:
        draft = self._draft
        name = self._class_name("".join(part.capitalize() for part in draft.data_type.split("_")))
        lines = [line for spec in draft.fields for line in self._field(spec, name)]
        facts = [f"data_type={draft.data_type!r}", f"version={draft.version!r}", f"key={draft.key!r}"]
        if draft.event_time != "timestamp":
            facts.append(f"event_time={draft.event_time!r}")
        others = [f"# {_line(one)}: {_line(why)}" for one, why in draft.notes.items() if one not in self._names()]
        rules = ["", "rules: ClassVar[tuple[Rule, ...]] = (", *(f"    {_rule(rule)}," for rule in draft.rules), ")"]
        inside = [_docstring(draft.description or f"A first draft of {draft.data_type}."), "", *lines, *others]
        inside += rules if draft.rules else []
        head = f"class {name}(\n    Record,\n" + "".join(f"    {fact},\n" for fact in facts) + "):\n"
        return "\n\n\n".join([*self._classes, head + indent("\n".join(inside), "    ")])

    def _names(self) -> set[str]:
        return {spec.name for spec in self._draft.fields}

    def _class_name(self, wanted: str) -> str:
        name = wanted
        while name in self._taken or any(name in names for names in _IMPORTS.values()):
            name += "_"
        self._taken.add(name)
        return name

    def _field(self, spec: FieldSpec, owner: str) -> list[str]:
        notes = [self._draft.notes[spec.name]] if owner in self._taken and spec.name in self._draft.notes else []
        pattern = Limits.of(spec).pattern
        if pattern is not None and not is_supported(pattern):
            notes.append(f"pattern {pattern!r} is none that pydantic's regex engine knows; write it anew")
        annotation = self._annotation(spec, owner)
        default = "" if spec.default is None else f" = {_literal(spec.default)}"
        default = " = None" if spec.nullable and spec.default is None else default
        return [*(f"# {_line(note)}" for note in notes), f"{spec.name}: {annotation}{default}"]

    def _annotation(self, spec: FieldSpec, owner: str) -> str:
        marks = []
        words = [f"{name}={_literal(value)}" for name, value in _stated(spec).items()]
        if spec.description:
            words.append(f"description={spec.description!r}")
        if words:
            marks.append(f"Field({', '.join(words)})")
        if spec.unit is not None:
            marks.append(f"Unit({spec.unit!r})")
        if spec.sensitivity is not None:
            marks.append(f"Sensitivity.{spec.sensitivity.name}")
        if spec.aliases:
            marks.append(f"Aliases({', '.join(map(repr, spec.aliases))})")
        base = self._base(spec, owner)
        found = f"Annotated[{base}, {', '.join(marks)}]" if marks else base
        return f"{found} | None" if spec.nullable else found

    def _base(self, spec: FieldSpec, owner: str) -> str:
        kind = spec.type
        if spec.choices is not None:
            return f"Literal[{', '.join(map(repr, spec.choices))}]"
        if pa.types.is_list(kind):
            return f"list[{self._annotation(spec.children[0], owner)}]"
        if pa.types.is_struct(kind):
            return self._nested(spec, owner)
        if pa.types.is_decimal(kind):
            digits = (kind.precision, kind.scale)
            return _DECIMALS.get(digits) or (
                f"Annotated[Decimal, Field(max_digits={digits[0]}, decimal_places={digits[1]})]"
            )
        return _PLAIN[kind]

    def _nested(self, spec: FieldSpec, owner: str) -> str:
        name = self._class_name(owner + "".join(part.capitalize() for part in spec.name.split("_")))
        lines = [line for child in spec.children for line in self._field(child, name)]
        inside = ['model_config = ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=())', "", *lines]
        self._classes.append(f"class {name}(BaseModel):\n" + indent("\n".join(inside), "    "))
        return name


def is_supported(pattern: str) -> bool:
    """Tell whether pydantic can run the pattern: it knows no look-around and no references."""
    try:
        TypeAdapter(Annotated[str, Field(pattern=pattern)])
    except SchemaError:
        return False
    return True


def _stated(spec: FieldSpec) -> dict[str, Any]:
    found = Limits.of(spec).stated()
    return {name: value for name, value in found.items() if name != "pattern" or is_supported(value)}


def _literal(value: Any) -> str:
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, datetime):
        offset = value.utcoffset()
        zone = "" if offset is None else f".replace(tzinfo=timezone(timedelta(seconds={offset.total_seconds()!r})))"
        return f"datetime.fromisoformat({value.replace(tzinfo=None).isoformat()!r}){zone}"
    if isinstance(value, date):
        return f"date.fromisoformat({value.isoformat()!r})"
    return f"Decimal({str(value)!r})" if isinstance(value, Decimal) else repr(value)


def _rule(rule: Rule) -> str:
    assert isinstance(rule.holds, Comparison), "drafts compare two columns"
    assert isinstance(rule.holds.value, Column), "drafts compare two columns"
    holds = f"Comparison({rule.holds.column!r}, {rule.holds.op!r}, Column({rule.holds.value.name!r}))"
    return f"Rule({rule.name!r}, {rule.field!r}, {holds}, {rule.message!r})"


def _docstring(text: str) -> str:
    return '"""' + text.replace("\\", "\\\\").replace('"', '\\"') + '"""'


def _line(text: str) -> str:
    return " ".join(text.split())
