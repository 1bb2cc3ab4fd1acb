from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import pyarrow.compute as pc
import pytest
from pydantic import Field, field_validator

from buffetstore.errors import ConflictError, InvalidInputError
from buffetstore.expressions import Column, Comparison, IsNull, Or
from buffetstore.schemas import Price, Record, Rule, SchemaManager, Timestamp, contract_of
from buffetstore.schemas.change import Direction, Kind
from buffetstore.schemas.changes import diff
from buffetstore.schemas.compatibility import Mode, check
from buffetstore.schemas.registry import BUILT_IN
from buffetstore.schemas.stored import contract_document, load_contract
from buffetstore.schemas.upcasts import Upcast

if TYPE_CHECKING:
    from buffetstore.schemas.contract import Contract

EVERY = [
    {"name": "created_at", "type": "timestamp", "filled": True},
    {"name": "available_at", "type": "timestamp", "nullable": True},
    {"name": "version", "type": "string", "filled": True},
]
FACTS: dict[str, Any] = {
    "format_version": 1,
    "data_type": "thing",
    "key": ["name", "timestamp"],
    "sort_by": ["name", "timestamp"],
    "event_time": "timestamp",
    "load_time": "created_at",
    "knowledge_time": "available_at",
    "availability": "asserted",
    "revisions": "replace",
    "category": "thing",
}


def thing(*fields: dict[str, Any], version: str = "1.0.0", **facts: Any) -> Contract:
    """Return the contract of a type with a name, a timestamp and these fields."""
    own = [{"name": "name", "type": "string"}, {"name": "timestamp", "type": "timestamp"}]
    return load_contract({**FACTS, "version": version, "fields": [*own, *fields, *EVERY], **facts})


def x(kind: str = "float64", **words: Any) -> dict[str, Any]:
    return {"name": "x", "type": kind, **words}


def bounds(*constraints: dict[str, Any], kind: str = "float64", **words: Any) -> dict[str, Any]:
    return x(kind, constraints=list(constraints), **words)


def leg(*fields: dict[str, Any]) -> dict[str, Any]:
    return x("struct", fields=list(fields))


def legs(*fields: dict[str, Any]) -> dict[str, Any]:
    return x("list", element={"name": "x", "type": "struct", "fields": list(fields)})


def rule(holds: dict[str, Any], severity: str = "error", name: str = "r", message: str = "bad") -> dict[str, Any]:
    return {"rules": [{"name": name, "field": "name", "holds": holds, "message": message, "severity": severity}]}


LOW = {"column": "x", "op": ">=", "value": 0}
HIGH = {"column": "x", "op": "<=", "value": 9}
BACK, FORTH = Direction.BACKWARD, Direction.FORWARD
NO_FIELD: dict[str, Any] = {}
TEXT_3, TEXT_9 = (bounds({"max_length": length}, kind="string") for length in (3, 9))
MATRIX = [
    ("optional field", NO_FIELD, x(nullable=True), Kind.ADDED_OPTIONAL, ""),
    ("field with a default", NO_FIELD, x(default=1.5), Kind.ADDED_OPTIONAL, ""),
    ("required field", NO_FIELD, x(), Kind.ADDED_REQUIRED, "B"),
    ("optional field goes", x(nullable=True), NO_FIELD, Kind.DROPPED, ""),
    ("field with a default goes", x(default=1.5), NO_FIELD, Kind.DROPPED, ""),
    ("required field goes", x(), NO_FIELD, Kind.DROPPED, "F"),
    ("rename", x(), {"name": "y", "type": "float64", "aliases": ["x"]}, Kind.RENAMED, "F"),
    ("more digits", x("decimal(9,2)"), x("decimal(12,4)"), Kind.WIDENED, "F"),
    ("fewer digits", x("decimal(12,4)"), x("decimal(9,2)"), Kind.NARROWED, "B"),
    ("digits moved", x("decimal(9,2)"), x("decimal(9,4)"), Kind.RETYPED, "BF"),
    ("int to a wide decimal", x("int64"), x("decimal(21,2)"), Kind.WIDENED, "F"),
    ("any int to a float", x("int64"), x(), Kind.RETYPED, "BF"),
    ("text to number", x("string"), x("int64"), Kind.RETYPED, "BF"),
    ("becomes required", x(nullable=True), x(), Kind.TIGHTENED, "B"),
    ("becomes required, null is the default", x(nullable=True), x(default=0.0), Kind.TIGHTENED, ""),
    ("may be null", x(), x(nullable=True), Kind.LOOSENED, "F"),
    ("lower bound", x(), bounds({"ge": 0}), Kind.TIGHTENED, "B"),
    ("higher lower bound", bounds({"ge": 0}), bounds({"ge": 1}), Kind.TIGHTENED, "B"),
    ("open lower bound", bounds({"ge": 0}), bounds({"gt": 0}), Kind.TIGHTENED, "B"),
    ("higher upper bound", bounds({"le": 1}), bounds({"le": 2.5}), Kind.LOOSENED, "F"),
    ("no bound", bounds({"lt": 1}), x(), Kind.LOOSENED, "F"),
    ("longer text", TEXT_3, TEXT_9, Kind.LOOSENED, "F"),
    ("text of a length", x("string"), bounds({"min_length": 1}, kind="string"), Kind.TIGHTENED, "B"),
    ("pattern", x("string"), bounds({"pattern": "^a"}, kind="string"), Kind.TIGHTENED, "B"),
    ("steps", x("int64"), bounds({"multiple_of": 5}, kind="int64"), Kind.TIGHTENED, "B"),
    ("choices", x("string"), x("string", choices=["a"]), Kind.TIGHTENED, "B"),
    ("any text", x("string", choices=["a"]), x("string"), Kind.LOOSENED, "F"),
    ("choice added", x("string", choices=["a"]), x("string", choices=["b", "a"]), Kind.VALUES_ADDED, "F"),
    ("choice removed", x("string", choices=["a", "b"]), x("string", choices=["a"]), Kind.VALUES_REMOVED, "B"),
    ("another unit", x(unit="USD"), x(unit="cents"), Kind.UNIT_CHANGED, "BF"),
    ("unit stated", x(), x(unit="USD"), Kind.UNIT_CHANGED, ""),
    ("default", x(default=1.0), x(default=2.0), Kind.DEFAULT_CHANGED, ""),
    ("default gone", x(default=1.0), x(), Kind.DEFAULT_CHANGED, ""),
    ("description", x(), x(description="a number"), Kind.WORDS_CHANGED, ""),
    ("sensitivity", x(), x(sensitivity="secret"), Kind.PROMISE_CHANGED, ""),
    ("optional part", leg(x()), leg(x(), {"name": "z", "type": "bool", "nullable": True}), Kind.ADDED_OPTIONAL, ""),
    ("required part", legs(x()), legs(x(), {"name": "z", "type": "int64", "default": 1}), Kind.ADDED_REQUIRED, "B"),
    ("part goes", legs(x(), {"name": "z", "type": "bool"}), legs(x()), Kind.DROPPED, "F"),
    ("part widened", legs(x("decimal(5,0)")), legs(x("decimal(6,1)")), Kind.WIDENED, "F"),
    ("list to text", legs(x()), x("string"), Kind.RETYPED, "BF"),
]  # fmt: skip


def directions(letters: str) -> frozenset[Direction]:
    return frozenset({"B": BACK, "F": FORTH}[letter] for letter in letters)


@pytest.mark.parametrize(
    ("before", "after", "kind", "broken"), [case[1:] for case in MATRIX], ids=[c[0] for c in MATRIX]
)
def test_each_change_is_named_and_breaks_the_readers_that_it_breaks(
    before: dict[str, Any], after: dict[str, Any], kind: str, broken: str
) -> None:
    old, new = thing(*filter(None, [before])), thing(*filter(None, [after]), version="9.0.0")
    change = next(found for found in diff(old, new) if found.kind == kind)
    assert frozenset().union(*(found.breaks for found in diff(old, new))) == change.breaks
    assert (change.kind, change.breaks) == (Kind(kind), directions(broken))
    assert change.subject.split(".")[0].split("[")[0] in {"x", "y"}
    assert len(change.reason) > 5
    for mode in Mode:
        assert bool(check([old], new, mode).breaks) == bool(change.breaks & mode.directions)


@pytest.mark.parametrize(("before", "after"), [case[1:3] for case in MATRIX])
def test_the_way_back_breaks_the_other_readers(before: dict[str, Any], after: dict[str, Any]) -> None:
    if before.get("name", "x") != after.get("name", "x"):
        return  # an alias leads one way only
    old, new = thing(*filter(None, [before])), thing(*filter(None, [after]))
    there = frozenset().union(*(change.breaks for change in diff(old, new)))
    back = frozenset().union(*(change.breaks for change in diff(new, old)))
    assert back == {FORTH if direction is BACK else BACK for direction in there}


RULES = [
    ("added", {}, rule(LOW), Kind.RULE_ADDED, "B"),
    ("added as a warning", {}, rule(LOW, "warning"), Kind.RULE_ADDED, ""),
    ("removed", rule(LOW), {}, Kind.RULE_REMOVED, "F"),
    ("changed", rule(LOW), rule(HIGH), Kind.RULE_CHANGED, "BF"),
    ("made an error", rule(LOW, "warning"), rule(LOW), Kind.RULE_CHANGED, "B"),
    ("made a warning", rule(LOW), rule(LOW, "warning"), Kind.RULE_CHANGED, "F"),
    ("other words", rule(LOW), rule(LOW, message="too low"), Kind.WORDS_CHANGED, ""),
]


@pytest.mark.parametrize(("before", "after", "kind", "broken"), [case[1:] for case in RULES], ids=[c[0] for c in RULES])
def test_rules(before: dict[str, Any], after: dict[str, Any], kind: Kind, broken: str) -> None:
    (change,) = diff(thing(x(), **before), thing(x(), **after))
    assert (change.kind, change.breaks) == (kind, directions(broken))


def test_a_rule_under_another_name_breaks_no_one() -> None:
    changes = diff(thing(x(), **rule(LOW)), thing(x(), **rule(LOW, name="s")))
    assert [(change.kind, change.breaks) for change in changes] == [
        (Kind.RULE_REMOVED, frozenset()),
        (Kind.RULE_ADDED, frozenset()),
    ]


@pytest.mark.parametrize(
    ("field", "holds", "broken"),
    [
        (x(nullable=True), LOW, ""),
        (x(nullable=True), {"column": "x", "op": "<=", "value": {"column": "y"}}, ""),
        (x(nullable=True), {"not": {"column": "x", "is_null": True}}, "B"),
        (x(nullable=True), {"or": [{"column": "y", "op": ">", "value": 0}, {"column": "x", "is_null": True}]}, ""),
        (x(nullable=True), {"and": [{"column": "y", "op": ">", "value": 0}, {"column": "x", "is_null": True}]}, "B"),
        (x(default=5.0), LOW, ""),
        (x(default=-5.0), LOW, "B"),
        (x(default=5.0), {"column": "x", "in": [5.0, 6.0]}, ""),
    ],
)
def test_a_rule_on_a_new_field_breaks_only_what_old_rows_can_break(
    field: dict[str, Any], holds: dict[str, Any], broken: str
) -> None:
    y = {"name": "y", "type": "float64"}
    (change,) = [c for c in diff(thing(y), thing(y, field, **rule(holds))) if c.kind is Kind.RULE_ADDED]
    assert change.breaks == directions(broken)


def test_a_default_for_nulls_that_a_rule_reads_is_seen() -> None:
    old, new = thing(x(nullable=True), **rule(LOW)), thing(x(nullable=True, default=-1.0), **rule(LOW))
    assert [change.kind for change in diff(old, new) if BACK in change.breaks] == [Kind.RULE_CHANGED]


@pytest.mark.parametrize(
    ("facts", "kind", "broken"),
    [
        ({"key": ["name", "timestamp", "x"]}, Kind.KEY_CHANGED, "BF"),
        ({"partition_by": ["x"]}, Kind.PARTITION_CHANGED, ""),
        ({"sort_by": ["timestamp"]}, Kind.SORT_CHANGED, ""),
        ({"revisions": "keep"}, Kind.MEANING_CHANGED, "BF"),
        ({"availability": "observed"}, Kind.MEANING_CHANGED, "B"),
        ({"owner": "desk"}, Kind.WORDS_CHANGED, ""),
        ({"completeness": 0.9}, Kind.PROMISE_CHANGED, ""),
        ({"fills": [{"same": ["x", "y"]}]}, Kind.PROMISE_CHANGED, ""),
        ({"custom": [{"kind": "validator", "name": "f", "field": "x"}]}, Kind.CODE_ADDED, "B"),
        ({"custom": [{"kind": "fill", "name": "f"}]}, Kind.CODE_ADDED, ""),
    ],
)
def test_facts_of_the_whole(facts: dict[str, Any], kind: Kind, broken: str) -> None:
    fields = [{"name": "x", "type": "int64"}, {"name": "y", "type": "int64"}]
    (change,) = diff(thing(*fields), thing(*fields, **facts))
    assert (change.kind, change.breaks) == (kind, directions(broken))


# Avro's resolution of a writer's data by a reader's schema, case by case (apache/avro, test_compatibility.py), said in
# our types. Where ours is stricter than Avro, the reason is given.
INT, LONG, TEXT = bounds({"ge": -(2**31)}, {"le": 2**31 - 1}, kind="int64"), x("int64"), x("string")
AB, ABC, BC = x("string", choices=["A", "B"]), x("string", choices=["A", "B", "C"]), x("string", choices=["B", "C"])
INTS = x("list", element={**INT})
LONGS = x("list", element={**LONG})
AVRO = [
    (x("bool"), x("bool"), True, "boolean reads boolean"),
    (INT, INT, True, "int reads int"),
    (LONG, INT, True, "long reads int"),
    (LONG, LONG, True, "long reads long"),
    (INT, LONG, False, "int does not read long"),
    (x(), INT, True, "double reads int"),
    (x(), LONG, False, "Avro: double reads long; here a long beyond 2**53 would change silently"),
    (x(), x(), True, "double reads double"),
    (INT, x(), False, "int does not read double"),
    (TEXT, TEXT, True, "string reads string"),
    (INT, TEXT, False, "int does not read string"),
    (TEXT, INT, False, "string does not read int"),
    (INTS, INTS, True, "array reads array"),
    (LONGS, INTS, True, "array of long reads array of int"),
    (INTS, LONGS, False, "array of int does not read array of long"),
    (INTS, leg(x()), False, "array does not read record"),
    (AB, AB, True, "enum reads the same enum"),
    (ABC, AB, True, "enum with more symbols reads fewer"),
    (AB, ABC, False, "enum lacks a symbol"),
    (BC, ABC, False, "enum lacks a symbol"),
    (leg(AB), leg(ABC), False, "enum in a record lacks a symbol"),
    ({**INT, "nullable": True}, INT, True, "union of null and int reads int"),
    (INT, {**INT, "nullable": True}, False, "int does not read union of null and int"),
    ({**INTS, "nullable": True}, INTS, True, "union of null and array reads array"),
    ({**x(), "nullable": True}, {**INT, "nullable": True}, True, "null or double reads null or int"),
    (None, None, True, "empty record reads empty record"),
    (None, INT, True, "empty record reads record of an int"),
    (INT, None, False, "field without a default is missing"),
    ({**INT, "default": 0}, None, True, "field with a default is missing"),
    ({**INT, "nullable": True}, None, True, "field of null or int with default null is missing"),
    ({**INT, "default": 0}, INT, True, "default is not needed"),
    (INT, {**INT, "default": 0}, True, "writer's default does not matter"),
    ({**INT, "name": "y", "aliases": ["x"]}, INT, True, "field alias reads the old name"),
    ({**INT, "name": "y"}, INT, False, "another name without an alias"),
    (x("decimal(4,0)"), x("decimal(8,0)"), False, "fixed of 4 does not read fixed of 8"),
    (x("decimal(8,0)"), x("decimal(8,0)"), True, "fixed of 8 reads fixed of 8"),
    (legs(INT), legs(INT, {"name": "b", "type": "int64"}), True, "field of a nested record is ignored"),
    (legs(INT, {"name": "b", "type": "int64", "nullable": True}), legs(INT), True, "nested optional field is missing"),
    (legs(INT, {"name": "b", "type": "int64"}), legs(INT), False, "nested required field is missing"),
]  # fmt: skip


@pytest.mark.parametrize(("reader", "writer", "reads"), [case[:3] for case in AVRO], ids=[case[3] for case in AVRO])
def test_readers_resolve_what_writers_wrote_as_in_avro(
    reader: dict[str, Any] | None, writer: dict[str, Any] | None, reads: bool
) -> None:
    old, new = thing(*filter(None, [writer])), thing(*filter(None, [reader]), version="2.0.0")
    assert check([old], new, Mode.BACKWARD).ok is reads
    if not (reader or {}).get("aliases"):
        back = thing(*filter(None, [writer]), version="2.0.0")
        assert check([thing(*filter(None, [reader]))], back, Mode.FORWARD).breaks == () or not reads


def test_built_in_versions_follow_each_other_fully() -> None:
    history: list[Contract] = []
    for contract in map(contract_of, BUILT_IN):
        before = [one for one in history if one.data_type == contract.data_type]
        report = check(before, contract, "full_transitive")
        assert report.ok, report.reasons
        history.append(contract)


def test_transitive_modes_look_at_every_version() -> None:
    one, two = thing(x(default=1.0)), thing(version="1.1.0")
    three = thing(x("string", default="a"), version="1.2.0")
    assert check([two, one], three, Mode.BACKWARD).ok
    report = check([two, one], three, Mode.BACKWARD_TRANSITIVE)
    assert [(found.version, found.change.kind) for found in report.breaks] == [("1.0.0", Kind.RETYPED)]
    assert "against 1.0.0" in report.reasons[0]


@pytest.mark.parametrize(
    ("after", "version", "mode", "problem"),
    [
        (x(nullable=True), "1.1.0", "BACKWARD", None),
        (x(nullable=True), "1.0.1", "BACKWARD", "no minor step"),
        (x(nullable=True), "1.0.0", "BACKWARD", "does not follow"),
        (x(nullable=True), "0.9.0", "NONE", "does not follow"),
        (x(), "1.1.0", "NONE", "no major step"),
        (x(), "2.0.0", "NONE", None),
        (x(), "2.0.0", "FORWARD", None),
        (NO_FIELD, "1.0.1", "NONE", None),
    ],
)
def test_the_version_says_what_it_does_to_readers(
    after: dict[str, Any], version: str, mode: str, problem: str | None
) -> None:
    report = check([thing()], thing(*filter(None, [after]), version=version), mode)
    assert report.ok is (problem is None)
    assert problem is None or problem in (report.version_problem or "")
    better = thing(*filter(None, [after]), version=report.suggested_version)
    assert check([thing()], better, mode).version_problem is None


def test_a_promise_to_old_readers_makes_their_break_a_major_one() -> None:
    old, new = thing(x("string", choices=["a"])), thing(x("string", choices=["a", "b"]), version="1.1.0")
    assert check([old], new, "BACKWARD").ok
    assert check([old], new, "NONE").bump == "major"
    assert check([old], new, "FORWARD").breaks


def test_an_unknown_mode_and_a_strange_type_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="mode 'sideways' is none of NONE, BACKWARD"):
        check([], thing(), "sideways")
    with pytest.raises(InvalidInputError, match="thing cannot follow other"):
        check([thing(data_type="other")], thing())


class Bond(Record, data_type="bonds", version="1.0.0", key=("isin", "timestamp")):
    isin: str
    timestamp: Timestamp
    cents: int


class BondInDollars(Record, data_type="bonds", version="2.0.0", key=("isin", "timestamp")):
    isin: str
    timestamp: Timestamp
    price: Annotated[Price, Field(ge=0)]
    upcasts: ClassVar[tuple[Upcast, ...]] = (
        Upcast("dollars", "price", before="2.0.0", function=lambda old: pc.divide(old["cents"].cast("double"), 100)),
    )


class BondWithYield(BondInDollars, version="2.1.0"):
    coupon: float | None = None
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("coupon", "coupon", Or((IsNull("coupon"), Comparison("coupon", ">=", 0))), "coupon {coupon} is below 0"),
    )


def test_an_up_cast_makes_a_required_field_readable() -> None:
    report = check([contract_of(Bond)], contract_of(BondInDollars), "BACKWARD")
    assert [change.kind for change in report.changes if "up-cast" in change.reason] == [Kind.ADDED_REQUIRED]
    assert not report.breaks


def test_schemas_evolve_one_step_after_the_other() -> None:
    manager = SchemaManager([Bond])
    step = {"data_type": "bonds", "current_version": "1.0.0"}
    made = manager.evolve_schema(**step, new_schema=BondInDollars, new_version="v2.0.0")
    assert manager.contract("bonds") is made
    with pytest.raises(ConflictError, match=r"bonds is at 2\.0\.0 by now"):
        manager.evolve_schema(**step, new_schema=BondWithYield, new_version="2.1.0")
    stored = contract_document(contract_of(BondWithYield))
    manager.evolve_schema(data_type="bonds", current_version="2.0.0", new_schema=stored, new_version="2.1.0")
    assert manager.versions("bonds") == ["1.0.0", "2.0.0", "2.1.0"]
    assert manager.contract("bonds").model is None
    assert manager.register(BondWithYield).model is BondWithYield, "the class takes its document's place"
    assert [change.kind for change in manager.diff("bonds", "2.0.0")] == [Kind.ADDED_OPTIONAL, Kind.RULE_ADDED]
    assert manager.check_compatibility(BondWithYield).ok


def test_what_breaks_readers_is_not_registered() -> None:
    class Strict(Bond, version="1.1.0"):
        maturity: Timestamp

        @field_validator("isin")
        @classmethod
        def _long(cls, value: str) -> str:
            return value

    manager = SchemaManager([Bond])
    with pytest.raises(InvalidInputError, match=r"maturity: is new and required.*_long.*no major step") as caught:
        manager.evolve_schema(data_type="bonds", current_version="1.0.0", new_schema=Strict, new_version="1.1.0")
    assert "BACKWARD" in str(caught.value)
    assert manager.versions("bonds") == ["1.0.0"]
    with pytest.raises(InvalidInputError, match=r"states bonds 1\.1\.0, asked for is bonds 1\.2\.0"):
        manager.evolve_schema(data_type="bonds", current_version="1.0.0", new_schema=Strict, new_version="1.2.0")
    with pytest.raises(InvalidInputError, match="7 is no schema"):
        manager.check_compatibility(7)  # type: ignore[arg-type]  # what a user may do


def test_rules_follow_renamed_columns() -> None:
    class Old(Record, data_type="bars", version="1.0.0", key=("timestamp",)):
        timestamp: Timestamp
        lo: float
        hi: float
        rules: ClassVar[tuple[Rule, ...]] = (Rule("crossed", "lo", Comparison("lo", "<=", Column("hi")), "bad"),)

    document = contract_document(contract_of(Old)) | {"version": "2.0.0"}
    for field in document["fields"]:
        if field["name"] == "lo":
            field |= {"name": "low", "aliases": ["lo"]}
    document["rules"][0] |= {"field": "low", "holds": {"column": "low", "op": "<=", "value": {"column": "hi"}}}
    changes = diff(contract_of(Old), load_contract(document))
    assert {change.kind for change in changes} == {Kind.RENAMED, Kind.WORDS_CHANGED}
    assert not check([contract_of(Old)], load_contract(document)).breaks


def test_values_of_equal_meaning_are_no_change() -> None:
    decimals = [bounds({"ge": value}, kind="decimal(9,2)") for value in (0, 0.0, {"decimal": "0.00"})]
    assert diff(thing(decimals[0]), thing(decimals[1])) == diff(thing(decimals[1]), thing(decimals[2])) == []
    assert thing(decimals[2]).fields[2].constraints[0].ge == Decimal(0)
