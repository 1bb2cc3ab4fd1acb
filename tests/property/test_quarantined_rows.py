"""What is kept of refused rows is judged again as they were, whatever they came in; and no row is lost or doubled."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from buffetstore.objects import MemoryStore
from buffetstore.query import DataQuery
from buffetstore.schemas import Record, SchemaManager
from buffetstore.schemas.exact_json import from_json, to_json
from buffetstore.schemas.types import Date, Price, Timestamp  # noqa: TC001 - pydantic evaluates the annotations
from buffetstore.storage import LakeStorage

NOW = datetime(2030, 1, 1, tzinfo=UTC)


class Mixed(Record, data_type="mixed", version="1.0.0", key=("symbol", "timestamp", "number"), revisions="append"):
    symbol: str
    timestamp: Timestamp
    number: int
    price: Price | None = None
    ratio: float | None = None
    day: Date | None = None
    flag: bool | None = None
    tags: list[str] | None = None


MANAGER = SchemaManager([Mixed])

moments = st.datetimes(datetime(1900, 1, 1), datetime(2029, 1, 1), timezones=st.sampled_from([None, UTC]))  # noqa: DTZ001
anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.floats(width=32).map(np.float32),
    st.decimals(allow_nan=True, allow_infinity=True),
    st.text(st.characters(codec=None, categories=("L", "N", "S", "Cs")), max_size=5),
    st.sampled_from(["1.5", "2024-01-19", "2024-01-19T00:00:00Z", "true", "nan", "1e5"]),
    st.dates(),
    moments,
    moments.map(lambda moment: pd.Timestamp(moment) + pd.Timedelta(1, "ns")),
    st.binary(max_size=3),
    st.lists(st.one_of(st.text(max_size=3), st.integers(), st.none()), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.sampled_from([pd.NA, pd.NaT, np.datetime64("2024-01-19"), np.int64(7), np.bool_(True), {1}]),
)
rows_of_anything = st.lists(
    st.fixed_dictionaries(
        {"symbol": st.one_of(st.just("A"), anything), "timestamp": st.one_of(st.just("2024-01-19T00:00:00Z"), moments)},
        optional=dict.fromkeys(("number", "price", "ratio", "day", "flag", "tags"), anything),
    ),
    min_size=1,
    max_size=6,
)


def verdict_of(data: Any) -> Any:
    return MANAGER.validate_data(data, "mixed", now=NOW, tz="UTC")


def kinds(result: Any) -> list[tuple[str, str, int]]:
    return sorted((each.field, each.error_type, each.record_index) for each in result.errors)


def kept(result: Any, rows: int) -> list[dict[str, Any]]:
    """Return all rows as a quarantine would keep and give them back."""
    given = result.detail.given
    assert given is not None
    return [from_json(to_json(record)) for record in given.records(np.arange(rows))]


@given(rows_of_anything)
def test_dicts_are_judged_again_as_they_were(rows: list[dict[str, Any]]) -> None:
    first = verdict_of(rows)
    if first.detail is None or first.detail.given is None:
        return
    again = verdict_of(kept(first, len(rows)))
    assert kinds(again) == kinds(first)
    assert again.accepted.equals(first.accepted)


arrays = st.one_of(
    st.lists(st.one_of(st.none(), st.integers(-(2**62), 2**62)), min_size=4, max_size=4).flatmap(
        lambda values: st.sampled_from(
            [
                pa.array(values, kind)
                for kind in (pa.int64(), pa.timestamp("ns"), pa.timestamp("ns", "UTC"), pa.duration("us"))
            ]
        )
    ),
    st.lists(st.one_of(st.none(), st.floats(width=32)), min_size=4, max_size=4).flatmap(
        lambda values: st.sampled_from([pa.array(values, pa.float32()), pa.array(values, pa.float64())])
    ),
    st.lists(st.one_of(st.none(), st.text(max_size=4)), min_size=4, max_size=4).flatmap(
        lambda values: st.sampled_from(
            [
                pa.array(values, pa.string()),
                pa.array(values, pa.large_string()),
                pa.array(values, pa.string()).dictionary_encode(),
                pa.array([None if value is None else value.encode() for value in values], pa.binary()),
                pa.array([None if value is None else [value] for value in values], pa.list_(pa.string())),
            ]
        )
    ),
    st.lists(st.one_of(st.none(), st.dates(date(1900, 1, 1))), min_size=4, max_size=4).map(
        lambda values: pa.array(values, pa.date32())
    ),
    st.lists(st.booleans(), min_size=4, max_size=4).map(pa.array),
    st.lists(st.decimals(-(10**9), 10**9, places=9), min_size=4, max_size=4).map(
        lambda values: pa.array(values, pa.decimal128(30, 9))
    ),
)


@given(
    st.dictionaries(st.sampled_from(["number", "price", "ratio", "day", "flag", "tags", "symbol"]), arrays), st.data()
)
def test_columns_are_judged_again_as_they_were(columns: dict[str, Any], data: st.DataObject) -> None:
    columns = {"timestamp": pa.array(["2024-01-19T00:00:00Z"] * 4)} | columns
    table = pa.table(columns)
    source = data.draw(st.sampled_from(["arrow", "pandas", "polars"]))
    if source == "pandas":
        try:
            given_: Any = table.to_pandas()
        except (pa.ArrowException, ValueError, OverflowError):
            return
    elif source == "polars":
        given_ = pl.DataFrame(table)
    else:
        given_ = table
    first = verdict_of(given_)
    if first.detail is None or first.detail.given is None:
        return
    again = verdict_of(kept(first, 4))
    # Arrow tells of a whole column what of single values is told in other words.
    assert [each[::2] for each in kinds(again)] == [each[::2] for each in kinds(first)]
    assert again.accepted.equals(first.accepted)
    assert first.refused.num_rows == len(first.rejected)


def tick(number: int, price: Any) -> dict[str, Any]:
    return {"symbol": "A", "timestamp": datetime(2024, 1, 19, tzinfo=UTC), "number": number, "price": price}


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["1.5", "x", None, -1, "y"])), min_size=1, max_size=12))
def test_rows_given_are_rows_stored_and_rows_kept(facts: list[tuple[int, Any]]) -> None:
    rows = [tick(number, price) for number, price in facts]

    async def work() -> None:
        async with LakeStorage(MemoryStore(), SchemaManager([Mixed])) as lake:
            done = await lake.store_data("mixed", rows, on_invalid="quarantine", idempotency_key="a")
            await lake.store_data("mixed", rows, on_invalid="quarantine", idempotency_key="a")
            held = (await lake.quarantine.show("mixed", limit=None)).num_rows
            assert (done.rows + done.quarantined, held) == (len(rows), done.quarantined)
            mended = await lake.quarantine.replay("mixed", filters={}, fix=lambda row: row | {"price": 7})
            assert mended.replayed + mended.refused == held
            left = (await lake.quarantine.list())[0].open if held else 0
            there = 0
            if done.rows or mended.replayed:
                there = (await lake.retrieve_data(DataQuery("mixed", revisions="all"))).rows
            assert there + left == len(rows)

    asyncio.run(work())
