"""`buffetstore ingest`: a file's rows into a data type."""

from __future__ import annotations

from datetime import date as Day  # noqa: N812 `date` is an option
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape
from rich.table import Table

from buffetstore.cli.common import REJECTED, Json, Store, counted, human_bytes, manager, out, print_json, progress, run
from buffetstore.cli.ingest_options import (
    AvailableAt,
    BatchRows,
    CodeVersion,
    Date,
    Decimal,
    Delimiter,
    Dry,
    Encoding,
    Extra,
    Extras,
    File,
    FilePattern,
    Header,
    IdempotencyKey,
    Inputs,
    Invalid,
    Job,
    Level,
    MappingFile,
    Maps,
    Milliseconds,
    Modes,
    OnInvalid,
    Param,
    Rejected,
    Scale,
    Sets,
    Symbol,
    Thousands,
    Type,
    Tz,
    Upper,
    Version,
)
from buffetstore.errors import InvalidInputError
from buffetstore.ingest import ImportResult, Source, import_file, read_mapping
from buffetstore.schemas import Mapping, ValidationLevel


def ingest(
    file: File,
    data_type: Type,
    map_: Maps = None,
    set_: Sets = None,
    mapping: MappingFile = None,
    symbol: Symbol = None,
    tz: Tz = None,
    scale: Scale = None,
    header: Header = None,
    file_pattern: FilePattern = None,
    upper: Upper = None,
    milliseconds: Milliseconds = None,
    date: Date = None,
    extra: Extras = Extra.IGNORE,
    available_at: AvailableAt = None,
    level: Level = ValidationLevel.STRICT,
    version: Version = None,
    delimiter: Delimiter = None,
    encoding: Encoding = "utf-8",
    decimal: Decimal = ".",
    thousands: Thousands = None,
    batch_rows: BatchRows = 500_000,
    on_invalid: Invalid = OnInvalid.FILE,
    rejected: Rejected = None,
    mode: Modes = None,
    idempotency_key: IdempotencyKey = None,
    inputs: Inputs = None,
    code_version: CodeVersion = None,
    job: Job = None,
    param: Param = None,
    dry_run: Dry = False,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Validate a file's rows and store the good ones; bad ones go to a file beside it, with their reasons.

    Exit code 3 says that rows were rejected (the others are stored, but for --on-invalid raise).
    """
    how = _mapping(mapping, map_, set_, symbol, tz, scale, header, file_pattern, upper, milliseconds, date)
    source = Source(file, how.header, delimiter, encoding, decimal, thousands, batch_rows)
    reading = {"version": version, "extra": extra, "level": level, "available_at": available_at}
    invalid = {"on_invalid": on_invalid, "rejected_file": rejected, "dry_run": dry_run}
    writing = {"mode": mode, "idempotency_key": idempotency_key, **_lineage(inputs, code_version, job, param)}
    result = run(_ingest(store, data_type, source, how, reading | invalid | writing, as_json))
    if as_json:
        print_json(result.summary())
    else:
        _show(result)
    if result.rejected:
        raise typer.Exit(REJECTED)


def _mapping(
    file: Path | None,
    columns: list[str] | None,
    constants: list[str] | None,
    symbol: str | None,
    tz: str | None,
    scale: str | None,
    header: str | None,
    file_pattern: str | None,
    upper: str | None,
    milliseconds: str | None,
    date: str | None,
) -> Mapping:
    return Mapping.from_options(
        map=columns or (),
        set=constants or (),
        base=None if file is None else read_mapping(file),
        symbol=symbol,
        tz=tz,
        scale=scale,
        header=_names(header),
        file_pattern=file_pattern,
        upper=_names(upper),
        milliseconds=milliseconds,
        date=_day(date),
    )


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",")) if text else ()


def _day(text: str | None) -> Day | None:
    try:
        return None if text is None else Day.fromisoformat(text)
    except ValueError:
        raise InvalidInputError(f"--date {text!r} is no ISO date, such as 2014-06-06") from None


def _lineage(
    inputs: list[str] | None, code_version: str | None, job: str | None, given: list[str] | None
) -> dict[str, Any]:
    pairs = [text.partition("=") for text in given or ()]
    for name, equals, value in pairs:
        if not (name and equals):
            raise InvalidInputError(f"--param {name + equals + value!r} is not of the form NAME=VALUE")
    parameters = {name: value for name, _, value in pairs} or None
    return {"inputs": inputs or (), "code_version": code_version, "job": job, "parameters": parameters}


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
