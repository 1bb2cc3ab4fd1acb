"""What a row means: data types, their contracts, and whether data keeps them."""

from __future__ import annotations

from buffetstore.schemas.availability import availability
from buffetstore.schemas.change import Change
from buffetstore.schemas.compatibility import CompatibilityReport, Mode
from buffetstore.schemas.contract import Contract, Rule, ServiceLevels
from buffetstore.schemas.detail import RuleCount
from buffetstore.schemas.entry import SchemaEntry, schema_key
from buffetstore.schemas.evolution import downcast, upcast
from buffetstore.schemas.fill import Fill
from buffetstore.schemas.findings import Finding
from buffetstore.schemas.forecasts import EnsemblePrediction, Forecast, ForecastV100
from buffetstore.schemas.manager import SchemaManager
from buffetstore.schemas.mapping import Mapping
from buffetstore.schemas.markers import Aliases, Sensitivity, Unit
from buffetstore.schemas.market_data import MarketData, MarketDataV100, MarketDataV110
from buffetstore.schemas.nanoseconds import with_nanoseconds
from buffetstore.schemas.options_data import OptionsData, OptionsDataV100
from buffetstore.schemas.quality import (
    CrossedQuotes,
    Duplicates,
    Freshness,
    Gaps,
    InRange,
    NullRate,
    Outliers,
    Referential,
    RowsPerDay,
    StalePrices,
    VolumeSpikes,
)
from buffetstore.schemas.quality_check import QualityCheck
from buffetstore.schemas.quality_results import QualityResult
from buffetstore.schemas.record import Record, contract_of, data_type
from buffetstore.schemas.result import ValidationLevel, ValidationResult
from buffetstore.schemas.stored import contract_document, document_bytes, fingerprint, load_contract
from buffetstore.schemas.ticks import Quote, Trade
from buffetstore.schemas.types import (
    Date,
    ExerciseStyle,
    Money,
    Name,
    Nanoseconds,
    OptionType,
    Price,
    Quantity,
    Symbol,
    Timestamp,
    Version,
    decimal,
)
from buffetstore.schemas.upcasts import Upcast

__all__ = [
    "Aliases",
    "Change",
    "CompatibilityReport",
    "Contract",
    "CrossedQuotes",
    "Date",
    "Duplicates",
    "EnsemblePrediction",
    "ExerciseStyle",
    "Fill",
    "Finding",
    "Forecast",
    "ForecastV100",
    "Freshness",
    "Gaps",
    "InRange",
    "Mapping",
    "MarketData",
    "MarketDataV100",
    "MarketDataV110",
    "Mode",
    "Money",
    "Name",
    "Nanoseconds",
    "NullRate",
    "OptionType",
    "OptionsData",
    "OptionsDataV100",
    "Outliers",
    "Price",
    "QualityCheck",
    "QualityResult",
    "Quantity",
    "Quote",
    "Record",
    "Referential",
    "RowsPerDay",
    "Rule",
    "RuleCount",
    "SchemaEntry",
    "SchemaManager",
    "Sensitivity",
    "ServiceLevels",
    "StalePrices",
    "Symbol",
    "Timestamp",
    "Trade",
    "Unit",
    "Upcast",
    "ValidationLevel",
    "ValidationResult",
    "Version",
    "VolumeSpikes",
    "availability",
    "contract_document",
    "contract_of",
    "data_type",
    "decimal",
    "document_bytes",
    "downcast",
    "fingerprint",
    "load_contract",
    "schema_key",
    "upcast",
    "with_nanoseconds",
]
