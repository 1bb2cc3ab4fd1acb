"""`buffetstore ingest`: a file's rows into a data type."""

from __future__ import annotations

from datetime import date as Day  # noqa: N812 `date` is an option
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from buffetstore.cli.common import REJECTED, Json, Store, counted, human_bytes, manager, out, print_json, progress, run
from buffetstore.errors import InvalidInputError
from buffetstore.ingest import ImportResult, Source, import_file, read_mapping
from buffetstore.schemas import Mapping, ValidationLevel

if TYPE_CHECKING:
    from collections.abc import Sequence


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


def ingest(
    file: Annotated[
        Path, typer.Argument(help="CSV (also .gz, .zst, or a .zip of them) or Parquet.", show_default=False)
    ],
    data_type: Annotated[str, typer.Option("--data-type", "-t", help="market_data, forecasts, options_data...")],
    map_: Annotated[list[str] | None, typer.Option("--map", help="COLUMN=FIELD, e.g. Close=price; repeat it.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="FIELD=VALUE for every row, e.g. data_source=yahoo; repeat it.")
    ] = None,
    mapping: Annotated[
        Path | None, typer.Option(help="A .json, .toml or .yaml file of all this; options given beside it go first.")
    ] = None,
    symbol: Annotated[str | None, typer.Option(help="The symbol of every row.")] = None,
    tz: Annotated[str | None, typer.Option(help="Zone of times without one: America/New_York.")] = None,
    scale: Annotated[str | None, typer.Option(help="What one unit is worth: 0.0001, or bid=0.01,ask=0.01.")] = None,
    header: Annotated[str | None, typer.Option(help="Column names of a file without any: a,b,c.")] = None,
    file_pattern: Annotated[
        str | None,
        typer.Option(help="Regular expression with named groups that finds fields in the file's (or member's) name."),
    ] = None,
    upper: Annotated[str | None, typer.Option(help="Groups of it to be put in capitals: symbol.")] = None,
    milliseconds: Annotated[
        str | None, typer.Option(help="The column of milliseconds since midnight of the file's date.")
    ] = None,
    date: Annotated[str | None, typer.Option(help="That date, where the file's name does not say it.")] = None,
    extra: Annotated[
        Extra, typer.Option(help="Columns that are no fields: leave them out and name them, or refuse the rows.")
    ] = Extra.IGNORE,
    available_at: Annotated[str | None, typer.Option(help="When facts could be known: 'timestamp+1d'.")] = None,
    level: Annotated[ValidationLevel, typer.Option(help="How broken rules are judged.")] = ValidationLevel.STRICT,
    version: Annotated[str | None, typer.Option(help="The schema version of the rows; else the newest.")] = None,
    delimiter: Annotated[
        str | None, typer.Option(help="Between the columns of a CSV file; else what its first line has.")
    ] = None,
    encoding: Annotated[str, typer.Option(help="Of a CSV file.")] = "utf-8",
    decimal: Annotated[str, typer.Option(help="Before the decimals of a CSV file's numbers.")] = ".",
    thousands: Annotated[str | None, typer.Option(help="Between the thousands of a CSV file's numbers.")] = None,
    batch_rows: Annotated[int, typer.Option(min=1, help="Rows in memory, and in a commit.")] = 500_000,
    on_invalid: Annotated[
        OnInvalid,
        typer.Option(help="Rows that break the contract: to a file, to the store's quarantine, nowhere, or stop."),
    ] = OnInvalid.FILE,
    rejected: Annotated[
        Path | None, typer.Option(help="Where rejected rows go; else NAME.rejected.csv beside the file.")
    ] = None,
    mode: Annotated[Mode | None, typer.Option(help="Else what the contract says.")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="Names this import: sent again within a week, it lands once.")
    ] = None,
    inputs: Annotated[
        list[str] | None, typer.Option(help="Lineage: what the rows were made of, beside the file; repeat it.")
    ] = None,
    code_version: Annotated[str | None, typer.Option(help="Lineage: what made them, e.g. a commit id.")] = None,
    job: Annotated[str | None, typer.Option(help="Lineage: in which run.")] = None,
    param: Annotated[list[str] | None, typer.Option(help="Lineage: NAME=VALUE, how it was set; repeat it.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Judge the rows and store nothing.")] = False,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Validate a file's rows and store the good ones; bad ones go to a file beside it, with their reasons.

    Exit code 3 says that rows were rejected (the others are stored, but for --on-invalid raise).
    """
    how = Mapping.from_options(
        map=map_ or (),
        set=set_ or (),
        base=None if mapping is None else read_mapping(mapping),
        symbol=symbol,
        tz=tz,
        scale=scale,
        header=_names(header),
        file_pattern=file_pattern,
        upper=_names(upper),
        milliseconds=milliseconds,
        date=_day(date),
    )
    source = Source(file, how.header, delimiter, encoding, decimal, thousands, batch_rows)
    options = {
        "version": version,
        "extra": extra.value,
        "level": level,
        "available_at": available_at,
        "on_invalid": on_invalid.value,
        "rejected_file": rejected,
        "mode": None if mode is None else mode.value,
        "idempotency_key": idempotency_key,
        "inputs": inputs or (),
        "code_version": code_version,
        "job": job,
        "parameters": _parameters(param or ()),
        "dry_run": dry_run,
    }
    result = run(_ingest(store, data_type, source, how, options, as_json))
    if as_json:
        print_json(result.summary())
    else:
        _show(result)
    if result.rejected:
        raise typer.Exit(REJECTED)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",")) if text else ()


def _parameters(given: Sequence[str]) -> dict[str, str] | None:
    pairs = [text.partition("=") for text in given]
    for name, equals, value in pairs:
        if not (name and equals):
            raise InvalidInputError(f"--param {name + value!r} is not of the form NAME=VALUE")
    return {name: value for name, _, value in pairs} or None


def _day(text: str | None) -> Day | None:
    try:
        return None if text is None else Day.fromisoformat(text)
    except ValueError:
        raise InvalidInputError(f"--date {text!r} is no ISO date, such as 2014-06-06") from None


async def _ingest(
    store: str | None, data_type: str, source: Source, mapping: Mapping, options: dict[str, Any], as_json: bool
) -> ImportResult:
    async with manager(store) as storage:
        with progress(as_json=as_json) as bars:
            bar = bars.add_task(f"ingest {escape(source.path.name)}", total=1.0, note="")

            def advance(share: float, so_far: ImportResult) -> None:
                bars.update(bar, completed=share, note=f"{so_far.rows:,} rows, {so_far.rejected:,} rejected")

            return await import_file(storage, data_type, source, mapping=mapping, on_progress=advance, **options)


def _show(result: ImportResult) -> None:
    verb = "would be stored" if result.dry_run else "stored"
    read = counted(result.rows, "row")
    out.print(f"{read} read, [bold green]{result.accepted:,}[/] {verb} as {result.data_type}")
    if not result.dry_run and result.table_version is not None:
        out.print(
            f"  {result.inserted:,} new, {result.updated:,} updated, {result.unchanged:,} unchanged; "
            f"{counted(result.files_written, 'file')}, {human_bytes(result.bytes_written)}; "
            f"table version {result.table_version}"
        )
    if result.rounded or result.warnings:
        out.print(f"  {result.rounded:,} values rounded to their column's scale, {result.warnings:,} warnings")
        _show_counts(result.warning_counts)
    if result.ignored_columns:
        out.print(f"  ignored columns, which are no fields: {escape(', '.join(result.ignored_columns))} (see --map)")
    if result.rejected:
        _show_rejected(result)


def _show_rejected(result: ImportResult) -> None:
    where = f", see {result.rejected_file}" if result.rejected_file else ""
    if result.quarantined:
        where += f"; {result.quarantined:,} of them in the quarantine (see: buffetstore quarantine show)"
    out.print(f"[bold red]{counted(result.rejected, 'row')} rejected[/]{escape(where)}")
    _show_counts(result.rejected_counts)
    is_archive = Path(result.file).name != result.findings[0].member if result.findings else False
    table = Table("row", "field", "what is wrong", box=None, padding=(0, 2))
    for finding in result.findings[:10]:
        row = f"{finding.record_index + 1:,}"
        table.add_row(f"{finding.member} {row}" if is_archive else row, escape(finding.field), escape(finding.message))
    out.print(table)


def _show_counts(counts: dict[str, int]) -> None:
    for name, count in sorted(counts.items(), key=lambda each: -each[1])[:10]:
        out.print(f"  {count:>10,}  {escape(name)}")
