"""Ticks: single trades and quotes, appended as they come. `sequence` tells ticks of one microsecond apart."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from buffetstore.expressions import Column, Comparison
from buffetstore.schemas.contract import Rule
from buffetstore.schemas.quality import CrossedQuotes, Duplicates, Outliers
from buffetstore.schemas.record import Record
from buffetstore.schemas.types import Name, Nanoseconds, Price, Quantity, Symbol, Timestamp

_KEY = ("symbol", "timestamp", "sequence", "data_source")
_Size = Annotated[Quantity, Field(ge=0)]


class Trade(
    Record,
    data_type="trades",
    version="1.0.0",
    key=_KEY,
    revisions="append",
    category="trade",
    quality=(
        Duplicates(),
        Outliers("price", severity="warning", bound=0.001, threshold=12.0),
    ),
):
    """One trade."""

    symbol: Symbol
    timestamp: Timestamp
    timestamp_nanoseconds: Nanoseconds | None = None
    sequence: Annotated[int, Field(ge=0)]
    data_source: Name
    price: Annotated[Price, Field(gt=0)]
    size: _Size
    exchange: str | None = None
    """The market's MIC (ISO 10383)."""
    conditions: str | None = None
    """The sale conditions as the feed spells them."""


class Quote(
    Record,
    data_type="quotes",
    version="1.0.0",
    key=_KEY,
    revisions="append",
    category="quote",
    quality=(Duplicates(), CrossedQuotes(bound=0.001, on_write=True)),
):
    """The best bid and ask at a time; either side may be empty."""

    symbol: Symbol
    timestamp: Timestamp
    timestamp_nanoseconds: Nanoseconds | None = None
    sequence: Annotated[int, Field(ge=0)]
    data_source: Name
    bid: Price | None = None
    ask: Price | None = None
    bid_size: _Size | None = None
    ask_size: _Size | None = None
    exchange: str | None = None
    """The market's MIC (ISO 10383)."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "crossed_quote",
            "bid",
            Comparison("bid", "<=", Column("ask")),
            "bid {bid} is above ask {ask}",
            severity="warning",
        ),
    )
