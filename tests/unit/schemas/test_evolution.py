from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pydantic import BaseModel, Field

from buffetstore.errors import InvalidInputError, UnsupportedOperationError
from buffetstore.schemas import Aliases, MarketData, MarketDataV100, Record, Timestamp, Unit, contract_of, decimal
from buffetstore.schemas.evolution import downcast, upcast
from buffetstore.schemas.stored import document_bytes, load_contract
from buffetstore.schemas.upcasts import Upcast

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Leg(BaseModel):
    name: str
    ratio: decimal(6, 2) | None = None


class WideLeg(BaseModel):
    ratio: decimal(9, 3) | None = None
    label: Annotated[str, Aliases("name")]
    side: str | None = None


class Swap(Record, data_type="swaps", version="1.0.0", key=("id", "timestamp")):
    id: str
    timestamp: Timestamp
    rate: decimal(9, 2)
    lots: Annotated[int, Field(ge=0, le=1000)] | None = None
    note: str | None = None
    legs: list[Leg] | None = None
    leg: Leg | None = None
    gone: str | None = None


class NextSwap(Record, data_type="swaps", version="2.0.0", key=("id", "timestamp")):
    timestamp: Timestamp
    id: str
    coupon: Annotated[decimal(12, 4), Aliases("rate")]
    lots: float | None = None
    note: str = "none"
    legs: list[WideLeg] | None = None
    leg: WideLeg | None = None
    venue: str | None = None
    multiplier: int = 100


OLD, NEW = contract_of(Swap), contract_of(NextSwap)


def rows(contract: Any, *given: dict[str, Any]) -> pa.Table:
    base = {"id": "a", "timestamp": NOW, "created_at": NOW, "version": contract.version}
    made = [{name: {**base, **row}.get(name) for name in contract.schema.names} for row in given]
    return pa.Table.from_pylist(made, contract.schema)


def test_old_rows_are_read_as_the_newer_version() -> None:
    legs = [{"name": "x", "ratio": Decimal("1.25")}, {"name": "y", "ratio": None}]
    old = rows(
        OLD,
        {"rate": Decimal("1.25"), "lots": 7, "note": "n", "legs": legs, "leg": legs[0], "gone": "x"},
        {"rate": Decimal("-9.99"), "legs": [], "leg": None},
        {"rate": Decimal(0), "legs": None, "leg": legs[1]},
    )
    for table in (old, pa.concat_tables([old.slice(0, 1), old.slice(1, 2)])):
        new = upcast(table, OLD, NEW)
        assert new.schema == NEW.schema
        assert new["coupon"].to_pylist() == [Decimal("1.2500"), Decimal("-9.9900"), Decimal("0.0000")]
        assert new["lots"].to_pylist() == [7.0, None, None]
        assert new["note"].to_pylist() == ["n", "none", "none"]
        assert new["multiplier"].to_pylist() == [100] * 3
        assert new["venue"].null_count == 3
        assert set(new["version"].to_pylist()) == {"2.0.0"}
        wide = [{"ratio": Decimal("1.250"), "label": "x", "side": None}, {"ratio": None, "label": "y", "side": None}]
        assert new["legs"].to_pylist() == [wide, [], None]
        assert new["leg"].to_pylist() == [wide[0], None, wide[1]]
    last = upcast(old.slice(2, 1), OLD, NEW)
    assert last["leg"].to_pylist() == [wide[1]]
    assert upcast(old.slice(0, 0), OLD, NEW).equals(NEW.schema.empty_table())


def test_a_stored_contract_reads_as_its_class_does() -> None:
    old = rows(OLD, {"rate": Decimal("1.25"), "lots": 7})
    loaded = [load_contract(document_bytes(contract)) for contract in (OLD, NEW)]
    assert upcast(old, *loaded).equals(upcast(old, OLD, NEW))


def test_files_of_older_writers_may_lack_what_may_be_null_and_have_other_types_of_text() -> None:
    old = rows(OLD, {"rate": Decimal("1.25")}).drop_columns(["note", "legs"]).append_column("more", pa.array([1]))
    dictionary = old.set_column(old.schema.get_field_index("id"), "id", pc.dictionary_encode(old["id"]))
    assert upcast(dictionary, OLD, NEW).to_pylist() == upcast(old, OLD, NEW).to_pylist()
    with pytest.raises(InvalidInputError, match=r"no column 'rate', which swaps 1\.0\.0 requires"):
        upcast(old.drop_columns(["rate"]), OLD, NEW)


def test_market_data_of_every_version_is_one_table() -> None:
    first, last = contract_of(MarketDataV100), contract_of(MarketData)
    values = {"symbol": "A", "price": Decimal(1), "volume": 1, "data_source": "x", "interval": "1d"}
    old = rows(first, values)
    new = upcast(old, first, last)
    assert pa.concat_tables([new, rows(last, values)]).num_rows == 2
    assert downcast(new, last, first).equals(old)


class Cents(Record, data_type="cash", version="1.0.0", key=("timestamp",)):
    timestamp: Timestamp
    amount: Annotated[int, Unit("cents")]


class Dollars(Record, data_type="cash", version="2.0.0", key=("timestamp",)):
    timestamp: Timestamp
    amount: Annotated[decimal(12, 2), Unit("USD")]
    currency: str
    upcasts: ClassVar[tuple[Upcast, ...]] = (
        Upcast("dollars", "amount", before="2.0.0", function=lambda old: pc.divide(old["amount"].cast("double"), 100)),
        Upcast("currency", "currency", before="2.0.0", function=lambda old: pa.repeat("USD", old.num_rows)),
    )


class Thousands(Dollars, version="3.0.0"):
    amount: Annotated[decimal(12, 5), Unit("kUSD")]
    upcasts: ClassVar[tuple[Upcast, ...]] = (
        Upcast("thousands", "amount", "3.0.0", lambda old: pc.divide(old["amount"].cast("double"), 1000)),
    )


def test_up_casts_are_taken_from_the_version_on_that_the_rows_are_of() -> None:
    cents, dollars, thousands = map(contract_of, (Cents, Dollars, Thousands))
    old = rows(cents, {"amount": 12345})
    assert upcast(old, cents, dollars)["amount"].to_pylist() == [Decimal("123.45")]
    assert upcast(old, cents, dollars)["currency"].to_pylist() == ["USD"]
    assert upcast(old, cents, thousands)["amount"].to_pylist() == [Decimal("0.12345")]
    middle = upcast(old, cents, dollars)
    assert upcast(middle, dollars, thousands)["amount"].to_pylist() == [Decimal("0.12345")]
    assert upcast(middle, dollars, dollars).equals(middle)
    with pytest.raises(UnsupportedOperationError, match="need an up-cast: give its class"):
        upcast(old, cents, load_contract(document_bytes(dollars)))


def variant(name: str, version: str, **facts: Any) -> Any:
    annotations = {"timestamp": Timestamp, **{k: v for k, v in facts.items() if k != "upcasts"}}
    body = {"__annotations__": annotations, "__module__": __name__, "upcasts": facts.get("upcasts", ())}
    return contract_of(type(Record)(name, (Record,), body, data_type="t", version=version, key=("timestamp",)))


@pytest.mark.parametrize(
    ("before", "value", "after", "words"),
    [
        (int, 2**60, float, "is double, stored is int64: declare an Upcast"),
        (str, "1", int, "declare an Upcast"),
        (Annotated[float, Unit("m")], 1.0, Annotated[float, Unit("km")], "counts km, stored is m"),
        (int | None, None, int, r"x is required, and 1 of 1 rows of 1\.0\.0 have none"),
        (Leg, {"name": "a", "ratio": None}, list[str], "declare an Upcast"),
    ],
)
def test_what_no_cast_does_right_is_refused(before: Any, value: Any, after: Any, words: str) -> None:
    old, new = variant("Old", "1.0.0", x=before), variant("New", "2.0.0", x=after)
    with pytest.raises(UnsupportedOperationError, match=words):
        upcast(rows(old, {"x": value}), old, new)


def test_a_narrower_type_takes_the_values_that_fit() -> None:
    old, new = variant("Old", "1.0.0", x=decimal(9, 4)), variant("New", "2.0.0", x=decimal(6, 2))
    assert upcast(rows(old, {"x": Decimal("1.5")}), old, new)["x"].to_pylist() == [Decimal("1.50")]
    with pytest.raises(InvalidInputError, match=r"t 2\.0\.0\.x is decimal128\(6, 2\), which does not hold every"):
        upcast(rows(old, {"x": Decimal("1.5555")}), old, new)


def test_a_required_field_without_a_value_is_refused() -> None:
    old, new = variant("Old", "1.0.0"), variant("New", "2.0.0", x=int)
    with pytest.raises(UnsupportedOperationError, match="x is required, and 1 of 1 rows"):
        upcast(rows(old, {}), old, new)
    inner_old, inner_new = variant("Old", "1.0.0", x=Leg), variant("New", "2.0.0", x=WideLegStrict)
    with pytest.raises(UnsupportedOperationError, match=r"x\.depth is required, and stored rows have none"):
        upcast(rows(inner_old, {"x": {"name": "a", "ratio": None}}), inner_old, inner_new)


class WideLegStrict(Leg):
    depth: int


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda old: [1] * old.num_rows, "up-cast 'u' gives a list, not an Arrow column of int64"),
        (lambda _: pa.array([1, 2]), "up-cast 'u' gives 2 values for 1 rows"),
        (lambda _: pa.array([1.5]), r"up-cast 'u', row 0: 1\.5 is not a whole number"),
    ],
)
def test_what_an_up_cast_gives_must_fit(function: Any, words: str) -> None:
    old, new = variant("Old", "1.0.0"), variant("New", "2.0.0", x=int, upcasts=(Upcast("u", "x", "2.0.0", function),))
    with pytest.raises(InvalidInputError, match=words):
        upcast(rows(old, {}), old, new)


def test_versions_are_read_upwards_and_of_one_type() -> None:
    with pytest.raises(InvalidInputError, match=r"swaps 2\.0\.0 is newer than 1\.0\.0"):
        upcast(rows(NEW), NEW, OLD)
    with pytest.raises(InvalidInputError, match="swaps and market_data are two data types"):
        upcast(rows(OLD), OLD, contract_of(MarketData))
    with pytest.raises(UnsupportedOperationError, match=r"swaps 2\.0\.0 cannot be read as 1\.0\.0: .*coupon"):
        downcast(rows(NEW), NEW, OLD)
