"""Market data: bars and prices of anything that is quoted."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from buffetstore.expressions import Column, Comparison
from buffetstore.schemas.contract import Rule
from buffetstore.schemas.fill import PRICE_IS_CLOSE, Fill
from buffetstore.schemas.quality import (
    Duplicates,
    Gaps,
    Outliers,
    RowsPerDay,
    StalePrices,
    VolumeSpikes,
)
from buffetstore.schemas.record import Record
from buffetstore.schemas.types import Money, Name, Price, Symbol, Timestamp

PositivePrice = Annotated[Price, Field(gt=0)]


class MarketDataV100(
    Record,
    data_type="market_data",
    version="1.0.0",
    key=("symbol", "timestamp", "interval", "data_source"),
    category="market",
):
    """A price and a volume at a time."""

    symbol: Symbol
    timestamp: Timestamp
    price: PositivePrice
    volume: Annotated[int, Field(ge=0)]
    data_source: Name
    interval: Name = "1d"
    """The bar's length: '1d', '1m', 'tick'."""


class MarketDataV110(MarketDataV100, version="1.1.0"):
    """Adds what the company is worth."""

    market_cap: Money | None = None
    pe_ratio: float | None = None


class MarketData(
    MarketDataV110,
    version="1.2.0",
    quality=(
        Gaps("1d", severity="warning", bound=0.01),
        Duplicates(),
        Outliers("price", severity="warning", bound=0.001),
        StalePrices("price", severity="warning", bound=0.01),
        VolumeSpikes("volume", severity="warning", bound=0.01, on_write=True),
        RowsPerDay(severity="warning", bound=0.05),
    ),
):
    """Adds the bar, where it is traded, and indicators.

    `close` is `price`, each filled from the other; `adjusted_close` is outside the rule of high and low.
    """

    open: Price | None = None
    high: Price | None = None
    low: Price | None = None
    close: Price | None = None
    adjusted_close: Price | None = None
    currency: str | None = None
    exchange: str | None = None
    """The market's MIC (ISO 10383): 'XNAS'."""
    rsi: Annotated[float, Field(ge=0, le=100)] | None = None
    sma_20: Price | None = None
    sma_50: Price | None = None
    sma_200: Price | None = None
    volatility: Annotated[float, Field(ge=0)] | None = None
    beta: float | None = None

    fills: ClassVar[tuple[Fill, ...]] = (PRICE_IS_CLOSE,)
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("low_above_open", "low", Comparison("low", "<=", Column("open")), "low {low} is above open {open}"),
        Rule("low_above_close", "low", Comparison("low", "<=", Column("close")), "low {low} is above close {close}"),
        Rule("low_above_high", "low", Comparison("low", "<=", Column("high")), "low {low} is above high {high}"),
        Rule("open_above_high", "high", Comparison("open", "<=", Column("high")), "open {open} is above high {high}"),
        Rule(
            "close_above_high", "high", Comparison("close", "<=", Column("high")), "close {close} is above high {high}"
        ),
        Rule(
            "close_not_price",
            "close",
            Comparison("close", "==", Column("price")),
            "close {close} is not price {price}",
            severity="warning",
        ),
    )
