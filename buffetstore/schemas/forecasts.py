"""Forecasts: what a model said about a price, and how sure it was."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from buffetstore.expressions import Column, Comparison, IsNull, Not, Or
from buffetstore.schemas.contract import Rule
from buffetstore.schemas.fill import TARGET_DATE, Fill
from buffetstore.schemas.quality import Duplicates, Referential, RowsPerDay
from buffetstore.schemas.record import Record
from buffetstore.schemas.types import Date, Name, Price, Symbol, Timestamp

_Error = Annotated[float, Field(ge=0)]


class EnsemblePrediction(BaseModel):
    """What one member of an ensemble said."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=())

    model_name: Name
    weight: float
    predicted_price: Annotated[Price, Field(gt=0)]


class ForecastV100(
    Record,
    data_type="forecasts",
    version="1.0.0",
    key=("symbol", "model_name", "model_version", "timestamp", "forecast_horizon_days", "data_source"),
    category="forecast",
):
    """A predicted price with its interval; `timestamp` is when the forecast was made."""

    symbol: Symbol
    model_name: Name
    model_version: Name
    timestamp: Timestamp
    forecast_horizon_days: Annotated[int, Field(ge=0)]
    data_source: Name
    predicted_price: Annotated[Price, Field(gt=0)]
    confidence_lower: Price | None = None
    confidence_upper: Price | None = None
    confidence_score: Annotated[float, Field(ge=0, le=1)] | None = None

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "confidence_bounds_swapped",
            "confidence_lower",
            Comparison("confidence_lower", "<=", Column("confidence_upper")),
            "confidence_lower {confidence_lower} is above confidence_upper {confidence_upper}",
        ),
        Rule(
            "below_confidence",
            "predicted_price",
            Comparison("predicted_price", ">=", Column("confidence_lower")),
            "predicted_price {predicted_price} is below its own interval, which starts at {confidence_lower}",
            severity="warning",
        ),
        Rule(
            "above_confidence",
            "predicted_price",
            Comparison("predicted_price", "<=", Column("confidence_upper")),
            "predicted_price {predicted_price} is above its own interval, which ends at {confidence_upper}",
            severity="warning",
        ),
    )


class Forecast(
    ForecastV100,
    version="1.1.0",
    quality=(
        Duplicates(),
        Referential("symbol", "market_data", severity="warning", bound=0.05),
        RowsPerDay(severity="warning", bound=0.05),
    ),
):
    """Adds the day that is forecast, horizons below a day, the ensemble's members, and how the model has done.

    `target_date` is the UTC date of `timestamp` plus `forecast_horizon_days` unless given.
    """

    target_date: Date | None = None
    horizon_seconds: Annotated[int, Field(ge=0)] | None = None
    """For horizons below a day, with `forecast_horizon_days` 0."""
    ensemble_predictions: list[EnsemblePrediction] | None = None
    mae: _Error | None = None
    rmse: _Error | None = None
    mape: _Error | None = None
    r2: Annotated[float, Field(le=1)] | None = None

    fills: ClassVar[tuple[Fill, ...]] = (TARGET_DATE,)
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "no_horizon",
            "horizon_seconds",
            Or((Comparison("forecast_horizon_days", ">", 0), Not(IsNull("horizon_seconds")))),
            "forecast_horizon_days is {forecast_horizon_days} and horizon_seconds is not given",
            severity="warning",
        ),
    )
