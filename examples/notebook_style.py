"""The blocking face, as in a notebook: no await, cell after cell, also while a loop runs (Jupyter, Streamlit)."""

from __future__ import annotations

import asyncio
import tempfile

import numpy as np
import pandas as pd

from buffetstore import DataQuery, Mapping, sync


def cells(folder: str) -> None:
    # %% Open; `storage.close()` at the end, or `with sync.open(...) as storage:`.
    storage = sync.open(folder)

    # %% A frame as a vendor gives it: other names, a naive index.
    days = pd.date_range("2023-01-02", "2023-12-29", freq="B")
    walk = 130 * np.exp(np.cumsum(np.random.default_rng(7).normal(0.0005, 0.012, len(days))))
    frame = pd.DataFrame({"Close": walk, "Volume": 1_000_000}, index=days)
    print(frame.head(2))

    # %% Store it: the mapping says what is what.
    result = storage.store_data(
        "market_data",
        frame,
        mapping=Mapping(columns={"price": "Close", "volume": "Volume"}, index="timestamp", symbol="DEMO"),
        data_source="simulated",
        tz="America/New_York",
    )
    print(f"{result.rows} rows, {result.rounded} values rounded to eight decimals")
    assert result.inserted == len(frame)

    # %% Read a quarter as pandas, and do what one does.
    answer = storage.retrieve_data(
        DataQuery("market_data", {"symbol": "DEMO"}, {"start": "2023-04-01", "end": "2023-06-30"})
    )
    quarter = answer.to_pandas().set_index("timestamp")["price"]
    print(f"{len(quarter)} days, return {quarter.iloc[-1] / quarter.iloc[0] - 1:+.1%}")
    assert quarter.dtype == float
    assert np.allclose(quarter.to_numpy(), frame.loc["2023-04":"2023-06", "Close"].to_numpy(), atol=1e-8)

    # %% More than fits: a plain loop over batches.
    rows = sum(len(batch) for batch in storage.scan(DataQuery("market_data")))
    print(f"{rows} rows in batches")
    assert rows == len(frame)

    # %%
    print(storage.list_data_types(), storage.describe("market_data").rows)
    storage.close()


async def jupyter(folder: str) -> None:
    """A notebook's cells run inside a loop that is running already."""
    cells(folder)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(jupyter(folder))
