"""`buffetstore ingest`: a file's rows into a data type."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path  # noqa: TC003 - typer evaluates the annotation
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from buffetstore.cli.common import REJECTED, Json, Store, counted, human_bytes, manager, out, print_json, progress, run
from buffetstore.ingest import ImportResult, Source, import_file
from buffetstore.schemas import Mapping, ValidationLevel


class Extra(StrEnum):
    """What to do about columns that are no fields."""

    IGNORE = "ignore"
    ERROR = "error"


def ingest(
    file: Annotated[Path, typer.Argument(help="CSV (also .gz, or a .zip of them) or Parquet.", show_default=False)],
    data_type: Annotated[str, typer.Option("--data-type", "-t", help="market_data, forecasts, options_data...")],
    map_: Annotated[list[str] | None, typer.Option("--map", help="COLUMN=FIELD, e.g. Close=price; repeat it.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="FIELD=VALUE for every row, e.g. data_source=yahoo; repeat it.")
    ] = None,
    symbol: Annotated[str | None, typer.Option(help="The symbol of every row.")] = None,
    tz: Annotated[str | None, typer.Option(help="Zone of times without one: America/New_York.")] = None,
    scale: Annotated[str | None, typer.Option(help="What one unit is worth: 0.0001, or bid=0.01,ask=0.01.")] = None,
    header: Annotated[str | None, typer.Option(help="Column names of a file without any: a,b,c.")] = None,
    file_pattern: Annotated[
        str | None, typer.Option(help="Regular expression with named groups that finds fields in the file's name.")
    ] = None,
    milliseconds: Annotated[
        str | None, typer.Option(help="The column of milliseconds since midnight of the file's date.")
    ] = None,
    extra: Annotated[
        Extra, typer.Option(help="Columns that are no fields: leave them out and name them, or refuse the rows.")
    ] = Extra.IGNORE,
    available_at: Annotated[str | None, typer.Option(help="When facts could be known: 'timestamp+1d'.")] = None,
    level: Annotated[ValidationLevel, typer.Option(help="How broken rules are judged.")] = ValidationLevel.STRICT,
    version: Annotated[str | None, typer.Option(help="The schema version of the rows; else the newest.")] = None,
    delimiter: Annotated[str | None, typer.Option(help="Between the columns of a CSV file.")] = None,
    encoding: Annotated[str, typer.Option(help="Of a CSV file.")] = "utf-8",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Judge the rows and store nothing.")] = False,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Validate a file's rows and store the good ones; bad ones go to a file beside it, with their reasons.

    Exit code 3 says that rows were rejected (the others are stored).
    """
    names = tuple(name.strip() for name in header.split(",")) if header else ()
    mapping = Mapping.from_options(
        map=map_ or (),
        set=set_ or (),
        symbol=symbol,
        tz=tz,
        scale=scale,
        header=names,
        file_pattern=file_pattern,
        milliseconds=milliseconds,
    )
    source = Source(file, names, delimiter, encoding)
    options = {"extra": extra.value, "level": level, "available_at": available_at}
    result = run(_ingest(store, data_type, version, source, mapping, dry_run, options, as_json))
    if as_json:
        print_json(result.summary())
    else:
        _show(result)
    if result.rejected:
        raise typer.Exit(REJECTED)


async def _ingest(
    store: str | None,
    data_type: str,
    version: str | None,
    source: Source,
    mapping: Mapping,
    dry_run: bool,
    options: dict[str, Any],
    as_json: bool,
) -> ImportResult:
    async with manager(store) as storage:
        contract = storage.schema_manager.contract(data_type, version)
        with progress(as_json=as_json) as bars:
            bar = bars.add_task(f"ingest {escape(source.path.name)}", total=1.0, note="")

            def advance(share: float, so_far: ImportResult) -> None:
                bars.update(bar, completed=share, note=f"{so_far.rows:,} rows, {so_far.rejected:,} rejected")

            return await import_file(
                storage, contract, source, mapping=mapping, dry_run=dry_run, on_progress=advance, **options
            )


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
    if result.ignored_columns:
        out.print(f"  ignored columns, which are no fields: {escape(', '.join(result.ignored_columns))} (see --map)")
    if result.rejected:
        _show_rejected(result)


def _show_rejected(result: ImportResult) -> None:
    where = f", see {result.quarantine}" if result.quarantine else ""
    out.print(f"[bold red]{counted(result.rejected, 'row')} rejected[/]{escape(where)}")
    table = Table("row", "field", "what is wrong", box=None, padding=(0, 2))
    for finding in result.findings[:10]:
        table.add_row(f"{finding.record_index + 1:,}", escape(finding.field), escape(finding.message))
    out.print(table)
