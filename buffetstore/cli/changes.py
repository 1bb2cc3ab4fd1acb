"""`buffetstore changes`: what commits changed, once or as they come."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from buffetstore.cli.common import DataType, Json, Store, err, manager, out, run, to_json
from buffetstore.cli.query import cell, parse_filters
from buffetstore.cli.versions import parse_moment
from buffetstore.tables.features import CHANGE_COLUMNS
from buffetstore.tables.feed import Cursor

if TYPE_CHECKING:
    from buffetstore.tables.feed import Change

_SIGNS = {
    "insert": "[green]+[/]",
    "delete": "[red]-[/]",
    "update_preimage": "[red]<[/]",
    "update_postimage": "[green]>[/]",
}


def changes(
    data_type: DataType,
    since: Annotated[
        str | None, typer.Option(help="After this table version, or the cursor that a run before ended with.")
    ] = None,
    until: Annotated[int | None, typer.Option(min=0, help="Up to this version; else the latest.")] = None,
    timestamp: Annotated[str | None, typer.Option(help="Or after a moment: 2024-01-05T12:00:00Z.")] = None,
    columns: Annotated[str | None, typer.Option(help="Only these, in this order: a,b,c.")] = None,
    filters: Annotated[
        list[str] | None, typer.Option("--filter", help="Only such rows: 'symbol=AAPL'; repeat it: all hold.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many rows.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new commits until interrupted.")] = False,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Show the rows that commits inserted (+), deleted (-) and updated (< before, > after), commit after commit.

    With --json one object for each row in a line, with its `_cursor`: after a row is dealt with, --since CURSOR goes
    on after the commit's file that it came from.
    """
    options = {
        "since": None if since is None else Cursor.parse(since),
        "until": until,
        "timestamp": None if timestamp is None else parse_moment("--timestamp", timestamp),
        "columns": [name.strip() for name in columns.split(",")] if columns else None,
        "filters": parse_filters(filters) if filters else None,
        "tail": follow,
    }
    run(_changes(store, data_type, options, limit, as_json))


async def _changes(
    store: str | None, data_type: str, options: dict[str, Any], limit: int | None, as_json: bool
) -> None:
    async with manager(store) as storage:
        left, last = limit, None
        async with aclosing(storage.changes(data_type, **options)) as found:
            async for change in found:
                _show(change, left, as_json=as_json)
                if left is None or change.rows.num_rows <= left:
                    last = change.cursor  # of one that is shown in part, the rest is still to come
                left = None if left is None else left - change.rows.num_rows
                if left is not None and left <= 0:
                    break
                await asyncio.sleep(0)
    if as_json:
        return
    if last is None and left == limit:
        err.print("[dim]nothing changed[/]")
    elif last is not None:
        err.print(f"[dim]to go on: buffetstore changes {escape(data_type)} --since {last}[/]")


def _show(change: Change, left: int | None, *, as_json: bool) -> None:
    rows = change.rows if left is None else change.rows.slice(0, left)
    if as_json:
        for row in rows.to_pylist():
            sys.stdout.write(to_json(row | {"_cursor": str(change.cursor)}) + "\n")
        sys.stdout.flush()
    else:
        out.print(f"[bold]version {change.version}[/] [dim]{change.timestamp:%Y-%m-%d %H:%M:%S}[/]", highlight=False)
        for row in rows.to_pylist():
            shown = (f"{name}={cell(value)}" for name, value in row.items() if _telling(name, value))
            out.print(f"  {_SIGNS[row['_change_type']]} {escape(' '.join(shown))}", highlight=False, soft_wrap=True)


def _telling(name: str, value: Any) -> bool:
    return value is not None and name not in CHANGE_COLUMNS
