"""The real bars that the demo stores, and what is computed from them."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from buffetstore.demo.indicators import moving_average, relative_strength_index, volatility
from buffetstore.errors import MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

SOURCE: Final = "quandl-wiki"
EXCHANGES: Final = {"AAPL": "XNAS", "FB": "XNAS", "GOOG": "XNAS", "IBM": "XNYS", "MSFT": "XNAS"}


@dataclass(frozen=True, slots=True)
class Closes:
    """One symbol's days: closing prices as traded, and the same adjusted for splits and dividends."""

    symbol: str
    days: NDArray[np.datetime64]
    closes: NDArray[np.float64]
    adjusted: NDArray[np.float64]


def load_bars() -> pa.Table:
    """Return the daily bars 2000-2013 of five companies, as the package `bokeh-sampledata` ships them.

    The source is Quandl's WIKI prices, which Quandl declared public domain.

    Raises
    ------
    MissingDependencyError
        The extra `demo` is not installed.
    """
    try:
        # The package's own module would import pandas; its file is all that is needed.
        path = files("bokeh_sampledata") / "_data" / "stocks.csv.gz"
    except ModuleNotFoundError as error:
        raise MissingDependencyError("bokeh-sampledata", "demo") from error
    with path.open("rb") as packed, gzip.open(packed) as content:
        return csv.read_csv(content)


def by_symbol(bars: pa.Table) -> Iterator[tuple[pa.Table, Closes]]:
    """Yield each symbol's bars, and their closes as numpy arrays."""
    for symbol in EXCHANGES:
        own = bars.filter(pc.equal(bars["Ticker"], symbol)).sort_by("Date")
        yield (
            own,
            Closes(
                symbol,
                own["Date"].to_numpy().astype("datetime64[D]"),
                own["Close"].to_numpy(),
                own["Adj Close"].to_numpy(),
            ),
        )


def with_indicators(bars: pa.Table) -> pa.Table:
    """Return `bars` with rsi, sma_20, sma_50, sma_200, volatility and the exchange of each symbol.

    They are computed from adjusted closes, so that a split is no crash; the averages are given in the dollars of
    their day, to be compared with that day's price.
    """
    return pa.concat_tables(_with_indicators(own, closes) for own, closes in by_symbol(bars))


def _with_indicators(bars: pa.Table, own: Closes) -> pa.Table:
    in_dollars_of_the_day = own.closes / own.adjusted
    columns = {
        "rsi": relative_strength_index(own.adjusted),
        **{f"sma_{days}": moving_average(own.adjusted, days) * in_dollars_of_the_day for days in (20, 50, 200)},
        "volatility": volatility(own.adjusted),
    }
    for name, values in columns.items():
        # Before its window is full an indicator has no value: null, not NaN.
        bars = bars.append_column(name, pa.array(values, from_pandas=True))
    return bars.append_column("exchange", pa.array([EXCHANGES[own.symbol]] * len(bars)))
