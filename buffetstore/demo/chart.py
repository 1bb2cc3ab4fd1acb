"""A picture of one answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

_INK, _PRICE, _FAST, _SLOW, _BAND = "#1b2733", "#1f6f8b", "#e08e45", "#a23e48", "#1f6f8b"


def draw(prices: pa.Table, forecasts: pa.Table, path: Path, title: str) -> None:
    """Draw prices, moving averages, forecast intervals and the strength index into a PNG file at `path`."""
    with mpl.rc_context({"font.size": 9, "axes.edgecolor": _INK, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(11, 6.2), dpi=130, layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        days = prices["timestamp"].to_numpy()
        above.plot(days, prices["price"].cast("float64"), color=_PRICE, lw=1.3, label="close")
        for name, colour in (("sma_50", _FAST), ("sma_200", _SLOW)):
            above.plot(days, prices[name].cast("float64"), color=colour, lw=1, label=name.replace("_", " "))
        due = forecasts["target_date"].to_numpy()
        lower, upper = (forecasts[name].cast("float64") for name in ("confidence_lower", "confidence_upper"))
        above.vlines(due, lower, upper, color=_BAND, alpha=0.25, lw=5, label="forecast, 95 % interval, 30 days ahead")
        above.set_ylabel("US dollars, as traded")
        above.legend(loc="upper left", frameon=False)
        above.set_title(title, loc="left", color=_INK, fontsize=12, fontweight="bold")
        below.plot(days, prices["rsi"].to_numpy(), color=_INK, lw=0.8)
        for level in (30, 70):
            below.axhline(level, color=_SLOW, lw=0.6, ls="--")
        below.set_ylim(0, 100)
        below.set_ylabel("rsi")
        above.set_xlim(days[0], days[-1])
        for axes in (above, below):
            axes.grid(visible=True, alpha=0.2)
        figure.savefig(path)
