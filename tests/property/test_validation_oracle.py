"""The kernels and row-by-row pydantic give the same verdict and the same values, whatever is thrown at them."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from buffetstore.expressions import evaluate
from buffetstore.schemas.arrow import fields_of
from buffetstore.schemas.intake import take_in
from buffetstore.schemas.manager import judge
from buffetstore.schemas.mapping import Mapping
from buffetstore.schemas.record import contract_of
from buffetstore.schemas.registry import BUILT_IN
from buffetstore.schemas.result import ValidationLevel
from buffetstore.schemas.values import is_missing

if TYPE_CHECKING:
    from buffetstore.schemas.contract import Contract

NOW = datetime(2026, 1, 2, tzinfo=UTC)
CONTRACTS = [contract_of(model) for model in BUILT_IN]
IDS = [f"{contract.data_type}-{contract.version}" for contract in CONTRACTS]

odd_numbers = st.one_of(
    st.sampled_from([float("nan"), float("inf"), float("-inf"), 0, -0.0, -1, True, "12.5", "x", "", "NaN", "1e3"]),
    st.sampled_from([Decimal("NaN"), Decimal("Infinity"), Decimal("1.123456789"), Decimal(10) ** 30, 2**63, -(2**63)]),
    st.floats(),
    st.integers(-(2**70), 2**70),
    st.decimals(-(10**20), 10**20, places=10),
)
plain_decimals = st.one_of(
    st.floats(-10, 10_000, width=32), st.floats(0, 1e6), st.integers(-2, 500), st.decimals(-1, 10_000, places=2)
)
NAIVE = datetime(2024, 1, 1)  # noqa: DTZ001 what must be refused
moments = st.integers(0, 365 * 30 * 86_400).map(
    lambda seconds: datetime(1990, 1, 1, tzinfo=UTC) + timedelta(0, seconds)
)


def given_values(kind: pa.DataType, choices: tuple[str, ...] | None) -> st.SearchStrategy[Any]:
    """Values such as users give for a column of this type, odd ones among them."""
    if choices is not None:
        return st.sampled_from([*choices, choices[0].upper(), "other", "", None])
    if pa.types.is_decimal(kind):
        return st.one_of(plain_decimals, plain_decimals, plain_decimals, odd_numbers)
    if pa.types.is_integer(kind):
        return st.one_of(st.integers(-1, 400), st.integers(-1, 400), st.integers(0, 9).map(float), odd_numbers)
    if pa.types.is_floating(kind):
        return st.one_of(st.floats(-2, 2), st.floats(-1, 120), st.integers(-1, 101), odd_numbers)
    if pa.types.is_timestamp(kind):
        return st.one_of(
            moments,
            moments,
            moments.map(lambda moment: moment.astimezone(timezone(timedelta(hours=-5)))),
            moments.map(lambda moment: moment.isoformat()),
            st.sampled_from([NAIVE, "2024-01-01", "2024-01-01T09:30:00+02:00", "soon", 5, None]),
        )
    if pa.types.is_date(kind):
        return st.one_of(st.dates(date(1990, 1, 1), date(2050, 1, 1)), st.sampled_from(["2024-01-19", "x", 5, None]))
    if pa.types.is_list(kind):
        members = {field.name: given_values(field.type, None) for field in kind.value_type}
        return st.none() | st.lists(st.fixed_dictionaries(members), max_size=3)
    return st.sampled_from(["AAPL", "BTC/USD", "^GSPC", "..", "ÅÄÖ", "株", "BRK.B", "", None, 5])


@st.composite
def batches(draw: st.DrawFn, contract: Contract) -> list[dict[str, Any]]:
    """Rows of which most values are fine."""
    fields = {}
    for spec in fields_of(contract.model):
        if spec.name in {"created_at", "available_at", "version"}:
            continue
        values = given_values(spec.type, spec.choices)
        fields[spec.name] = st.none() | values if spec.nullable else values
    return draw(st.lists(st.fixed_dictionaries(fields), min_size=1, max_size=6))


def accepts(model: type[BaseModel], row: dict[str, Any]) -> BaseModel | None:
    try:
        return model.model_validate(row)
    except ValidationError:
        return None


def rows_of_rules(contract: Contract, severity: str, rows: list[dict[str, Any]]) -> Counter[tuple[int, str]]:
    return Counter(
        (position, rule.name)
        for position, row in enumerate(rows)
        for rule in contract.rules
        if rule.severity == severity and evaluate(rule.holds, row) is False
    )


def repeated_rows(contract: Contract, rows: list[dict[str, Any]]) -> set[int]:
    seen: set[tuple[Any, ...]] = set()
    found = set()
    for position, row in enumerate(rows):
        key = tuple(row[name] for name in contract.key)
        if None in key or contract.revisions != "replace":
            continue
        if key in seen:
            found.add(position)
        seen.add(key)
    return found


@pytest.mark.parametrize("contract", CONTRACTS, ids=IDS)
@given(data=st.data())
def test_checks_agree_with_models_and_expressions(contract: Contract, data: st.DataObject) -> None:
    batch = data.draw(batches(contract))
    typed = take_in(batch, contract, mapping=Mapping(), now=NOW)
    rows = typed.table.to_pylist()
    result = judge(contract, typed, ValidationLevel.STRICT)
    misfits = set(typed.rejected.tolist())
    refused = {position for position, row in enumerate(rows) if accepts(contract.model, row) is None}
    # A column that the store fills is null here only where its value did not fit.
    broken = rows_of_rules(contract, "error", rows)
    expected = misfits | refused | {position for position, _ in broken} | repeated_rows(contract, rows)
    assert set(result.rejected) == expected
    odd = rows_of_rules(contract, "warning", rows)
    known = {(finding.record_index, finding.error_type) for finding in typed.warnings}
    assert {(f.record_index, f.error_type) for f in result.warnings} - known == set(odd)
    assert result.accepted.to_pylist() == [row for position, row in enumerate(rows) if position not in expected]
    assert result.accepted.schema == contract.schema
    assert [finding.record_index for finding in result.errors] == sorted(f.record_index for f in result.errors)
    assert result.error_count == len(result.errors)


@pytest.mark.parametrize("contract", [c for c in CONTRACTS if c.data_type != "options_data"])
@given(data=st.data())
def test_models_take_values_as_the_kernels_do(contract: Contract, data: st.DataObject) -> None:
    """One row of raw values: same verdict, same values. (Options are left out: their symbols are filled from parts.)"""
    (row,) = data.draw(batches(contract).map(lambda batch: batch[:1]))
    unfilled = {"price", "close", "target_date"} - {name for name, value in row.items() if not is_missing(value)}
    made = accepts(contract.model, row)
    typed = take_in([row], contract, now=NOW)
    result = judge(contract, typed, ValidationLevel.STRICT)
    by_field = [finding for finding in result.errors if finding.error_type not in {r.name for r in contract.rules}]
    if unfilled & row.keys() and made is None:
        return  # what a row leaves out may be filled from the rest of it, by the kernels alone
    assert (made is not None) == (not by_field), (result.errors, row)
    if made is not None:
        [typed_row] = typed.table.to_pylist()
        for name, value in made.model_dump().items():
            if name not in {"created_at", "version"} | unfilled:
                assert typed_row[name] == value, name


@given(
    st.lists(
        st.tuples(st.sampled_from("ABC"), st.integers(0, 5), st.sampled_from(["1d", "1m"]), st.sampled_from("xy")),
        min_size=1,
        max_size=40,
    ),
    st.booleans(),
)
def test_repeated_keys_are_found_in_any_order(keys: list[tuple[str, int, str, str]], ordered: bool) -> None:
    contract = next(c for c in CONTRACTS if c.data_type == "market_data")
    rows = [
        {
            "symbol": symbol,
            "timestamp": datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=day),
            "interval": interval,
            "data_source": source,
            "price": 1,
            "volume": 1,
        }
        for symbol, day, interval, source in (sorted(keys) if ordered else keys)
    ]
    result = judge(contract, take_in(rows, contract, now=NOW), ValidationLevel.STRICT)
    assert set(result.rejected) == repeated_rows(contract, result_rows(contract, rows))


def result_rows(contract: Contract, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: row.get(name) for name in contract.key} for row in rows]
