# ruff: noqa: DTZ001 naive times are among what is tested
from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from buffetstore.errors import InvalidInputError, MappingError
from buffetstore.schemas.forecasts import EnsemblePrediction, Forecast
from buffetstore.schemas.intake import take_in
from buffetstore.schemas.mapping import Mapping
from buffetstore.schemas.market_data import MarketData, MarketDataV100
from buffetstore.schemas.record import contract_of

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)
CONTRACT = contract_of(MarketData)
ROW = {
    "symbol": "AAPL",
    "timestamp": datetime(2024, 1, 15, tzinfo=UTC),
    "price": 187.15,
    "volume": 1_000,
    "data_source": "exchange",
}


def take(data, contract=CONTRACT, **options):
    return take_in(data, contract, now=NOW, **options)


def types_of(findings):
    return [(finding.field, finding.error_type, finding.record_index) for finding in findings]


def test_one_dict_is_one_complete_row():
    found = take(ROW)
    assert found.error_count == found.warning_count == found.rounded == 0
    assert found.table.schema.names == CONTRACT.schema.names
    assert found.table.schema.types == CONTRACT.schema.types
    assert all(field.nullable for field in found.table.schema)
    (row,) = found.table.to_pylist()
    assert {name: value for name, value in row.items() if value is not None} == {
        **ROW,
        "price": Decimal("187.15"),
        "close": Decimal("187.15"),
        "interval": "1d",
        "created_at": NOW,
        "version": "1.2.0",
    }


@pytest.mark.parametrize(
    "data", [[], {}, {"symbol": []}, CONTRACT.schema.empty_table(), pd.DataFrame(), pl.DataFrame()]
)
def test_no_rows_are_refused(data):
    with pytest.raises(InvalidInputError, match="no rows"):
        take(data)


@pytest.mark.parametrize("data", ["AAPL", 1, None, {1, 2}, iter([ROW]), np.zeros(3)])
def test_other_kinds_are_refused_by_name(data):
    with pytest.raises(InvalidInputError, match=rf"{type(data).__name__} cannot be taken in; give a list of dicts"):
        take(data)


def test_a_list_of_anything_else_is_refused_at_its_row():
    with pytest.raises(InvalidInputError, match="row 1 is a str"):
        take([ROW, "AAPL"])


def test_a_lazy_frame_is_told_to_collect():
    with pytest.raises(InvalidInputError, match=r"\.collect\(\)"):
        take(pl.DataFrame([ROW]).lazy())


def test_a_table_of_the_contract_passes_untouched():
    given = take([{**ROW, "rsi": 50.0}] * 3).table.cast(CONTRACT.schema)
    again = take(given).table
    for name in given.column_names:
        before, after = given[name].chunk(0).buffers(), again[name].chunk(0).buffers()
        assert [buffer and buffer.address for buffer in before] == [buffer and buffer.address for buffer in after]


def test_a_stray_refuses_every_row_and_names_the_nearest_field():
    found = take([ROW, {**ROW, "pirce": 1.0}, ROW])
    assert types_of(found.errors) == [("pirce", "extra_forbidden", 1)]
    assert "did you mean 'price'" in found.errors[0].message
    assert found.rejected.tolist() == [0, 1, 2]


@pytest.mark.parametrize("shape", [list, pa.Table.from_pylist, pd.DataFrame, pl.DataFrame])
def test_strays_are_ignored_on_request(shape):
    found = take(shape([{**ROW, "note": "x", "adj": 1}]), extra="ignore")
    assert found.error_count == 0
    assert found.ignored_columns == ("note", "adj")


def test_rows_may_leave_out_different_fields():
    with_rsi = {**{k: v for k, v in ROW.items() if k != "price"}, "rsi": 50.0}
    rows = [ROW] * 2_500 + [with_rsi, ROW]
    found = take(rows)
    assert found.table["rsi"].to_pylist() == [None] * 2_500 + [50.0, None]
    assert found.table["price"].null_count == 1


def test_chunks_of_different_types_become_one_column():
    rows = [{**ROW, "price": 1.5}] * 2_000 + [{**ROW, "price": Decimal("2.5")}] * 2_000 + [{**ROW, "price": "3.5"}] * 3
    found = take([*rows, {**ROW, "price": None}, {**ROW, "price": 4}, {**ROW, "price": "bad"}])
    assert found.table["price"].num_chunks == 1
    assert found.table["price"].value_counts().to_pylist() == [
        {"values": Decimal("1.5"), "counts": 2_000},
        {"values": Decimal("2.5"), "counts": 2_000},
        {"values": Decimal("3.5"), "counts": 3},
        {"values": None, "counts": 2},
        {"values": Decimal(4), "counts": 1},
    ]
    assert types_of(found.errors) == [("price", "decimal_parsing", 4_005)]


@pytest.mark.parametrize(
    ("change", "error_type"),
    [
        ({"timestamp": datetime(2024, 1, 15)}, "timezone_aware"),
        ({"timestamp": date(2024, 1, 15)}, "timezone_aware"),
        ({"timestamp": 1_700_000_000}, "datetime_type"),
        ({"timestamp": "yesterday"}, "datetime_parsing"),
        ({"timestamp": "2024-01-15T00:00:00.123456789Z"}, "datetime_precision"),
        ({"timestamp": pd.Timestamp(1, tz="UTC")}, "datetime_precision"),
        ({"price": float("inf")}, "finite_number"),
        ({"price": Decimal("1.123456789")}, "decimal_max_places"),
        ({"price": "1.123456789"}, "decimal_max_places"),
        ({"price": 1e10}, "decimal_whole_digits"),
        ({"price": True}, "decimal_type"),
        ({"volume": True}, "int_type"),
        ({"volume": 1.5}, "int_from_float"),
        ({"volume": 2**63}, "int_parsing_size"),
        ({"rsi": float("-inf")}, "finite_number"),
        ({"symbol": 7}, "string_type"),
        ({"symbol": "\ud800"}, "string_unicode"),
        ({"version": "1.1.0"}, "version_conflict"),
        ({"created_at": NOW + timedelta(minutes=2)}, "in_future"),
        ({"available_at": NOW + timedelta(minutes=2)}, "in_future"),
    ],
)
def test_what_does_not_fit_is_found_at_its_row(change, error_type):
    (field, value), *_ = change.items()
    for shape in (list, tuple, lambda rows: {name: [row.get(name) for row in rows] for name in rows[1]}):
        found = take(shape([ROW, {**ROW, **change}, ROW]))
        assert types_of(found.errors) == [(field, error_type, 1)]
        assert found.rejected.tolist() == [1]
        assert len(found.table) == 3
        shown = str(value)[:10] if not isinstance(value, str) else repr(value)[1:6]
        assert shown in found.errors[0].message


def test_the_naive_error_names_the_remedy():
    frame = pd.DataFrame([{**ROW, "timestamp": datetime(2024, 1, 15)}] * 3)
    found = take(frame)
    assert found.error_count == 3
    assert "tz='America/New_York'" in found.errors[0].message
    assert take(frame, mapping=Mapping(tz="America/New_York")).table["timestamp"][0].as_py() == datetime(
        2024, 1, 15, 5, tzinfo=UTC
    )


def test_findings_are_capped_but_counted():
    found = take(
        pa.table({name: [value] * 5_000 for name, value in {**ROW, "timestamp": datetime(2024, 1, 15)}.items()})
    )
    assert len(found.errors) == 1_000
    assert found.error_count == 5_000
    assert found.rejected.tolist() == list(range(5_000))


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT, np.float64("nan")])
def test_missing_is_null(missing):
    found = take([{**ROW, "rsi": missing, "market_cap": missing, "currency": missing, "price": missing}, ROW])
    assert found.error_count == 0
    for name in ("rsi", "market_cap", "currency", "price"):
        assert not found.table[name][0].is_valid


def test_rounding_is_counted_for_floats_alone():
    assert take([{**ROW, "price": 0.1 + 0.2, "market_cap": 1.005}]).rounded == 2
    assert take(pa.table({**{k: [v] for k, v in ROW.items()}, "price": [0.123456789]})).rounded == 1
    assert take([{**ROW, "price": Decimal("0.30")}]).rounded == 0
    assert take([{**ROW, "price": 0.123456785}]).table["price"][0].as_py() == Decimal("0.12345678")


def test_float32_is_the_number_it_prints_as():
    table = pa.table({**{k: [v] for k, v in ROW.items()}, "price": pa.array([150.1], pa.float32())})
    assert take(table).table["price"][0].as_py() == Decimal("150.1")
    assert take(table).rounded == 0


def test_version_spellings_are_equal():
    assert take({**ROW, "version": "v1.2.0"}).table["version"].to_pylist() == ["1.2.0"]


def test_models_are_taken_with_their_nested_models():
    member = EnsemblePrediction(model_name="a", weight=0.5, predicted_price=Decimal(3))
    record = Forecast(
        symbol="AAPL",
        model_name="m",
        model_version="1",
        timestamp=datetime(2024, 1, 15, 22, tzinfo=UTC),
        forecast_horizon_days=5,
        data_source="me",
        predicted_price=Decimal("1.5"),
        ensemble_predictions=[member],
    )
    found = take([record], contract_of(Forecast))
    assert found.error_count == 0
    row = found.table.to_pylist()[0]
    assert row["ensemble_predictions"] == [{"model_name": "a", "weight": 0.5, "predicted_price": Decimal("3.00000000")}]
    assert row["target_date"] == date(2024, 1, 20)
    frame = pl.DataFrame(
        [{**row, "ensemble_predictions": [{"model_name": "a", "weight": 0.5, "predicted_price": 3.0}]}]
    )
    assert take(frame, contract_of(Forecast)).table.equals(found.table)


def test_a_nested_stray_is_found():
    row = {**ROW, "ensemble_predictions": [{"model_name": "a", "weigth": 1}]}
    found = take([row], contract_of(Forecast), extra="ignore")
    assert ("ensemble_predictions", "extra_forbidden", 0) in types_of(found.errors)


def test_an_older_version_keeps_to_its_own_fields():
    found = take([{**ROW, "close": 1.0}], contract_of(MarketDataV100))
    assert types_of(found.errors) == [("close", "extra_forbidden", 0)]


def test_availability_is_stated_or_left_open():
    assert take(ROW).table["available_at"].to_pylist() == [None]
    stated = take([ROW, {**ROW, "available_at": NOW - timedelta(days=3)}], available_at="timestamp+1d")
    assert stated.table["available_at"].to_pylist() == [datetime(2024, 1, 16, tzinfo=UTC), NOW - timedelta(days=3)]
    one_instant = take([ROW], available_at="2024-02-01T00:00:00Z").table["available_at"].to_pylist()
    assert one_instant == take([ROW], available_at=datetime(2024, 2, 1, tzinfo=UTC)).table["available_at"].to_pylist()
    assert types_of(take(ROW, available_at="timestamp+9999d").errors) == [("available_at", "in_future", 0)]


@pytest.mark.parametrize("stated", ["tomorrow", "timestamp+1fortnight", "price+1d", "2024-02-01", datetime(2024, 2, 1)])
def test_a_wrong_availability_is_refused(stated):
    with pytest.raises(InvalidInputError, match=r"available_at='timestamp\+1d'"):
        take(ROW, available_at=stated)


def test_observed_availability_is_stamped():
    observed = replace(CONTRACT, availability="observed")
    assert (
        take({**ROW, "available_at": datetime(2020, 1, 1, tzinfo=UTC)}, observed).table["available_at"][0].as_py()
        == NOW
    )
    with pytest.raises(InvalidInputError, match="stamped by the store"):
        take(ROW, observed, available_at="timestamp")


def test_a_pandas_index_is_a_field():
    frame = pd.DataFrame([ROW]).set_index("timestamp")
    assert take(frame).error_count == 0
    frame.index.name = None
    with pytest.raises(MappingError, match="index='timestamp'"):
        take(frame)
    assert take(frame, mapping=Mapping(index="timestamp")).table.equals(take(ROW).table)
    several = pd.DataFrame([ROW]).set_index(["symbol", "timestamp"])
    several.index.names = ["s", "t"]
    assert take(several, mapping=Mapping(index=("symbol", "timestamp"))).table.equals(take(ROW).table)
    with pytest.raises(MappingError, match="names 1 fields, the index has 2 levels"):
        take(several, mapping=Mapping(index="symbol"))
    with pytest.raises(MappingError, match="for pandas frames"):
        take(ROW, mapping=Mapping(index="timestamp"))


def test_pandas_types():
    frame = pd.DataFrame([ROW] * 3).astype({"symbol": "category", "volume": "Int64", "price": "Float64"})
    frame["timestamp"] = frame["timestamp"].astype("datetime64[ns, America/New_York]")
    frame["rsi"] = pd.Series([50, None, "60"], dtype=object)
    frame.loc[1, "volume"] = pd.NA
    found = take(frame[frame["symbol"] == "AAPL"])
    assert found.error_count == 0
    assert found.table["rsi"].to_pylist() == [50.0, None, 60.0]
    assert found.table["volume"].to_pylist() == [1_000, None, 1_000]
    assert found.table["timestamp"][0].as_py() == ROW["timestamp"]


def test_a_column_that_is_there_twice_is_refused():
    frame = pd.DataFrame([[1.0, 2.0]], columns=["price", "price"])
    with pytest.raises(InvalidInputError, match="'price' is there more than once"):
        take(frame)


def test_columns_of_different_length_are_refused():
    with pytest.raises(InvalidInputError, match="symbol 1, price 2"):
        take({"symbol": ["A"], "price": [1.0, 2.0]})


def test_other_threads_run_while_dicts_are_taken_in():
    ticks = 0
    done = threading.Event()

    def count():
        nonlocal ticks
        while not done.wait(0.0005):
            ticks += 1

    thread = threading.Thread(target=count)
    thread.start()
    take([dict(ROW) for _ in range(60_000)])
    done.set()
    thread.join()
    assert ticks >= 2


def test_polars_is_not_imported_for_dicts():
    script = (
        "import sys\nfrom datetime import datetime, UTC\nfrom buffetstore.schemas.intake import take_in\n"
        "from buffetstore.schemas.market_data import MarketData\nfrom buffetstore.schemas.record import contract_of\n"
        "assert 'pandas' not in sys.modules\n"
        "take_in([{'symbol': 'A'}], contract_of(MarketData), now=datetime.now(UTC))\n"
        "assert 'polars' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_missing_text_among_equal_text_is_null():
    rows = [{**ROW, "currency": currency} for currency in ("USD", pd.NA, "USD")]
    assert take(rows).table["currency"].to_pylist() == ["USD", None, "USD"]
