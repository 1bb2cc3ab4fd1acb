"""The same table, read by libraries that know nothing of us."""

from __future__ import annotations

import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

if TYPE_CHECKING:
    from collections.abc import Callable


class ForeignRead(NamedTuple):
    """What another library found: how many rows, and the sum of their volumes."""

    library: str
    rows: int
    volume: int
    seconds: float


def read_by_others(table_url: str) -> list[ForeignRead]:
    """Count rows and add up `volume` with every library that is installed; a local table only. It blocks."""
    parts = urlsplit(table_url)
    if parts.scheme != "file" or find_spec("deltalake") is None:
        return []
    path = url2pathname(parts.path)
    readers: dict[str, Callable[[str], tuple[int, int]]] = {"deltalake": _deltalake, "polars": _polars}
    found = []
    for library, read in readers.items():
        if find_spec(library) is not None:
            started = time.perf_counter()
            rows, volume = read(path)
            found.append(ForeignRead(library, rows, volume, time.perf_counter() - started))
    return found


def _deltalake(path: str) -> tuple[int, int]:
    import pyarrow as pa
    import pyarrow.compute as pc
    from deltalake import DeltaTable, QueryBuilder

    answer = QueryBuilder().register("bars", DeltaTable(path)).execute("select volume from bars").read_all()
    volumes = pa.table(answer)["volume"]
    return len(volumes), pc.sum(volumes).as_py()


def _polars(path: str) -> tuple[int, int]:
    import polars as pl

    rows, volume = pl.scan_delta(path).select(pl.len(), pl.col("volume").sum()).collect().row(0)
    return rows, volume
