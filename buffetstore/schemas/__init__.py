"""What a row means: data types, their contracts, and whether data keeps them."""

from __future__ import annotations

from buffetstore.schemas.availability import availability
from buffetstore.schemas.contract import Contract, Rule, ServiceLevels
from buffetstore.schemas.fill import Fill
from buffetstore.schemas.forecasts import EnsemblePrediction, Forecast, ForecastV100
from buffetstore.schemas.manager import SchemaManager
from buffetstore.schemas.mapping import Mapping
from buffetstore.schemas.markers import Aliases, Sensitivity, Unit
from buffetstore.schemas.market_data import MarketData, MarketDataV100, MarketDataV110
from buffetstore.schemas.options_data import OptionsData, OptionsDataV100
from buffetstore.schemas.record import Record, contract_of, data_type
from buffetstore.schemas.result import Finding, ValidationLevel, ValidationResult
from buffetstore.schemas.ticks import Quote, Trade
from buffetstore.schemas.types import (
    Date,
    ExerciseStyle,
    Money,
    Name,
    OptionType,
    Price,
    Quantity,
    Symbol,
    Timestamp,
    Version,
    decimal,
)

__all__ = [
    "Aliases",
    "Contract",
    "Date",
    "EnsemblePrediction",
    "ExerciseStyle",
    "Fill",
    "Finding",
    "Forecast",
    "ForecastV100",
    "Mapping",
    "MarketData",
    "MarketDataV100",
    "MarketDataV110",
    "Money",
    "Name",
    "OptionType",
    "OptionsData",
    "OptionsDataV100",
    "Price",
    "Quantity",
    "Quote",
    "Record",
    "Rule",
    "SchemaManager",
    "Sensitivity",
    "ServiceLevels",
    "Symbol",
    "Timestamp",
    "Trade",
    "Unit",
    "ValidationLevel",
    "ValidationResult",
    "Version",
    "availability",
    "contract_of",
    "data_type",
    "decimal",
]
