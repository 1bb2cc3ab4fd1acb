"""`buffetstore ls` and `buffetstore describe`: what is there."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from buffetstore.cli.common import Json, Store, counted, human_bytes, manager, out, print_json, run
from buffetstore.errors import InvalidInputError

if TYPE_CHECKING:
    from buffetstore.storage import DataFile, DataTypeDescription


def ls(
    data_type: Annotated[str | None, typer.Argument(help="Only this one.", show_default=False)] = None,
    files: Annotated[bool, typer.Option("--files", help="The data files of DATA_TYPE instead.")] = False,
    prefix: Annotated[str, typer.Option(help="Of the files, those below: year=2024/month=01/.")] = "",
    store: Store = None,
    as_json: Json = False,
) -> None:
    """List the data types that hold something: rows, files, size, first and last time; or the files of one."""
    if files or prefix:
        if data_type is None:
            raise InvalidInputError("the files of which data type? buffetstore ls market_data --files, say")
        _list_files(run(_files(store, data_type, prefix)), as_json=as_json)
        return
    found = run(_described(store, data_type))
    if as_json:
        print_json([_plain(each) for each in found])
        return
    if not found:
        out.print("nothing is stored here yet; see: buffetstore ingest --help")
        return
    table = Table("data type", "rows", "files", "size", "from", "to", "version", box=None, padding=(0, 2))
    for column in table.columns:
        column.no_wrap = True
        column.justify = "right" if column.header in {"rows", "files", "size"} else "left"
    for each in found:
        start, end = (f"{moment:%Y-%m-%d}" if moment else "" for moment in (each.start, each.end))
        counts = (f"{each.rows:,}", f"{each.files:,}", human_bytes(each.bytes))
        table.add_row(escape(each.data_type), *counts, start, end, str(each.table_version))
    out.print(table)


def describe(
    data_type: Annotated[str, typer.Argument(help="market_data, forecasts, options_data...", show_default=False)],
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Show a data type's columns, key and versions, and how other engines read its table."""
    (found,) = run(_described(store, data_type))
    if as_json:
        print_json(_plain(found))
        return
    out.print(f"[bold]{escape(found.data_type)}[/] {found.schema_version}  [dim]{escape(found.url)}[/]")
    out.print(
        f"{counted(found.rows, 'row')} in {counted(found.files, 'file')}, {human_bytes(found.bytes)}, "
        f"table version {found.table_version}; "
        f"{found.start} to {found.end}"
    )
    out.print(f"key: {', '.join(found.key)}; event time: {found.event_time}; revisions: {found.revisions}")
    table = Table("column", "type", "", box=None, padding=(0, 2))
    for column in found.schema:
        table.add_row(escape(column.name), str(column.type), "" if column.nullable else "required")
    out.print(table)
    for engine, code in found.read_with.items():
        out.print(f"\n[bold]{escape(engine)}[/]")
        out.print(code, markup=False, highlight=False, soft_wrap=True)


def _list_files(found: list[DataFile], *, as_json: bool) -> None:
    if as_json:
        print_json([asdict(file) for file in found])
        return
    for file in found:
        rows = "" if file.rows is None else counted(file.rows, "row")
        out.print(f"{human_bytes(file.bytes):>9} {rows:>15}  {escape(file.path)}", highlight=False, soft_wrap=True)
    out.print(f"[dim]{counted(len(found), 'file')}, {human_bytes(sum(file.bytes for file in found))}[/]")


async def _files(store: str | None, data_type: str, prefix: str) -> list[DataFile]:
    async with manager(store) as storage:
        return await storage.list_files(data_type, prefix)


async def _described(store: str | None, data_type: str | None) -> list[DataTypeDescription]:
    async with manager(store) as storage:
        names = [data_type] if data_type else await storage.list_data_types()
        return [await storage.describe(name) for name in names]


def _plain(found: DataTypeDescription) -> dict[str, Any]:
    values = {field.name: getattr(found, field.name) for field in fields(found) if field.name != "schema"}
    columns = [
        {"name": column.name, "type": str(column.type), "required": not column.nullable} for column in found.schema
    ]
    return values | {"columns": columns}
