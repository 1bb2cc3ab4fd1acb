from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffetstore.errors import MappingError
from buffetstore.schemas import Mapping, MarketData, contract_of
from buffetstore.schemas.mapping_document import load_mapping, mapping_document

CONTRACT = contract_of(MarketData)
COLUMNS = st.text(min_size=1, max_size=8)
FREE = [name for name in CONTRACT.schema.names if name not in {"symbol", "created_at", "available_at", "version"}]
POWERS = st.integers(-8, 0).map(lambda power: Decimal(1).scaleb(power))
CONSTANTS = st.fixed_dictionaries(
    {},
    optional={
        "data_source": st.text(st.characters(codec="utf-8"), min_size=1, max_size=8),
        "interval": st.sampled_from(["1d", "1m", "tick"]),
        "volume": st.integers(0, 2**60),
        "price": st.decimals("0.01", "1000000", places=8),
        "beta": st.floats(-10, 10),
        "timestamp": st.integers(0, 2**32).map(lambda second: datetime.fromtimestamp(second, UTC)),
        "rsi": st.none(),
    },
)


@st.composite
def mappings(draw: st.DrawFn) -> Mapping:
    constants = draw(CONSTANTS)
    fields = draw(st.lists(st.sampled_from([name for name in FREE if name not in constants]), unique=True, max_size=4))
    pattern = draw(st.sampled_from([None, r"(?P<symbol>[a-z]+)_(?P<date>\d{8})"]))
    return Mapping(
        columns={name: draw(COLUMNS) for name in fields},
        constants=constants,
        symbol=draw(st.none() | st.sampled_from(["AAPL", "BTC/USD", "..", "日経"])),
        tz=draw(st.none() | st.sampled_from(["UTC", "America/New_York"])),
        scale=draw(st.none() | POWERS | st.dictionaries(st.sampled_from(["open", "high"]), POWERS, min_size=1)),
        header=tuple(draw(st.lists(COLUMNS, unique=True, max_size=4))),
        file_pattern=pattern,
        upper=("symbol",) if pattern and draw(st.booleans()) else (),
        index=draw(st.none() | st.just("timestamp") | st.just(("symbol", "timestamp"))),
        milliseconds=draw(st.none() | COLUMNS),
        date=draw(st.none() | st.dates()),
    )


@given(mappings())
def test_a_mapping_goes_to_a_document_and_back(mapping: Mapping) -> None:
    document = mapping_document(mapping)
    back = load_mapping(json.loads(json.dumps(document)))
    assert mapping_document(back) == document
    for name in Mapping.__slots__:
        if name != "constants":
            assert getattr(back, name) == getattr(mapping, name), name
    assert back.values(CONTRACT) == mapping.values(CONTRACT), "constants mean the same, however they are written"


def test_what_is_left_open_is_not_written() -> None:
    assert mapping_document(Mapping()) == {}
    assert load_mapping({}) == Mapping()
    assert mapping_document(Mapping(date=date(2024, 1, 2), scale=Decimal("0.0001"))) == {
        "date": "2024-01-02",
        "scale": "0.0001",
    }


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "keys and values"),
        ({"colums": {}}, r"no key 'colums' \(did you mean 'columns'\?\); keys are columns, constants"),
        ({"from_name": {"symbol": "A"}}, "no key 'from_name'"),
        ({"columns": {"price": 3}}, "key columns.price: .*string, not 3"),
        ({"columns": ["a"]}, "key columns: "),
        ({"scale": "cents"}, "key scale: .*'cents'"),
        ({"scale": {"bid": "x"}}, "key scale.bid: .*'x'"),
        ({"scale": "0.3"}, "no power of ten"),
        ({"date": "soon"}, "key date: .*'soon'"),
        ({"header": "a,b"}, "key header: "),
        ({"constants": {"price": [1]}}, "key constants.price: "),
        ({"tz": "America/New_Yrok"}, "did you mean 'America/New_York'"),
        ({"file_pattern": "("}, "no regular expression"),
        ({"upper": ["symbol"]}, "no group of file_pattern"),
        ({"symbol": 7}, "key symbol: "),
    ],
)
def test_what_a_document_cannot_say_is_named(document: Any, message: str) -> None:
    with pytest.raises(MappingError, match=message):
        load_mapping(document)


def test_names_are_tried_in_order_and_groups_are_put_in_capitals() -> None:
    mapping = Mapping(file_pattern=r"(?P<symbol>[a-z]+)/(?P<date>\d{8})_trade", upper=("symbol",))
    found = mapping.for_file("20140606_trade.csv", "20140606_trade.zip", "minute/aapl/20140606_trade.zip")
    assert (found.from_name, found.date) == ({"symbol": "AAPL"}, date(2014, 6, 6))
    with pytest.raises(MappingError, match=r"'a\.csv' nor 'b/a\.csv' does not match"):
        mapping.for_file("a.csv", "b/a.csv")
    with pytest.raises(MappingError, match="no group"):
        Mapping(file_pattern="(?P<symbol>.)", upper=("ticker",))


def test_options_go_before_what_a_file_says() -> None:
    base = Mapping(columns={"price": "Close", "volume": "Vol"}, constants={"data_source": "a", "beta": 1}, tz="UTC")
    found = Mapping.from_options(map=["Last=price", "B=beta"], set=["volume=0"], tz="America/New_York", base=base)
    assert found == Mapping(
        columns={"price": "Last", "beta": "B"},
        constants={"data_source": "a", "volume": "0"},
        tz="America/New_York",
    )
    assert Mapping.from_options(base=base) == base
