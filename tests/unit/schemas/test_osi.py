from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from buffetstore.errors import InvalidInputError
from buffetstore.schemas.osi import OptionParts, build_osi, canonical, parse_osi, root_of

CALL = OptionParts("AAPL", date(2024, 1, 19), "call", Decimal(150))


@pytest.mark.parametrize(
    "symbol",
    [
        "AAPL  240119C00150000",
        "AAPL240119C00150000",
        "aapl 240119c00150000",
        "O:AAPL240119C00150000",
        ".AAPL240119C150",
        "AAPL-240119-C-150",
        "AAPL_240119C150.0",
        "AAPL20240119C00150000",
    ],
)
def test_vendors_forms_mean_the_same(symbol):
    assert parse_osi(symbol) == CALL
    assert canonical(parse_osi(symbol)) == "AAPL  240119C00150000"


@pytest.mark.parametrize(
    ("symbol", "root", "strike"),
    [
        (".SPXW240119P4152.5", "SPXW", Decimal("4152.5")),
        ("AAPL1 240119P00152500", "AAPL1", Decimal("152.5")),
        ("BRKB  240119P00000500", "BRKB", Decimal("0.5")),
    ],
)
def test_roots_and_broken_strikes(symbol, root, strike):
    assert parse_osi(symbol) == OptionParts(root, date(2024, 1, 19), "put", strike)


@pytest.mark.parametrize(
    "symbol",
    ["", "AAPL", "BTC-27DEC24-50000-C", "AAPL241319C00150000", "AAPL240119X00150000", "TOOLONG240119C00150000"],
)
def test_what_is_no_option_symbol(symbol):
    assert parse_osi(symbol) is None


def test_building():
    assert build_osi("BRK.B", date(2024, 1, 19), "put", Decimal("12.5")) == "BRKB  240119P00012500"
    assert root_of("^SPX") == "SPX"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"underlying": "TOOLONG"}, "no root"),
        ({"underlying": "..."}, "no root"),
        ({"strike_price": Decimal("1.0001")}, r"strike 1\.0001"),
        ({"strike_price": Decimal(100_000)}, "strike 100000"),
        ({"strike_price": Decimal(0)}, "strike 0"),
        ({"expiration_date": date(1999, 1, 1)}, "1999-01-01"),
        ({"option_type": "straddle"}, "'straddle'"),
    ],
)
def test_what_cannot_be_written_is_refused(change, message):
    parts = {"underlying": "AAPL", "expiration_date": date(2024, 1, 19), "option_type": "call"}
    with pytest.raises(InvalidInputError, match=message):
        build_osi(**{**parts, "strike_price": Decimal(1), **change})
