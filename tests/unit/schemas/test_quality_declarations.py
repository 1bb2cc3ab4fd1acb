"""Quality checks are data: what cannot be is refused, what is declared is kept by the document of the contract."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from buffetstore.errors import ConfigurationError, CorruptFileError
from buffetstore.schemas import (
    CrossedQuotes,
    Duplicates,
    Freshness,
    Gaps,
    InRange,
    MarketData,
    NullRate,
    Outliers,
    Record,
    Referential,
    RowsPerDay,
    SchemaManager,
    StalePrices,
    VolumeSpikes,
    contract_document,
    contract_of,
    fingerprint,
    load_contract,
)
from buffetstore.schemas.change import Kind
from buffetstore.schemas.changes import diff
from buffetstore.schemas.quality import CHECKS
from buffetstore.schemas.types import Price, Timestamp  # noqa: TC001 - pydantic evaluates the annotations

EVERY = (
    Freshness(within=timedelta(hours=30), calendar="XNAS"),
    Gaps("1m", calendar="24/7", by=("symbol",), bound=0.01),
    Duplicates(),
    Outliers("price", on="levels", threshold=5.5, window=10, least=3, floor=0.1, severity="warning"),
    StalePrices("price", "size", rows=9),
    CrossedQuotes("bid", "ask", bound=0.5, on_write=True),
    VolumeSpikes("size", factor=3, name="jumps"),
    Referential("symbol", "market_data"),
    NullRate("bid", drift=0.2),
    InRange("price", low=1, high=2.5),
    RowsPerDay(tolerance=0.1),
)


def declared(*quality: Any) -> Any:
    class Tick(Record, data_type="checked", version="1.0.0", key=("symbol", "timestamp"), quality=quality):
        symbol: str
        timestamp: Timestamp
        price: Price
        bid: Price | None = None
        ask: Price | None = None
        size: int | None = None

    return contract_of(Tick)


def test_every_kind_is_kept_by_the_document() -> None:
    assert {check.kind for check in EVERY} == CHECKS.keys()
    contract = declared(*EVERY)
    assert contract.quality == EVERY
    assert load_contract(contract_document(contract)).quality == EVERY
    assert contract_document(contract)["quality"][1] == {
        "check": "gaps",
        "bound": 0.01,
        "interval": "1m",
        "calendar": "24/7",
        "by": ["symbol"],
    }


def test_checks_refuse_no_row_so_the_fingerprint_leaves_them_out() -> None:
    assert fingerprint(declared(*EVERY)) == fingerprint(declared())
    (change,) = diff(declared(), declared(Duplicates()))
    assert (change.kind, change.subject, change.breaks) == (Kind.PROMISE_CHANGED, "quality", frozenset())


def test_a_subclass_inherits_checks_and_may_state_others() -> None:
    class Bars(MarketData):
        """The same."""

    class Few(MarketData, quality=(Duplicates(),)):
        """Fewer."""

    assert contract_of(Bars).quality == contract_of(MarketData).quality != ()
    assert contract_of(Few).quality == (Duplicates(),)


def test_labels_tell_checks_apart() -> None:
    assert [check.label for check in EVERY] == [
        *("freshness", "gaps_1m", "duplicates", "outliers_price_levels", "stale_prices_price", "crossed_quotes"),
        *("jumps", "referential_symbol", "null_rate_bid", "in_range_price", "rows_per_day"),
    ]


@pytest.mark.parametrize("data_type", SchemaManager().data_types())
def test_ours_are_checked_by_default(data_type: str) -> None:
    checks = SchemaManager().contract(data_type).quality
    assert (data_type == "quality_results") == (not checks)


@pytest.mark.parametrize(
    ("quality", "message"),
    [
        ((NullRate("prize"),), "'null_rate_prize' names 'prize', which is no column"),
        ((InRange("symbol", low=1),), "needs numbers, 'symbol' is string"),
        ((NullRate("bid"), NullRate("bid", bound=0.1)), "two quality checks are called 'null_rate_bid'"),
        (("duplicates",), "not a tuple of checks"),
    ],
)
def test_what_does_not_fit_the_columns_is_refused_when_the_class_is_made(quality: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        declared(*quality)


@pytest.mark.parametrize(
    ("kind", "parameters", "message"),
    [
        (Freshness, {"within": timedelta(0)}, "within is a time"),
        (Freshness, {"within": 3600}, "within is a time"),
        (Freshness, {"bound": 0.5}, "how old"),
        (Freshness, {"calendar": ""}, "MIC"),
        (Gaps, {"interval": "1w"}, "seconds, minutes or hours"),
        (Gaps, {"interval": "0m"}, "seconds, minutes or hours"),
        (Gaps, {"by": "symbol"}, "as a tuple"),
        (Duplicates, {"bound": 1.1}, "a share from 0 to 1"),
        (Duplicates, {"bound": float("nan")}, "a share from 0 to 1"),
        (Duplicates, {"severity": "fatal"}, "'error' or 'warning'"),
        (Duplicates, {"name": "a/b"}, "letters"),
        (Duplicates, {"on_write": True}, "one batch alone does not tell duplicates"),
        (Outliers, {"on": "logs"}, "'returns' or 'levels'"),
        (Outliers, {"threshold": 0}, "a number above 0"),
        (Outliers, {"least": 61}, "from 1 to the window's 60"),
        (Outliers, {"window": 0}, "1 to 10,000"),
        (StalePrices, {"rows": 1}, "from 2"),
        (VolumeSpikes, {"factor": float("inf")}, "a number above 0"),
        (InRange, {"column": "price"}, "neither low nor high"),
        (InRange, {"column": "price", "low": 2, "high": 1}, "low 2 is above high 1"),
        (InRange, {"column": "price", "low": "1"}, "low is a number"),
        (NullRate, {"column": "price", "drift": -1}, "a number above 0"),
        (RowsPerDay, {"tolerance": True}, "a number above 0"),
    ],
)
def test_parameters_that_cannot_be(kind: Any, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        kind(**parameters)


@pytest.mark.parametrize(
    ("check", "message"),
    [
        ({"check": "gabs"}, "quality check 'gabs' is none of freshness, gaps"),
        ({"interval": "1d"}, "quality check None is none of"),
        ({"check": "gaps", "every": "1d"}, "takes no 'every', only"),
        ({"check": "null_rate"}, "column"),
        ({"check": "in_range", "column": "price", "low": "x"}, "low is a number"),
        ({"check": "null_rate", "column": "nothing"}, "names 'nothing', which is no column"),
    ],
)
def test_a_document_edited_by_hand_is_refused_with_its_place(check: dict[str, Any], message: str) -> None:
    document = contract_document(declared()) | {"quality": [check]}
    with pytest.raises(CorruptFileError, match=message):
        load_contract(document, origin="a.json")
