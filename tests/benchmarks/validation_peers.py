"""What 1,000,000 market rows are validated with elsewhere: the same five rules in other libraries' words, and by hand.

Required columns are there, price > 0, volume >= 0, 0 <= rsi <= 100, the symbol matches, (symbol, timestamp) is unique.
"""

from __future__ import annotations

from datetime import datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, Field, TypeAdapter
from typing_extensions import TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable

SYMBOL = r"^[A-Z]{1,5}$"
REQUIRED = ("symbol", "timestamp", "price", "volume", "data_source")
NUMBERS = ("open", "high", "low", "market_cap", "pe_ratio", "rsi", "volatility", "beta")


class NaiveBar(BaseModel):
    symbol: Annotated[str, Field(pattern=SYMBOL)]
    timestamp: datetime
    open: float | None
    high: float | None
    low: float | None
    price: Annotated[float, Field(gt=0)]
    volume: Annotated[int, Field(ge=0)]
    market_cap: float | None
    pe_ratio: float | None
    rsi: Annotated[float, Field(ge=0, le=100)] | None
    volatility: float | None
    beta: float | None
    data_source: str


TypedBar = TypedDict("TypedBar", {name: info.rebuild_annotation() for name, info in NaiveBar.model_fields.items()})


def naive_pydantic(rows: list[dict[str, Any]]) -> pa.Table:
    """Models, dumped, to Arrow; without keys."""
    return pa.Table.from_pylist([bar.model_dump() for bar in TypeAdapter(list[NaiveBar]).validate_python(rows)])


def typed_dicts(rows: list[dict[str, Any]]) -> int:
    """The fastest that pydantic does: validation alone, without keys."""
    return len(TypeAdapter(list[TypedBar]).validate_python(rows))


def polars_expressions(frame: pl.DataFrame) -> None:
    answer = frame.lazy().select(
        (pl.col("price") > 0).all().alias("price"),
        pl.col("rsi").is_between(0, 100).all().alias("rsi"),
        pl.col("symbol").str.contains(SYMBOL).all().alias("symbol"),
        (pl.col("volume") >= 0).all().alias("volume"),
        *[(pl.col(name).null_count() == 0).alias(f"{name} is there") for name in REQUIRED],
        (pl.struct("symbol", "timestamp").n_unique() == pl.len()).alias("unique"),
    )
    assert all(answer.collect().row(0))


def pyarrow_masks(table: pa.Table) -> None:
    """The obvious way: a mask for each rule, a group for each key."""
    masks = [
        pc.greater(table["price"], 0),
        pc.greater_equal(table["volume"], 0),
        pc.and_(pc.greater_equal(table["rsi"], 0), pc.less_equal(table["rsi"], 100)),
        pc.match_substring_regex(table["symbol"], SYMBOL),
    ]
    assert all(pc.all(mask).as_py() for mask in masks)
    assert not any(table[name].null_count for name in REQUIRED)
    assert table.group_by(["symbol", "timestamp"]).aggregate([]).num_rows == len(table)


def numpy_by_hand(table: pa.Table) -> None:
    """What somebody writes who knows that the rows are sorted by symbol and time, and how to do it fast."""
    for name, low, high in (("price", 0.0, np.inf), ("volume", 0, 2**63 - 1), ("rsi", 0.0, 100.0)):
        x = np.frombuffer(table[name].chunk(0).buffers()[1], np.int64 if name == "volume" else np.float64)
        assert low <= x.min()
        assert x.max() <= high
    assert not any(table[name].null_count for name in REQUIRED)
    symbols = table["symbol"].chunk(0)
    encoded = symbols if pa.types.is_dictionary(symbols.type) else symbols.dictionary_encode()
    assert pc.all(pc.match_substring_regex(encoded.dictionary, SYMBOL)).as_py()
    codes = encoded.indices.to_numpy()
    time = np.frombuffer(table["timestamp"].chunk(0).buffers()[1], np.int64)
    changes = codes[1:] != codes[:-1]
    assert ((time[1:] > time[:-1]) | changes).all()
    assert np.count_nonzero(changes) + 1 == len(encoded.dictionary)


def pandera_polars() -> Callable[[Any], Any]:
    import pandera.polars as pa_pl

    required = pa_pl.Check
    schema = pa_pl.DataFrameSchema(
        {
            "symbol": pa_pl.Column(pl.String, required.str_matches(SYMBOL)),
            "timestamp": pa_pl.Column(pl.Datetime("us", "UTC")),
            "price": pa_pl.Column(pl.Float64, required.gt(0)),
            "volume": pa_pl.Column(pl.Int64, required.ge(0)),
            "data_source": pa_pl.Column(pl.String),
            **{name: pa_pl.Column(pl.Float64, nullable=True) for name in NUMBERS},
            "rsi": pa_pl.Column(pl.Float64, required.in_range(0, 100), nullable=True),
        },
        unique=["symbol", "timestamp"],
    )
    return lambda frame: schema.validate(frame, lazy=True)


def pandera_pandas() -> Callable[[Any], Any]:
    import pandera.pandas as pa_pd

    required = pa_pd.Check
    schema = pa_pd.DataFrameSchema(
        {
            "symbol": pa_pd.Column(None, required.str_matches(SYMBOL)),
            "timestamp": pa_pd.Column(pd.DatetimeTZDtype("us", "UTC")),
            "price": pa_pd.Column("float64", required.gt(0)),
            "volume": pa_pd.Column("int64", required.ge(0)),
            "data_source": pa_pd.Column(None),
            **{name: pa_pd.Column("float64", nullable=True) for name in NUMBERS},
            "rsi": pa_pd.Column("float64", required.in_range(0, 100), nullable=True),
        },
        unique=["symbol", "timestamp"],
    )
    return lambda frame: schema.validate(frame, lazy=True)


def dataframely_filter() -> Callable[[Any], Any]:
    import dataframely as dy

    class Bars(dy.Schema):
        symbol = dy.String(primary_key=True, regex=SYMBOL)
        timestamp = dy.Datetime(primary_key=True, time_zone="UTC")
        open = dy.Float64(nullable=True)
        high = dy.Float64(nullable=True)
        low = dy.Float64(nullable=True)
        price = dy.Float64(min_exclusive=0)
        volume = dy.Int64(min=0)
        market_cap = dy.Float64(nullable=True)
        pe_ratio = dy.Float64(nullable=True)
        rsi = dy.Float64(nullable=True, min=0, max=100)
        volatility = dy.Float64(nullable=True)
        beta = dy.Float64(nullable=True)
        data_source = dy.String()

    def check(frame: pl.DataFrame) -> Any:
        good, failures = Bars.filter(frame)
        return good, failures.counts()

    return check


def installed(name: str) -> bool:
    return find_spec(name) is not None
