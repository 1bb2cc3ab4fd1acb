"""The options of `buffetstore ingest`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from buffetstore.schemas import ValidationLevel


class Extra(StrEnum):
    """What to do about columns that are no fields."""

    IGNORE = "ignore"
    ERROR = "error"


class OnInvalid(StrEnum):
    """What becomes of rows that break the contract."""

    FILE = "file"
    QUARANTINE = "quarantine"
    DROP = "drop"
    RAISE = "raise"


class Mode(StrEnum):
    """How rows meet what is stored."""

    UPSERT = "upsert"
    APPEND = "append"
    OVERWRITE = "overwrite"


File = Annotated[Path, typer.Argument(help="CSV (also .gz, .zst, or a .zip of them) or Parquet.", show_default=False)]
Type = Annotated[str, typer.Option("--data-type", "-t", help="market_data, forecasts, options_data...")]
Maps = Annotated[list[str] | None, typer.Option("--map", help="COLUMN=FIELD, e.g. Close=price; repeat it.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", help="FIELD=VALUE for every row, e.g. data_source=yahoo; repeat it.")
]
MappingFile = Annotated[
    Path | None, typer.Option(help="A .json, .toml or .yaml file of all this; options given beside it go first.")
]
Symbol = Annotated[str | None, typer.Option(help="The symbol of every row.")]
Tz = Annotated[str | None, typer.Option(help="Zone of times without one: America/New_York.")]
Scale = Annotated[str | None, typer.Option(help="What one unit is worth: 0.0001, or bid=0.01,ask=0.01.")]
Header = Annotated[str | None, typer.Option(help="Column names of a file without any: a,b,c.")]
FilePattern = Annotated[
    str | None,
    typer.Option(help="Regular expression with named groups that finds fields in the file's (or member's) name."),
]
Upper = Annotated[str | None, typer.Option(help="Groups of it to be put in capitals: symbol.")]
Milliseconds = Annotated[str | None, typer.Option(help="The column of milliseconds since midnight of the file's date.")]
Date = Annotated[str | None, typer.Option(help="That date, where the file's name does not say it.")]
Extras = Annotated[
    Extra, typer.Option(help="Columns that are no fields: leave them out and name them, or refuse the rows.")
]
AvailableAt = Annotated[str | None, typer.Option(help="When facts could be known: 'timestamp+1d'.")]
Level = Annotated[ValidationLevel, typer.Option(help="How broken rules are judged.")]
Version = Annotated[str | None, typer.Option(help="The schema version of the rows; else the newest.")]
Delimiter = Annotated[str | None, typer.Option(help="Between the columns of a CSV file; else what its first line has.")]
Encoding = Annotated[str, typer.Option(help="Of a CSV file.")]
Decimal = Annotated[str, typer.Option(help="Before the decimals of a CSV file's numbers.")]
Thousands = Annotated[str | None, typer.Option(help="Between the thousands of a CSV file's numbers.")]
BatchRows = Annotated[int, typer.Option(min=1, help="Rows in memory, and in a commit.")]
Invalid = Annotated[
    OnInvalid,
    typer.Option(help="Rows that break the contract: to a file, to the store's quarantine, nowhere, or stop."),
]
Rejected = Annotated[Path | None, typer.Option(help="Where rejected rows go; else NAME.rejected.csv beside the file.")]
Modes = Annotated[Mode | None, typer.Option(help="Else what the contract says.")]
IdempotencyKey = Annotated[
    str | None, typer.Option(metavar="KEY", help="Names this import: sent again within a week, it lands once.")
]
Inputs = Annotated[
    list[str] | None, typer.Option(help="Lineage: what the rows were made of, beside the file; repeat it.")
]
CodeVersion = Annotated[str | None, typer.Option(help="Lineage: what made them, e.g. a commit id.")]
Job = Annotated[str | None, typer.Option(help="Lineage: in which run.")]
Param = Annotated[list[str] | None, typer.Option(help="Lineage: NAME=VALUE, how it was set; repeat it.")]
Dry = Annotated[bool, typer.Option("--dry-run", help="Judge the rows and store nothing.")]
