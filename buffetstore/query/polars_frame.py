"""Arrow to polars; loaded where it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    import pyarrow as pa


def to_polars(table: pa.Table) -> pl.DataFrame:
    """Return the table as a polars data frame."""
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame
