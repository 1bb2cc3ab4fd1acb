"""Quality checks count what a plain loop over Python values counts, however the rows are cut into windows."""

from __future__ import annotations

import itertools
import statistics
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffetstore.schemas import Duplicates, Gaps, MarketData, Outliers, StalePrices, VolumeSpikes, contract_of
from buffetstore.schemas.sessions import Sessions
from buffetstore.storage.quality import gaps
from buffetstore.storage.quality.reading import cuts_of
from buffetstore.storage.quality.tallies import tally_of
from buffetstore.storage.quality.window import Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from buffetstore.schemas import QualityCheck
    from buffetstore.storage.quality.tally import Tally

CONTRACT = contract_of(MarketData)
NOW = datetime(2030, 1, 1, tzinfo=UTC)
START = datetime(2024, 1, 1, tzinfo=UTC)
Row = dict[str, Any]

prices = st.one_of(st.none(), st.sampled_from([Decimal(text) for text in ("1", "1.5", "2", "10", "11", "1000")]))
volumes = st.sampled_from([0, 1, 2, 3, 50, 1000])
rows = st.lists(
    st.fixed_dictionaries(
        {
            "symbol": st.sampled_from(["A", "B"]),
            "timestamp": st.integers(0, 40).map(lambda day: START + timedelta(days=day)),
            "price": prices,
            "volume": volumes,
            "data_source": st.just("x"),
            "interval": st.just("1d"),
            "exchange": st.just("XTST"),
        }
    ),
    max_size=60,
)
cuts = st.lists(st.integers(0, 41), max_size=4)


def once(given_rows: list[Row]) -> list[Row]:
    """Rows of different keys, in an order of their own."""
    return list({(row["symbol"], row["timestamp"]): row for row in given_rows}.values())


def table(given_rows: list[Row]) -> pa.Table:
    names = ["symbol", "timestamp", "price", "volume", "data_source", "interval", "exchange"]
    schema = pa.schema([CONTRACT.schema.field(name).with_nullable(True) for name in names])
    return pa.Table.from_pylist(given_rows, schema=schema)


def judged(check: QualityCheck, given_rows: list[Row], at: list[int]) -> Tally[Any]:
    tally = tally_of(check, CONTRACT, NOW)
    edges = [START + timedelta(days=day) for day in sorted({-1, *at, 99})]
    for low, high in itertools.pairwise(edges):
        window = [row for row in given_rows if low <= row["timestamp"] < high]
        if window:
            tally.observe(Window(table(window), CONTRACT))
    tally.finish()
    return tally


def series(given_rows: list[Row]) -> Iterator[list[Row]]:
    for symbol in ("A", "B"):
        yield sorted((row for row in given_rows if row["symbol"] == symbol), key=lambda row: row["timestamp"])


def judged_values(values: Iterable[float], window: int, least: int) -> Iterator[tuple[float, list[float]]]:
    before: list[float] = []
    for value in values:
        if len(before[-window:]) >= least:
            yield value, before[-window:]
        before.append(value)


@given(rows, cuts, st.integers(1, 8), st.sampled_from(["returns", "levels"]), st.sampled_from([0.5, 3.0, 8.0]))
def test_outliers(found: list[Row], at: list[int], window: int, on: Any, threshold: float) -> None:
    found = once(found)
    least = max(window // 2, 1)
    check = Outliers("price", on=on, window=window, least=least, threshold=threshold, floor=0.01)
    counted = failed = 0
    for part in series(found):
        values = [float(row["price"]) for row in part if row["price"] is not None]
        if on == "returns":
            values = [value / before - 1 for before, value in itertools.pairwise(values)]
        for value, before in judged_values(values, window, least):
            middle = statistics.median(before)
            mad = statistics.median(abs(each - middle) for each in before)
            mean = statistics.fmean(abs(each - middle) for each in before)
            spread = max(1.4826 * mad if mad > 1e-12 else 1.2533 * mean, 0.01 * abs(middle) if on == "levels" else 0.01)
            counted += 1
            failed += abs(value - middle) / spread > threshold
    tally = judged(check, found, at)
    assert (tally.rows, tally.failed) == (counted, failed)
    assert len(tally.examples) == min(failed, 20)


@given(rows, cuts, st.integers(1, 8), st.sampled_from([1.5, 4.0, 20.0]))
def test_volume_spikes(found: list[Row], at: list[int], window: int, factor: float) -> None:
    found = once(found)
    least = max(window // 2, 1)
    counted = failed = 0
    for part in series(found):
        for value, before in judged_values([row["volume"] for row in part], window, least):
            middle = statistics.median(before)
            counted += middle > 0
            failed += middle > 0 and value > factor * middle
    tally = judged(VolumeSpikes("volume", factor=factor, window=window, least=least), found, at)
    assert (tally.rows, tally.failed) == (counted, failed)


@given(rows, cuts, st.integers(2, 5))
def test_stale_prices(found: list[Row], at: list[int], least: int) -> None:
    found = once(found)
    traded = stale = 0
    for part in series(found):
        run: list[Row] = []
        runs = [run]
        for row in part:
            if row["price"] is None or not row["volume"]:
                runs.append(run := [])
                continue
            traded += 1
            if run and run[-1]["price"] != row["price"]:
                runs.append(run := [])
            run.append(row)
        stale += sum(len(run) for run in runs if len(run) >= least)
    tally = judged(StalePrices("price", rows=least), found, at)
    assert (tally.rows, tally.failed) == (traded, stale)


@given(rows, cuts)
def test_duplicates(found: list[Row], at: list[int]) -> None:
    tally = judged(Duplicates(), found, at)
    assert (tally.rows, tally.failed) == (len(found), len(found) - len(once(found)))


def exchange(closed: set[int]) -> Sessions:
    days = np.array([np.datetime64("2024-01-01") + day for day in range(41) if day not in closed])
    opens = days.astype("datetime64[us]") + np.timedelta64(14, "h")
    none = np.full(len(days), np.datetime64("NaT", "us"))
    return Sessions(days, opens, opens + np.timedelta64(7, "h"), none, none, "UTC")


@given(rows, cuts, st.sets(st.integers(0, 40), max_size=20))
def test_gaps(found: list[Row], at: list[int], closed: set[int]) -> None:
    expected = missing = 0
    for part in series(found):
        there = {(row["timestamp"] - START).days for row in part} - closed
        if there:
            wanted = set(range(min(there), max(there) + 1)) - closed
            expected += len(wanted)
            missing += len(wanted - there)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(gaps, "sessions_of", lambda mic: exchange(closed))
        tally = judged(Gaps("1d"), found, at)
    assert (tally.rows, tally.failed) == (expected, missing)
    assert sum(example["missing"] for example in tally.examples) == missing or len(tally.examples) == 20


spans = st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 50), st.integers(1, 100)), max_size=40)


@given(spans, st.integers(1, 300))
def test_time_is_cut_where_no_file_reaches_across_unless_the_files_are_too_large(
    files: list[tuple[int, int, int]], target: int
) -> None:
    low, high, size = (
        (np.array(column, np.int64) for column in zip(*files, strict=True)) if files else [np.zeros(0, int)] * 3
    )
    high = low + high
    found = cuts_of(low, high, size, target)
    assert found == sorted(set(found))
    for cut in found:
        crossing = [number for number in range(len(low)) if low[number] < cut <= high[number]]
        if crossing:
            reach = [low[crossing].min(), high[crossing].max()]
            for _ in files:  # everything that hangs together with them
                inside = (low <= reach[1]) & (high >= reach[0])
                reach = [low[inside].min(), high[inside].max()]
            assert size[(low >= reach[0]) & (high <= reach[1])].sum() > target
