"""Whatever record class is written and whatever rows are given, the kernels judge as row-by-row pydantic does."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, StrEnum
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from buffetstore.expressions import And, Column, Comparison, IsIn, IsNull, Not, Or, evaluate
from buffetstore.schemas import Record, Rule, Timestamp, ValidationLevel, contract_of, decimal
from buffetstore.schemas.intake import take_in
from buffetstore.schemas.interchange import draft_from_document, export_contract
from buffetstore.schemas.interchange.limits import Limits
from buffetstore.schemas.interchange.odcs import odcs_document
from buffetstore.schemas.manager import judge
from buffetstore.schemas.values import is_missing

if TYPE_CHECKING:
    from buffetstore.expressions import Expression
    from buffetstore.schemas import Finding
    from buffetstore.schemas.arrow import FieldSpec

NOW = datetime(2026, 1, 2, tzinfo=UTC)
IS_NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
EXAMPLES = 20_000 if IS_NIGHTLY else 60
pytestmark = pytest.mark.timeout(7_200 if IS_NIGHTLY else 120)
NAIVE = datetime(2024, 1, 1)  # noqa: DTZ001 what must be refused
WORDS = ["", "a", "AAPL", "BTC/USD", "12", "株", "é" * 9, "x" * 40, " pad ", "red", "green", "line\nbreak", "\ud800"]
PATTERNS = [r"^[A-Z]+$", r"^\d{2}$", r"^[a-z/A-Z]{1,8}$", r"a|B", r"\w+", r"^.$"]
WRONG = st.sampled_from(
    [None, float("nan"), float("inf"), True, "x", "", 5, 1.5, [], {}, b"b", NAIVE, date(2024, 1, 1), Decimal("NaN")]
)


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


class Old(str, Enum):  # noqa: UP042 what people write who came before StrEnum
    RED = "red"
    A = "a"


@dataclass(frozen=True)
class Kind:
    """A field in the making: its annotation, and values such as users give for it."""

    annotation: Any
    values: st.SearchStrategy[Any]
    compares: str | None = None
    default: Any = ...


def bounded(draw: st.DrawFn, low: int, high: int) -> dict[str, Any]:
    """Bounds that a number may have; they need not leave room."""
    found: dict[str, Any] = {}
    if draw(st.booleans()):
        found[draw(st.sampled_from(["gt", "ge"]))] = draw(st.integers(low, high))
    if draw(st.booleans()):
        found[draw(st.sampled_from(["lt", "le"]))] = draw(st.integers(low, high))
    return found


def near(bounds: dict[str, Any]) -> st.SearchStrategy[int]:
    points = [bound + step for name, bound in bounds.items() if name != "multiple_of" for step in (-1, 0, 1)]
    return st.sampled_from(points or [0, 1, 2])


@st.composite
def whole(draw: st.DrawFn) -> Kind:
    bounds = bounded(draw, -5, 50)
    if draw(st.integers(0, 3)) == 0:
        bounds["multiple_of"] = draw(st.sampled_from([1, 2, 5, 7]))
    values = st.one_of(
        near(bounds),
        st.integers(-20, 60),
        st.integers(-20, 60).map(float),
        st.integers(-20, 60).map(str),
        st.sampled_from([2**63 - 1, 2**63, -(2**63), -(2**63) - 1, "1e3", "1.0", 1e18, Decimal("3.0"), Decimal("0.5")]),
    )
    return Kind(Annotated[int, Field(**bounds)] if bounds else int, values, "int")


@st.composite
def real(draw: st.DrawFn) -> Kind:
    bounds = bounded(draw, -5, 5)
    if draw(st.integers(0, 3)) == 0:
        bounds["multiple_of"] = draw(st.sampled_from([0.5, 0.1, 2.0]))
    values = st.one_of(
        near(bounds).map(float),
        st.floats(-10, 10),
        st.floats(),
        st.integers(-10, 10),
        st.sampled_from(["1.5", "x", "1e400", -0.0, Decimal("0.1"), 2**70, 0.3, 0.30000000000000004]),
    )
    return Kind(Annotated[float, Field(**bounds)] if bounds else float, values, "float")


@st.composite
def exact(draw: st.DrawFn) -> Kind:
    precision, scale = draw(st.sampled_from([(6, 2), (18, 8), (22, 2), (38, 0), (30, 10), (4, 4)]))
    bounds = bounded(draw, -5, 5)
    if precision <= 28 and draw(st.integers(0, 3)) == 0:  # pydantic's own remainder fails beyond
        bounds["multiple_of"] = draw(st.sampled_from([Decimal("0.05"), Decimal(2), Decimal(1)]))
    annotation = decimal(precision, scale)
    values = st.one_of(
        near(bounds),
        st.decimals(-10, 10, places=min(scale, 3)),
        st.floats(-10, 10),
        st.sampled_from([Decimal(10) ** (precision - scale), -(Decimal(10) ** (precision - scale)), "9" * 40, "1e3"]),
        st.sampled_from([Decimal("0.123456789123"), "0.05", " 7 ", 1e30, Decimal("Infinity"), 0.005, 0.015]),
    )
    return Kind(Annotated[annotation, Field(**bounds)] if bounds else annotation, values, f"d{precision},{scale}")


@st.composite
def text(draw: st.DrawFn) -> Kind:
    limits: dict[str, Any] = {}
    if draw(st.booleans()):
        limits["min_length"] = draw(st.integers(0, 4))
    if draw(st.booleans()):
        limits["max_length"] = draw(st.integers(0, 12))
    if draw(st.integers(0, 2)) == 0:
        limits["pattern"] = draw(st.sampled_from(PATTERNS))
    values = st.one_of(st.sampled_from(WORDS), st.text(max_size=12))
    return Kind(Annotated[str, Field(**limits)] if limits else str, values, "str")


def moments() -> Kind:
    instants = st.datetimes(datetime(1990, 1, 1), datetime(2050, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))  # noqa: DTZ001
    zoned = instants.map(lambda at: at.astimezone(timezone(timedelta(hours=-5))))
    words = st.sampled_from([NAIVE, "2024-01-01", "2024-01-01T09:30:00+02:00", "2024-01-01T00:00:00.0000001Z", "soon"])
    return Kind(Timestamp, st.one_of(instants, zoned, instants.map(datetime.isoformat), words), "time")


FLAGS = Kind(bool, st.sampled_from([True, False, "true", "FALSE", "yes", 1, 0, "1"]))
DAYS = Kind(
    date, st.one_of(st.dates(date(1990, 1, 1)), st.sampled_from(["2024-01-19", "20240119", "x", NAIVE])), "date"
)
CHOICES = st.sampled_from(
    [
        Kind(Literal["red", "green"], st.sampled_from(["red", "green", "RED", "blue", Colour.RED])),
        Kind(Colour, st.sampled_from(["red", "green", Colour.GREEN, "blue", "Red"])),
        Kind(Old, st.sampled_from(["red", "a", Old.A, "b"])),
    ]
)
scalars = st.one_of(whole(), real(), exact(), text(), st.just(moments()), st.just(FLAGS), st.just(DAYS), CHOICES)


@st.composite
def optional(draw: st.DrawFn, kinds: st.SearchStrategy[Kind]) -> Kind:
    kind = draw(kinds)
    values = st.one_of(kind.values, kind.values, kind.values, kind.values, WRONG)
    if draw(st.booleans()):
        return Kind(kind.annotation, values, kind.compares)
    return Kind(kind.annotation | None, st.none() | values, kind.compares, None)


@st.composite
def listed(draw: st.DrawFn, kinds: st.SearchStrategy[Kind]) -> Kind:
    kind = draw(optional(kinds))
    values = st.lists(kind.values, max_size=4)
    limits = draw(st.sampled_from([{}, {"min_length": 1}, {"max_length": 2}, {"min_length": 1, "max_length": 3}]))
    annotation: Any = list[kind.annotation]  # type: ignore[name-defined]
    return Kind(Annotated[annotation, Field(**limits)] if limits else annotation, values)


@st.composite
def nested(draw: st.DrawFn) -> Kind:
    kinds = draw(st.lists(optional(scalars), min_size=1, max_size=3))
    fields = {f"n{at}": (kind.annotation, kind.default) for at, kind in enumerate(kinds)}
    if draw(st.booleans()):
        fields["d"] = (int, draw(st.integers(0, 3)))
    if draw(st.booleans()):
        fields["e"] = draw(st.sampled_from([(list[int], [1]), (str | None, "said"), (decimal(6, 2), Decimal("1.5"))]))
    config = ConfigDict(extra="forbid", allow_inf_nan=False)
    model = create_model("Part", __config__=config, **fields)  # type: ignore[call-overload]
    required = {f"n{at}": kind.values for at, kind in enumerate(kinds) if kind.default is ...}
    absent = {f"n{at}": kind.values for at, kind in enumerate(kinds) if kind.default is not ...}
    absent |= {"stray": st.integers()} if draw(st.integers(0, 9)) == 0 else {}
    absent |= {"d": st.integers(0, 2) | WRONG} if "d" in fields else {}
    absent |= {"e": st.none() | st.lists(st.integers(0, 2), max_size=2) | WRONG} if "e" in fields else {}
    return Kind(model, st.fixed_dictionaries(required, optional=absent))


PRESET = st.sampled_from(
    [
        Kind(int, st.none() | st.integers(0, 3) | WRONG, "int", 3),
        Kind(str | None, st.none() | st.sampled_from(WORDS), "str", "said"),
        Kind(list[int], st.none() | st.lists(st.integers(0, 3), max_size=2), None, [1, 2]),
    ]
)
anything = PRESET | optional(st.one_of(scalars, scalars, scalars, listed(scalars), nested(), listed(nested())))


@st.composite
def rules(draw: st.DrawFn, kinds: dict[str, Kind]) -> tuple[Rule, ...]:
    """Rules across the fields that compare."""
    groups: dict[str, list[str]] = {}
    for name, kind in kinds.items():
        if kind.compares:
            groups.setdefault(kind.compares, []).append(name)
    if not groups:
        return ()

    def leaf() -> Expression:
        names = groups[draw(st.sampled_from(sorted(groups)))]
        name = draw(st.sampled_from(names))
        numeric = kinds[name].compares == "int"
        match draw(st.integers(0, 3)):
            case 0:
                return IsNull(name)
            case 1 if numeric:
                return IsIn(name, (1, 5, 7))
            case 2 if numeric:
                return Comparison(name, "<", draw(st.integers(-5, 50)))
            case _:
                op = draw(st.sampled_from(["==", "!=", "<", "<=", ">", ">="]))
                return Comparison(name, op, Column(draw(st.sampled_from(names))))

    def tree() -> Expression:
        match draw(st.integers(0, 5)):
            case 0:
                return Not(leaf())
            case 1:
                return And((leaf(), leaf()))
            case 2:
                return Or((leaf(), leaf()))
            case _:
                return leaf()

    first = next(iter(kinds))
    return tuple(
        Rule(f"rule_{at}", first, tree(), "wrong", draw(st.sampled_from(["error", "warning"])))
        for at in range(draw(st.integers(0, 2)))
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[type[Record], list[dict[str, Any]]]:
    """A record class, and rows for it."""
    kinds = {f"f{at}": kind for at, kind in enumerate(draw(st.lists(anything, min_size=1, max_size=5)))}
    model = type(Record)(
        "Made",
        (Record,),
        {
            "__annotations__": {"seq": int, "timestamp": Timestamp} | {name: k.annotation for name, k in kinds.items()},
            "__module__": __name__,
            "__qualname__": "Made",
            "rules": draw(rules(kinds)),
            **{name: kind.default for name, kind in kinds.items() if kind.default is not ...},
        },
        data_type="made",
        version="1.0.0",
        key=("seq", "timestamp"),
    )
    always = {name: kind.values for name, kind in kinds.items() if kind.default is ...}
    maybe = {name: kind.values for name, kind in kinds.items() if kind.default is not ...}
    row = st.fixed_dictionaries(
        {"seq": st.integers(0, 9), "timestamp": st.sampled_from([NOW, NOW - timedelta(1)]), **always}, optional=maybe
    )
    return model, draw(st.lists(row, min_size=1, max_size=5))


def root(field: str) -> str:
    return field.split(".", maxsplit=1)[0].split("[", maxsplit=1)[0]


def pydantic_findings(model: type[BaseModel], row: dict[str, Any]) -> tuple[BaseModel | None, set[tuple[str, str]]]:
    """Field and type of what pydantic finds in a row; of the inside of lists and models only the field."""
    try:
        return model.model_validate(row), set()
    except ValidationError as error:
        found = set()
        for detail in error.errors():
            name = str(detail["loc"][0])
            kind = detail["type"]
            if len(detail["loc"]) > 1 or isinstance(row.get(name), list | dict):
                kind = "inside"
            elif name not in row or is_missing(row[name]) or row[name] == "NaN":
                kind = "missing"
            found.add((name, "literal_error" if kind == "enum" else kind))
        return None, found


def kernel_findings(errors: list[Finding], rows: list[dict[str, Any]]) -> list[set[tuple[str, str]]]:
    found: list[set[tuple[str, str]]] = [set() for _ in rows]
    for finding in errors:
        name = root(finding.field)
        inside = finding.field != name or isinstance(rows[finding.record_index].get(name), list | dict)
        found[finding.record_index].add((name, "inside" if inside else finding.error_type))
    return found


def plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list) else value


@settings(max_examples=EXAMPLES)
@given(cases())
def test_kernels_judge_as_pydantic_does(case: tuple[type[Record], list[dict[str, Any]]]) -> None:
    model, rows = case
    contract = contract_of(model)
    typed = take_in(rows, contract, now=NOW)
    result = judge(contract, typed, ValidationLevel.STRICT)
    table = typed.table.to_pylist()
    named = {rule.name for rule in contract.rules} | {"duplicate_key"}
    found = kernel_findings([finding for finding in result.errors if finding.error_type not in named], rows)
    seen: set[tuple[Any, ...]] = set()
    good = []
    for at, row in enumerate(rows):
        made, expected = pydantic_findings(model, row)
        assert {name for name, _ in found[at]} == {name for name, _ in expected}, (at, row, found[at], expected)
        assert expected <= found[at], (at, row)
        broken = {rule.name for rule in contract.rules if evaluate(rule.holds, table[at]) is False}
        key = (row["seq"], row["timestamp"])
        said = {f.error_type for f in [*result.errors, *result.warnings] if f.record_index == at} & named
        assert said == broken | ({"duplicate_key"} if key in seen else set())
        if made is not None:
            values = plain(made.model_dump(exclude={"created_at", "version"}))
            assert {name: table[at][name] for name in values} == values, (at, row)
            severe = {rule.name for rule in contract.rules if rule.severity == "error"}
            if not broken & severe and key not in seen:
                good.append({**values, "created_at": NOW, "version": "1.0.0"})
        seen.add(key)
    assert [plain(row) for row in result.accepted.to_pylist()] == [
        {name: row[name] for name in contract.schema.names} for row in good
    ]


def essence(spec: FieldSpec) -> Any:
    """What drafts take from other formats of a field; the default of a list is for people to write again."""
    children = [essence(child) for child in spec.children]
    default = None if children else plain(spec.default)
    return spec.name, spec.type, spec.nullable, Limits.of(spec), spec.choices, default, children


@settings(max_examples=EXAMPLES)
@given(case=cases(), form=st.sampled_from(["avro", "json-schema"]))
def test_what_is_exported_is_read_again(case: tuple[type[Record], list[dict[str, Any]]], form: str) -> None:
    contract = contract_of(case[0])
    draft = draft_from_document(export_contract(contract, form), form, "made")
    expected = [essence(spec) for spec in contract.fields if spec.name not in Record.model_fields]
    assert [essence(spec) for spec in draft.fields] == expected
    module = ModuleType("drafted")
    sys.modules["drafted"] = module
    exec(compile(draft.source(), "<draft>", "exec"), module.__dict__)
    made = contract_of(module.Made)
    del sys.modules["drafted"]
    assert (made.key, made.event_time, made.schema) == (contract.key, contract.event_time, contract.schema)
    assert [essence(spec) for spec in made.fields if spec.name not in Record.model_fields] == expected
    [table] = json.loads(json.dumps(odcs_document(contract)))["schema"]
    assert [column["name"] for column in table["properties"]] == contract.schema.names
