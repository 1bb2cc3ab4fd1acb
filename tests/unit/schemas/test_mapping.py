from __future__ import annotations

import zipfile
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import csv

from buffetstore.errors import MappingError
from buffetstore.schemas.intake import take_in
from buffetstore.schemas.mapping import Mapping
from buffetstore.schemas.market_data import MarketData
from buffetstore.schemas.options_data import OptionsData
from buffetstore.schemas.record import contract_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DATA = Path(__file__).parents[3] / "../shared/data"
NEW_YORK = "America/New_York"
MARKET, OPTIONS = contract_of(MarketData), contract_of(OptionsData)
TENTH_OF_MILL = Decimal("0.0001")
BARS = ("timestamp", "open", "high", "low", "close", "volume")


def real(name):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"needs the real data file {name}")
    return path


def read_headerless(path, columns, types=None):
    with zipfile.ZipFile(path) as archive:
        name = archive.namelist()[0]
        with archive.open(name) as file:
            options = csv.ReadOptions(column_names=[f"f{i}" for i in range(columns)])
            return name, csv.read_csv(file, options, convert_options=csv.ConvertOptions(column_types=types))


def test_columns_constants_and_zone():
    frame = pd.DataFrame({"Date": ["2024-01-15 16:00"], "Close": [1.5], "Vol": [3]})
    mapping = Mapping(
        columns={"timestamp": "Date", "price": "Close", "volume": "Vol"},
        constants={"data_source": "yahoo"},
        symbol="AAPL",
        tz=NEW_YORK,
    )
    (row,) = take_in(frame, MARKET, mapping=mapping, now=NOW).table.to_pylist()
    assert (row["symbol"], row["data_source"], row["price"], row["volume"]) == ("AAPL", "yahoo", Decimal("1.5"), 3)
    assert row["timestamp"] == datetime(2024, 1, 15, 21, tzinfo=UTC)


def test_rows_with_other_names():
    rows = [{"ticker": "A", "px": 1.5}, {"ticker": "B", "px": 2.5}]
    found = take_in(rows, MARKET, mapping=Mapping(columns={"symbol": "ticker", "price": "px"}), now=NOW)
    assert found.table["symbol"].to_pylist() == ["A", "B"]
    assert found.table["price"].to_pylist() == [Decimal("1.5"), Decimal("2.5")]


def test_options_of_the_command_line():
    found = Mapping.from_options(
        map=["Close=price", "Date=timestamp"], set=["data_source=yahoo"], tz=NEW_YORK, scale="bid=0.01,ask=1E-4"
    )
    assert found == Mapping(
        columns={"price": "Close", "timestamp": "Date"},
        constants={"data_source": "yahoo"},
        tz=NEW_YORK,
        scale={"bid": Decimal("0.01"), "ask": Decimal("0.0001")},
    )
    assert Mapping.from_options(scale="0.0001").scale == TENTH_OF_MILL


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"map": ["Close"]}, "--map 'Close' is not of the form Close=price"),
        ({"set": ["=x"]}, "--set '=x' is not of the form data_source=yahoo"),
        ({"scale": "cents"}, "'cents' is neither a number"),
        ({"scale": "0.3"}, "no power of ten"),
        ({"scale": "NaN"}, "no power of ten"),
        ({"tz": "America/New_Yrok"}, "did you mean 'America/New_York'"),
        ({"tz": ""}, "is no time zone"),
        ({"file_pattern": "("}, "no regular expression"),
        ({"header": ("a", "a")}, "a name twice"),
        ({"map": ["A=price"], "set": ["price=1"]}, "mapped to a column and set to a constant"),
    ],
)
def test_a_contradictory_mapping_is_refused(options, message):
    with pytest.raises(MappingError, match=message):
        Mapping.from_options(**options)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (
            Mapping(columns={"price": "Clsoe"}),
            r"'Clsoe', which does not exist \(did you mean 'Close'\?\); columns are Close",
        ),
        (Mapping(columns={"pirce": "Close"}), r"no field 'pirce' \(did you mean 'price'"),
        (Mapping(constants={"sourc": 1}), "no field 'sourc'"),
        (Mapping(constants={"price": "dear"}), "constant price: 'dear' is not a number"),
        (Mapping(scale={"volume": TENTH_OF_MILL}, columns={"volume": "Volume"}), "only decimals can be scaled"),
        (Mapping(scale={"market_cap": TENTH_OF_MILL}, columns={"market_cap": "Close"}), "does not fit its 2 decimal"),
        (Mapping(milliseconds="Close"), "counts from midnight"),
        (Mapping(milliseconds="ms", date=date(2024, 1, 1), tz="UTC"), "'ms', which does not exist"),
        (Mapping(header=("a", "b", "c")), "header has 3 names"),
    ],
)
@pytest.mark.parametrize("shape", [pd.DataFrame, pl.DataFrame, pa.table])
def test_a_mapping_that_does_not_fit_is_refused(mapping, message, shape):
    with pytest.raises(MappingError, match=message):
        take_in(shape({"Close": [1.5], "Volume": [1]}), MARKET, mapping=mapping, extra="ignore", now=NOW)


def test_a_missing_column_is_found_in_rows_too():
    with pytest.raises(MappingError, match=r"'Clsoe'.*did you mean 'Close'"):
        take_in([{"Close": 1.5}], MARKET, mapping=Mapping(columns={"price": "Clsoe"}), now=NOW)


def test_a_row_that_contradicts_a_constant_is_an_error():
    rows = [{"data_source": "yahoo"}, {"data_source": None}, {"data_source": "iex"}]
    found = take_in(rows, MARKET, mapping=Mapping(constants={"data_source": "yahoo"}), now=NOW)
    assert [(e.field, e.error_type, e.record_index) for e in found.errors] == [("data_source", "constant_conflict", 2)]
    assert found.table["data_source"].to_pylist() == ["yahoo", "yahoo", "iex"]


def test_scale_is_exact_for_every_source():
    mapping = Mapping(scale=TENTH_OF_MILL)
    for prices in ([136300], [136300.0], [Decimal(136300)], ["136300"]):
        found = take_in({"price": prices}, MARKET, mapping=mapping, now=NOW)
        assert found.table["price"].to_pylist() == [Decimal("13.63000000")]
        assert found.rounded == 0
    assert take_in({"price": [1.23455]}, MARKET, mapping=mapping, now=NOW).rounded == 1


def test_milliseconds_since_midnight():
    mapping = Mapping(milliseconds="ms", date=date(2014, 6, 6), tz=NEW_YORK)
    found = take_in({"ms": [14_400_000, 0, None, 86_400_000, -1]}, MARKET, mapping=mapping, now=NOW)
    assert found.table["timestamp"].to_pylist() == [
        datetime(2014, 6, 6, 8, tzinfo=UTC),
        datetime(2014, 6, 6, 4, tzinfo=UTC),
        None,
        None,
        None,
    ]
    assert [error.record_index for error in found.errors] == [3, 4]
    skipped = Mapping(milliseconds="ms", date=date(2024, 3, 10), tz=NEW_YORK)
    (error,) = take_in([{"ms": 9_000_000}], MARKET, mapping=skipped, now=NOW).errors
    assert error.error_type == "nonexistent_time"


def test_a_file_name_is_read():
    mapping = Mapping(
        file_pattern=r"(?P<date>\d{8})_(?P<underlying_symbol>[a-z]+)_.*_(?P<option_type>call|put)_(?P<strike_price>\d+)"
        r"_(?P<expiration_date>\d{8})",
        scale=TENTH_OF_MILL,
        milliseconds="ms",
        tz=NEW_YORK,
    ).for_file("20151223_goog_minute_quote_american_call_6000000_20151224.csv")
    assert mapping.date == date(2015, 12, 23)
    (row,) = take_in([{"ms": 34_200_000}], OPTIONS, mapping=mapping, now=NOW).table.to_pylist()
    assert (row["strike_price"], row["expiration_date"], row["option_type"]) == (600, date(2015, 12, 24), "call")
    assert row["contract_symbol"] == "GOOG  151224C00600000"
    with pytest.raises(MappingError, match=r"'prices\.csv' does not match"):
        mapping.for_file("prices.csv")


def test_real_daily_bars():
    _, table = read_headerless(real("equity_daily_aapl.zip"), 6)
    mapping = Mapping(header=BARS, symbol="AAPL", constants={"data_source": "file"}, tz=NEW_YORK, scale=TENTH_OF_MILL)
    found = take_in(table, MARKET, mapping=mapping, now=NOW)
    assert found.error_count == found.rounded == 0
    first = found.table.slice(0, 1).to_pylist()[0]
    assert first["timestamp"] == datetime(1998, 1, 2, 5, tzinfo=UTC)
    assert (first["open"], first["price"], first["volume"]) == (Decimal("13.63"), Decimal("16.25"), 6_315_000)
    as_floats = pa.table([table[0], *(table[i].cast(pa.float64()) for i in range(1, 6))], names=table.column_names)
    assert take_in(as_floats, MARKET, mapping=mapping, now=NOW).table.equals(found.table)


def test_real_minute_bars():
    name, table = read_headerless(real("equity_minute_aapl_20140606_trade.zip"), 6)
    mapping = Mapping(
        header=("ms", *BARS[1:]),
        milliseconds="ms",
        file_pattern=r"^(?P<date>\d{8})_",
        symbol="AAPL",
        constants={"data_source": "file", "interval": "1m"},
        tz=NEW_YORK,
        scale=TENTH_OF_MILL,
    ).for_file(name)
    found = take_in(table, MARKET, mapping=mapping, now=NOW)
    assert found.error_count == 0
    assert found.table["timestamp"][0].as_py() == datetime(2014, 6, 6, 8, tzinfo=UTC)
    assert found.table["close"][0].as_py() == Decimal("649.10")


def test_real_option_chain():
    path = real("option_chain_goog_20151223.csv")
    options = csv.ConvertOptions(column_types={"#expiry": pa.string()})
    chain = csv.read_csv(path, convert_options=options)
    chain = chain.filter(pa.compute.not_equal(chain["#expiry"], ""))
    mapping = Mapping(
        columns={"expiration_date": "#expiry", "strike_price": "strike", "option_type": "right", "last_price": "close"},
        constants={"underlying_symbol": "GOOG", "timestamp": "2015-12-23T21:00:00Z", "data_source": "file"},
    )
    found = take_in(chain, OPTIONS, mapping=mapping, extra="ignore", now=NOW)
    assert found.error_count == 0
    assert found.ignored_columns == ("open", "high", "low")
    assert found.table["contract_symbol"][0].as_py() == "GOOG  151224C00590000"
    assert found.table["contract_symbol"].null_count == 0
    assert set(found.table["option_type"].to_pylist()) == {"call", "put"}
    without = found.table["implied_volatility"].null_count
    assert 0 < without == found.warning_count < found.table.num_rows
