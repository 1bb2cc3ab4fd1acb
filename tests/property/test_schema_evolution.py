"""Contracts that were stored judge as their classes do, and what is called compatible is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from buffetstore.schemas import ValidationLevel, contract_of
from buffetstore.schemas.change import Direction
from buffetstore.schemas.changes import diff
from buffetstore.schemas.compatibility import Mode, check
from buffetstore.schemas.evolution import downcast, upcast
from buffetstore.schemas.intake import take_in
from buffetstore.schemas.manager import judge
from buffetstore.schemas.registry import BUILT_IN
from buffetstore.schemas.stored import contract_document, document_bytes, fingerprint, load_contract

if TYPE_CHECKING:
    from buffetstore.schemas.contract import Contract
    from buffetstore.schemas.result import ValidationResult

NOW = datetime(2026, 1, 2, tzinfo=UTC)
EVERY = [
    {"name": "created_at", "type": "timestamp", "filled": True},
    {"name": "available_at", "type": "timestamp", "nullable": True},
    {"name": "version", "type": "string", "filled": True},
]
FACTS: dict[str, Any] = {
    "format_version": 1,
    "data_type": "thing",
    "key": ["id"],
    "sort_by": ["id"],
    "event_time": "timestamp",
    "load_time": "created_at",
    "knowledge_time": "available_at",
    "availability": "asserted",
    "revisions": "append",
    "category": "thing",
}
NUMBERS = ["int64", "float64", "decimal(4,1)", "decimal(6,2)", "decimal(22,1)"]


@st.composite
def leaves(draw: st.DrawFn, name: str, *, nested: bool = False) -> dict[str, Any]:
    kind = draw(st.sampled_from([*NUMBERS, *NUMBERS, "string", "bool"]))
    found: dict[str, Any] = {"name": name, "type": kind, "nullable": draw(st.booleans())}
    if kind in NUMBERS:
        found["constraints"] = draw(
            st.sampled_from([[], [{"ge": -9}, {"le": 9}], [{"ge": -9}, {"le": 10}], [{"gt": -5}], [{"lt": 9}]])
        )
        default = st.sampled_from([0, 1, -4])
    elif kind == "string":
        found["choices"] = draw(st.sampled_from([None, None, ["a"], ["a", "b"], ["b"]]))
        found["constraints"] = draw(
            st.sampled_from([[], [{"min_length": 1}], [{"max_length": 2}], [{"pattern": "^a"}]])
        )
        default = st.sampled_from(found["choices"] or ["a"])
    else:
        default = st.booleans()
    if not nested and draw(st.integers(0, 2)) == 0:
        found["default"] = draw(default)
        # The kernels hold a default to its own field's constraints; one that breaks them could never be stored.
        assume(found.get("constraints") != [{"pattern": "^a"}] or found["default"] == "a")
    return found


@st.composite
def fields(draw: st.DrawFn, name: str) -> dict[str, Any]:
    shape = draw(st.integers(0, 7))
    if shape > 1:
        return draw(leaves(name))
    parts = [draw(leaves(part, nested=True)) for part in draw(st.sampled_from(["p", "pq", "q"]))]
    struct = {"name": name, "type": "struct", "fields": parts, "nullable": draw(st.booleans())}
    if shape:
        return struct
    return {"name": name, "type": "list", "element": struct, "nullable": draw(st.booleans())}


@st.composite
def contracts(draw: st.DrawFn, version: str, names: str = "xyz") -> Contract:
    """Return a contract of a few fields out of three, with a rule at times."""
    own = {name: draw(fields(name)) for name in names if draw(st.integers(0, 3))}
    base = [{"name": "id", "type": "int64"}, {"name": "timestamp", "type": "timestamp"}]
    numbers = [name for name, one in own.items() if one["type"] in NUMBERS]
    rules = []
    if numbers and draw(st.booleans()):
        holds: dict[str, Any] = {"column": draw(st.sampled_from(numbers)), "op": draw(st.sampled_from(["<=", ">"]))}
        holds["value"] = draw(st.sampled_from([0, 0, 5]))
        other = draw(st.sampled_from(numbers))
        holds = draw(st.sampled_from([holds, {"or": [holds, {"column": other, "is_null": True}]}, {"not": holds}]))
        severity = draw(st.sampled_from(["error", "error", "warning"]))
        rules = [{"name": "r", "field": "id", "holds": holds, "message": "bad", "severity": severity}]
    return load_contract({**FACTS, "version": version, "fields": [*base, *own.values(), *EVERY], "rules": rules})


@st.composite
def successors(draw: st.DrawFn, old: Contract) -> Contract:
    """Return a contract that differs from the old one in a field or two, as the next version does."""
    document = contract_document(old)
    other = contract_document(draw(contracts(old.version)))
    mine = {one["name"]: one for one in document["fields"]}
    theirs = {one["name"]: one for one in other["fields"]}
    for name in draw(st.lists(st.sampled_from("xyz"), min_size=1, max_size=2)):
        mine.pop(name, None)
        if name in theirs:
            mine[name] = theirs[name]
    if "x" in mine and "z" not in mine and draw(st.integers(0, 3)) == 0:
        mine["z"] = {**mine.pop("x"), "name": "z", "aliases": ["x"]}
    kept = [one for one in mine.values() if one["name"] not in {every["name"] for every in EVERY}]
    rules = draw(st.sampled_from([document.get("rules", []), other.get("rules", []), []]))
    text = repr(rules)
    assume(all(f"'column': {name!r}" not in text or mine.get(name, {}).get("type") in NUMBERS for name in "xyz"))
    return load_contract({**document, "version": "2.0.0", "fields": [*kept, *EVERY], "rules": rules})


def values(spec: Any) -> st.SearchStrategy[Any]:
    kind = str(spec.type)
    if spec.children and kind.startswith("list"):
        found: st.SearchStrategy[Any] = st.lists(values(spec.children[0]), max_size=2)
    elif spec.children:
        found = st.fixed_dictionaries({child.name: values(child) for child in spec.children})
    elif kind.startswith("decimal"):
        found = st.integers(-120, 120).map(lambda n: Decimal(n) / 10)
    elif kind == "double":
        found = st.integers(-40, 40).map(lambda n: n / 4)
    elif kind == "int64":
        found = st.integers(-11, 11)
    elif kind == "string":
        found = st.sampled_from(["a", "b", "abc", "", "ba"])
    else:
        found = st.booleans()
    return st.none() | found if spec.nullable else found


@st.composite
def batches(draw: st.DrawFn, contract: Contract) -> list[dict[str, Any]]:
    own = {spec.name: values(spec) for spec in contract.fields if spec.name in "xyz"}
    found = draw(st.lists(st.fixed_dictionaries(own), min_size=1, max_size=8))
    return [{"id": at, "timestamp": NOW - timedelta(days=at), **row} for at, row in enumerate(found)]


def judged(contract: Contract, rows: Any) -> ValidationResult:
    return judge(contract, take_in(rows, contract, now=NOW), ValidationLevel.STRICT)


@settings(max_examples=150)
@given(st.data())
def test_what_is_called_compatible_is(data: st.DataObject) -> None:
    old = data.draw(contracts("1.0.0"))
    new = data.draw(successors(old))
    stored = judged(old, data.draw(batches(old))).accepted
    if check([old], new, Mode.BACKWARD).ok and stored.num_rows:
        read = upcast(stored, old, new)
        result = judged(new, read)
        assert result.is_valid, result.errors
        assert result.accepted.equals(read), "nothing was changed by being checked"
    later = judged(new, data.draw(batches(new))).accepted
    forward = check([old], new, Mode.FORWARD)
    if not forward.breaks and later.num_rows:
        result = judged(old, downcast(later, new, old))
        assert result.is_valid, result.errors
    assert check([old], new, Mode.FULL).breaks == () or diff(old, new) != []


@settings(max_examples=60)
@given(st.data())
def test_a_break_of_one_reader_is_a_break_of_the_other_the_other_way_round(data: st.DataObject) -> None:
    old = data.draw(contracts("1.0.0"))
    new = data.draw(successors(old))
    assume(not any(spec.aliases for spec in new.fields))
    there = {direction for change in diff(old, new) for direction in change.breaks}
    back = {direction for change in diff(new, old) for direction in change.breaks}
    other = {Direction.BACKWARD: Direction.FORWARD, Direction.FORWARD: Direction.BACKWARD}
    assert back == {other[direction] for direction in there}


@settings(max_examples=60)
@given(st.data())
def test_a_generated_contract_reads_back_as_itself(data: st.DataObject) -> None:
    contract = data.draw(contracts("1.0.0"))
    again = load_contract(document_bytes(contract))
    assert document_bytes(again) == document_bytes(contract)
    assert fingerprint(again) == fingerprint(contract)
    assert diff(contract, again) == []
    rows = data.draw(batches(contract))
    first, second = judged(contract, rows), judged(again, rows)
    assert list(first.errors) == list(second.errors)
    assert first.accepted.equals(second.accepted)


ODD = st.one_of(
    st.none(), st.floats(), st.integers(-3, 200), st.sampled_from(["", "x", "C", "2024-01-02", "AAPL", NOW, True])
)


@pytest.mark.parametrize("model", BUILT_IN, ids=lambda model: model.__name__)
@settings(max_examples=15)
@given(st.data())
def test_built_in_contracts_judge_the_same_without_their_class(model: Any, data: st.DataObject) -> None:
    contract = contract_of(model)
    loaded = load_contract(document_bytes(contract))
    own = {name: ODD for name in contract.schema.names if name not in {"created_at", "version", "available_at"}}
    own |= {"timestamp": st.integers(0, 5).map(lambda days: NOW - timedelta(days=days)) | ODD}
    rows = data.draw(st.lists(st.fixed_dictionaries(own), min_size=1, max_size=6))
    mine, theirs = judged(loaded, rows), judged(contract, rows)
    assert list(mine.errors) == list(theirs.errors)
    assert list(mine.warnings) == list(theirs.warnings)
    assert mine.accepted.equals(theirs.accepted)
