"""Files of the shapes that vendors write, real ones and made ones, and what an independent reading of each finds."""

from __future__ import annotations

import csv
import io
import zipfile
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from buffetstore.schemas import Mapping
from buffetstore.schemas.mapping_document import mapping_document

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = Path(__file__).parents[4] / "shared/data"
NEW_YORK = ZoneInfo("America/New_York")
MILL = Decimal("0.0001")
BAR = ("open", "high", "low", "close")
MARKET = ("symbol", "timestamp", "interval", "data_source", *BAR, "price", "volume")
GREEKS = ("delta", "gamma", "vega", "theta", "rho")
CONTRACT = ("underlying_symbol", "contract_symbol", "expiration_date", "strike_price", "option_type", "timestamp")
CHAIN = (*CONTRACT, "last_price", "volume", "open_interest", "implied_volatility", *GREEKS, "data_source")
QUOTES = (*CONTRACT, "exercise_style", "bid", "ask", "bid_size", "ask_size", "data_source")

PARTS = {"expiration_date": "#expiry", "strike_price": "strike", "option_type": "right"}


@dataclass
class Reading:
    """What plain Python reads: good rows, the fields that are wrong with each of the others, and odd rows."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    rejected: dict[tuple[str, int], set[str]]
    warnings: int = 0


@dataclass(frozen=True)
class Case:
    name: str
    file: str
    data_type: str
    mapping: Mapping
    options: tuple[str, ...]
    read: Callable[[Path], Reading]
    make: Callable[[Path], None]

    @property
    def document(self) -> dict[str, Any]:
        """The mapping, to be kept in a file."""
        return mapping_document(self.mapping)


def members(path: Path) -> list[tuple[str, list[list[str]]]]:
    with zipfile.ZipFile(path) as archive:
        return [
            (name, list(csv.reader(io.StringIO(archive.read(name).decode(), newline=""))))
            for name in archive.namelist()
        ]


def number(text: str) -> Decimal | None:
    try:
        return Decimal(text)
    except ArithmeticError:
        return None


def market_row(symbol: str, moment: datetime, interval: str, cells: list[str]) -> tuple[tuple[Any, ...], set[str]]:
    """Return a row, and the fields that break the contract's rules, written out once more."""
    numbers = [number(cell) for cell in cells]
    if any(value is None for value in numbers):
        return (), {name for name, value in zip((*BAR, "volume"), numbers, strict=True) if value is None}
    first, high, low, last, volume = (value for value in numbers if value is not None)
    wrong = {
        name
        for name, broken in (
            ("price", last <= 0),
            ("low", low > first or low > last or low > high),
            ("high", first > high or last > high),
            ("volume", volume < 0 or volume != int(volume)),
        )
        if broken
    }
    prices = [value * MILL for value in (first, high, low, last)]
    return (symbol, moment.astimezone(UTC), interval, "lean", *prices, prices[-1], int(volume)), wrong


def read_daily(path: Path) -> Reading:
    found = Reading(MARKET, [], {})
    for name, lines in members(path):
        for line, (day, *cells) in enumerate(lines):
            moment = datetime.strptime(day, "%Y%m%d %H:%M").replace(tzinfo=NEW_YORK)
            row, wrong = market_row(Path(name).stem.upper(), moment, "1d", cells)
            if wrong:
                found.rejected[name, line] = wrong
            else:
                found.rows.append(row)
    return found


def moment_of(day: str, milliseconds: str) -> datetime:
    seconds, rest = divmod(int(milliseconds), 1000)
    clock = time(seconds // 3600, seconds // 60 % 60, seconds % 60, rest * 1000)
    return datetime.combine(iso(day), clock, NEW_YORK)


def read_minutes(path: Path) -> Reading:
    found = Reading(MARKET, [], {})
    for name, lines in members(path):
        day, symbol, *_ = name.split("_")
        for line, (milliseconds, *cells) in enumerate(lines):
            row, wrong = market_row(symbol.upper(), moment_of(day, milliseconds), "1m", cells)
            if wrong:
                found.rejected[name, line] = wrong
            else:
                found.rows.append(row)
    return found


def osi(symbol: str, day: str, kind: str, strike: Decimal) -> str:
    return f"{symbol:<6}{day[2:]}{kind[0].upper()}{int(strike * 1000):08}"


def iso(day: str) -> date:
    return date(int(day[:4]), int(day[4:6]), int(day[6:]))


def read_chain(path: Path) -> Reading:
    found = Reading(CHAIN, [], {})
    symbol = path.name.split("_")[2].upper()
    moment = datetime.combine(iso(path.stem.split("_")[3]), time(16), NEW_YORK).astimezone(UTC)
    with path.open(newline="") as file:
        for line, cells in enumerate(csv.DictReader(file)):
            wrong = {
                field
                for field, column in (
                    ("expiration_date", "#expiry"),
                    ("strike_price", "strike"),
                    ("option_type", "right"),
                )
                if not cells[column]
            }
            if wrong:
                found.rejected[path.name, line] = wrong | {"contract_symbol"}
                continue
            kind = {"C": "call", "P": "put"}[cells["right"]]
            strike = Decimal(cells["strike"])
            figures = [float(cells[name]) if cells[name] else None for name in ("implied_volatility", *GREEKS)]
            if all(value == 0 for value in figures):
                figures, found.warnings = [None] * 6, found.warnings + 1
            counts = [int(cells[name]) if cells[name] else None for name in ("volume", "open_interest")]
            found.rows.append(
                (
                    *(symbol, osi(symbol, cells["#expiry"], kind, strike), iso(cells["#expiry"]), strike, kind, moment),
                    *(Decimal(cells["close"]), *counts, *figures, "lean"),
                )
            )
    return found


def read_quotes(path: Path) -> Reading:
    found = Reading(QUOTES, [], {})
    for name, lines in members(path):
        day, symbol, _, _, style, kind, strike, expiry = name.removesuffix(".csv").split("_")
        price = Decimal(strike) * MILL
        symbol = symbol.upper()
        for line, cells in enumerate(lines):
            milliseconds, bid, bid_size, ask, ask_size = (cells[place] for place in (0, 4, 5, 9, 10))
            wrong = {"bid_size"} if int(bid_size) < 0 else set()
            if wrong:
                found.rejected[name, line] = wrong
                continue
            sides = [Decimal(each) * MILL if each else None for each in (bid, ask)]
            found.warnings += bool(bid and ask and int(bid) > int(ask))
            found.rows.append(
                (
                    *(symbol.upper(), osi(symbol.upper(), expiry, kind, price), iso(expiry), price, kind),
                    *(
                        moment_of(day, milliseconds).astimezone(UTC),
                        style,
                        *sides,
                        int(bid_size),
                        int(ask_size),
                        "lean",
                    ),
                )
            )
    return found


def archive(path: Path, files: dict[str, str]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, text in files.items():
            target.writestr(name, text)


def make_daily(path: Path) -> None:
    lines = [
        "20240308 00:00,1000000,1010000,990000,1005000,100",  # the days around a change of clocks
        "20240311 00:00,1000000,1010000,990000,1005001,9007199254740993",
        "20241101 00:00,1000000,1010000,990000,1005000,1e5",
        "20241104 00:00,0,1010000,0,1005000,0",
        "20241105 00:00,1000000,1010000,990000,0,100",  # no price
        "20241106 00:00,1000000,990000,1010000,1000000,100",  # high below low
        "20241107 00:00,1000000,1010000,990000,1005000,-5",
        "20241108 00:00,1000000,1010000,990000,1005000,many",
        "20241111 00:00,1000000,1010000,990000,1020000,7",  # close above high
        "20241112 00:00,1,1,1,1,1.5",
    ]
    archive(path, {"aapl.csv": "\n".join(lines) + "\n"})


def make_minutes(path: Path) -> None:
    bars = "{0},6488000,6491000,6488000,6491000,300\n{1},6493500,6493500,6493500,6493500,100\n{2},5,4,3,2,1\n"
    archive(
        path,
        {
            "20240308_aapl_minute_trade.csv": bars.format(14_400_000, 34_200_000, 71_940_000),
            "20240311_aapl_minute_trade.csv": bars.format(14_400_000, 34_200_000, 71_940_000),
            "20240311_msft_minute_trade.csv": bars.format(0, 34_200_000, 86_340_000),
        },
    )


def make_chain(path: Path) -> None:
    path.write_text(
        "#expiry,strike,right,open,high,low,close,volume,open_interest,implied_volatility,delta,gamma,vega,theta,rho\n"
        ",,,749.55,749.99,748.54,748.54,11492,,,,,,,\n"
        "20151224,590,C,159.8,164.4,154.45,160.05,0,,0,0,0,0,0,0\n"
        "20151224,600.5,P,0,0,0,0,0,17,0,-1,0,0,-0.5,-3.25\n"
        "20180119,1120,P,383.5,387.1,379.15,383.0001,12,853,0.1252449,-0.9764597,0.0003764,0.5491063,0.0228216,-22.4\n"
    )


def make_quotes(path: Path) -> None:
    name = "20151223_goog_minute_quote_american_{}_{}_20151224.csv"
    archive(
        path,
        {
            name.format("call", 6000000): (
                "34200000,1529000,1529000,1506000,1506000,2,1546000,1554000,1546000,1552000,5\n"
                "34260000,1492000,1492000,1492000,1492000,2,,,,,0\n"
                "34320000,,,,,0,1516000,1517000,1516000,1517000,1\n"
                "34380000,1,1,1,1600000,2,1,1,1,1500000,3\n"  # crossed
            ),
            name.format("put", 6005000): "34200000,,,,,0,,,,,0\n34260000,1,1,1,1,-2,1,1,1,1,0\n",
        },
    )


LEAN = {"constants": {"data_source": "lean"}, "tz": "America/New_York", "scale": MILL}
LEAN_OPTIONS = ("--set", "data_source=lean", "--tz", "America/New_York", "--scale", "0.0001")
DAILY = r"^(?P<symbol>[a-z]+)\.csv$"
MINUTES = r"^(?P<date>\d{8})_(?P<symbol>[a-z]+)_minute"
MEMBER = (
    r"^(?P<date>\d{8})_(?P<underlying_symbol>[a-z]+)_minute_quote_(?P<exercise_style>[a-z]+)"
    r"_(?P<option_type>call|put)_(?P<strike_price>\d+)_(?P<expiration_date>\d{8})"
)
FIVE = (*BAR, "volume")
TEN = ("bid_open", "bid_high", "bid_low", "bid", "bid_size", "ask_open", "ask_high", "ask_low", "ask", "ask_size")


def daily(symbol: str) -> Case:
    return Case(
        f"daily_{symbol}",
        f"equity_daily_{symbol}.zip",
        "market_data",
        Mapping(header=("timestamp", *FIVE), file_pattern=DAILY, upper=("symbol",), **LEAN),
        ("--header", ",".join(("timestamp", *FIVE)), "--file-pattern", DAILY, "--upper", "symbol", *LEAN_OPTIONS),
        read_daily,
        make_daily,
    )


CASES = [
    *map(daily, ("aapl", "ibm", "spy")),
    Case(
        "minutes",
        "equity_minute_aapl_20140606_trade.zip",
        "market_data",
        Mapping(
            header=("ms", *FIVE),
            milliseconds="ms",
            file_pattern=MINUTES,
            upper=("symbol",),
            **LEAN | {"constants": {"data_source": "lean", "interval": "1m"}},
        ),
        (
            *("--header", ",".join(("ms", *FIVE)), "--milliseconds", "ms", "--file-pattern", MINUTES),
            *("--upper", "symbol", "--set", "interval=1m", *LEAN_OPTIONS),
        ),
        read_minutes,
        make_minutes,
    ),
    Case(
        "chain",
        "option_chain_goog_20151223.csv",
        "options_data",
        Mapping(
            columns={**PARTS, "last_price": "close"},
            constants={"timestamp": "2015-12-23T16:00", "data_source": "lean"},
            tz="America/New_York",
            file_pattern="chain_(?P<underlying_symbol>[a-z]+)_",
            upper=("underlying_symbol",),
        ),
        (
            *("--map", "#expiry=expiration_date", "--map", "strike=strike_price", "--map", "right=option_type"),
            *("--map", "close=last_price", "--set", "timestamp=2015-12-23T16:00", "--set", "data_source=lean"),
            *("--tz", "America/New_York", "--file-pattern", "chain_(?P<underlying_symbol>[a-z]+)_"),
            *("--upper", "underlying_symbol"),
        ),
        read_chain,
        make_chain,
    ),
    Case(
        "quotes",
        "option_minute_goog_20151223_quote.zip",
        "options_data",
        Mapping(header=("ms", *TEN), milliseconds="ms", file_pattern=MEMBER, upper=("underlying_symbol",), **LEAN),
        (
            *("--header", ",".join(("ms", *TEN)), "--milliseconds", "ms", "--file-pattern", MEMBER),
            *("--upper", "underlying_symbol", *LEAN_OPTIONS),
        ),
        read_quotes,
        make_quotes,
    ),
]


@pytest.fixture(params=CASES, ids=[case.name for case in CASES])
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture(params=["made", "real"])
def file(request: pytest.FixtureRequest, case: Case, tmp_path: Path) -> Path:
    """The case's file: made here, or the real one, which stays where it is."""
    if request.param == "made":
        path = tmp_path / case.file
        case.make(path)
        return path
    if not (DATA / case.file).exists():
        pytest.skip(f"needs the real market data in ../shared/data ({case.file})")
    return DATA / case.file


@pytest.fixture
def expected(case: Case, file: Path) -> Reading:
    return case.read(file)


@pytest.fixture
def rejected_file(file: Path, tmp_path: Path) -> Path:
    return tmp_path / f"refused{file.suffix}"
