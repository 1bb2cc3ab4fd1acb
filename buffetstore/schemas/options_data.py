"""Options data: quotes and Greeks of single contracts. Real chains are one-sided, so that every quote may be null."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from buffetstore.expressions import Column, Comparison
from buffetstore.schemas.contract import Rule
from buffetstore.schemas.fill import MISSING_GREEKS, OPTION_SYMBOL, Fill
from buffetstore.schemas.quality import CrossedQuotes, Duplicates, InRange, Referential, RowsPerDay
from buffetstore.schemas.record import Record
from buffetstore.schemas.types import Date, ExerciseStyle, Name, OptionType, Price, Symbol, Timestamp

Count = Annotated[int, Field(ge=0)]


class OptionsDataV100(
    Record,
    data_type="options_data",
    version="1.0.0",
    key=("contract_symbol", "timestamp", "data_source"),
    symbol="underlying_symbol",
    category="options",
):
    """A quote of one contract.

    `contract_symbol` is the OSI symbol, built from the parts when absent; vendors' forms are parsed into the parts.
    """

    underlying_symbol: Symbol
    contract_symbol: Symbol
    expiration_date: Date
    strike_price: Annotated[Price, Field(gt=0)]
    option_type: OptionType
    timestamp: Timestamp
    bid: Price | None = None
    ask: Price | None = None
    last_price: Price | None = None
    volume: Count | None = None
    open_interest: Count | None = None
    delta: Annotated[float, Field(ge=-1, le=1)] | None = None
    gamma: Annotated[float, Field(ge=0)] | None = None
    theta: float | None = None
    vega: Annotated[float, Field(ge=0)] | None = None
    rho: float | None = None
    implied_volatility: Annotated[float, Field(ge=0)] | None = None
    data_source: Name

    fills: ClassVar[tuple[Fill, ...]] = (OPTION_SYMBOL, MISSING_GREEKS)
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "crossed_quote",
            "bid",
            Comparison("bid", "<=", Column("ask")),
            "bid {bid} is above ask {ask}",
            severity="warning",
        ),
    )


class OptionsData(
    OptionsDataV100,
    version="1.1.0",
    quality=(
        Duplicates(),
        CrossedQuotes(bound=0.01, on_write=True),
        Referential("underlying_symbol", "market_data", severity="warning"),
        InRange("implied_volatility", 0, 10, severity="warning", bound=0.01),
        RowsPerDay(severity="warning", bound=0.05),
    ),
):
    """Adds sizes, the underlying, the split of the value, and the contract's terms."""

    mark_price: Price | None = None
    bid_size: Count | None = None
    ask_size: Count | None = None
    underlying_price: Price | None = None
    intrinsic_value: Price | None = None
    time_value: Price | None = None
    multiplier: Annotated[int, Field(gt=0)] | None = 100
    exercise_style: ExerciseStyle | None = None
    currency: str | None = None
