"""`buffetstore delete`: rows out of a data type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from buffetstore.cli.common import DataType, DryRun, Json, Store, Yes, confirm, counted, manager, out, print_json, run
from buffetstore.cli.query import of_symbols, parse_filters
from buffetstore.errors import InvalidQueryError
from buffetstore.query import DataQuery

if TYPE_CHECKING:
    from buffetstore.manager import StorageManager


def delete(
    data_type: DataType,
    symbol: Annotated[list[str] | None, typer.Option(help="Rows of this symbol; repeat it for more.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="First day, or moment with a zone, in it.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Last day (in it), or the moment before which.")] = None,
    filters: Annotated[
        list[str] | None, typer.Option("--filter", help="'price>=100', 'exchange=XNAS', 'rsi<30'; repeat it: all hold.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All rows of the data type.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Delete the rows that match, every revision of them. It asks first; `buffetstore restore` undoes it.

    The rows stay readable at earlier table versions until `buffetstore vacuum` removes their files.
    """
    chosen = DataQuery(
        data_type,
        filters=parse_filters(filters or []),
        date_range={name: value for name, value in (("start", start), ("end", end)) if value} or None,
    )
    if everything == bool(symbol or filters or chosen.date_range):
        raise InvalidQueryError(
            "--all goes with no other choice of rows"
            if everything
            else "which rows? Give --symbol, --from, --to or --filter; --all deletes every row"
        )
    run(_delete(store, chosen, symbol, dry_run=dry_run, yes=yes, as_json=as_json))


async def _delete(
    store: str | None, chosen: DataQuery, symbols: list[str] | None, *, dry_run: bool, yes: bool, as_json: bool
) -> None:
    async with manager(store) as storage:
        if symbols:
            chosen = of_symbols(storage, chosen, symbols)
        data_type = chosen.data_type
        if dry_run or not yes:
            found = await _count(storage, chosen)
            if dry_run:
                _show({"data_type": data_type, "rows": found, "dry_run": True}, "would be deleted", as_json=as_json)
                return
            question = f"Delete {counted(found, 'row')} of {data_type}?"
            confirm(question, yes=yes, as_json=as_json)
        done = await storage.delete_data(data_type, filters=chosen.filters, date_range=chosen.date_range)
        facts = {"data_type": data_type, "rows": done.rows, "dry_run": False, "table_version": done.table_version}
        _show(facts, f"deleted; table version {done.table_version}", as_json=as_json)
        if done.rows and not as_json:
            out.print(f"[dim]to undo: buffetstore restore {escape(data_type)} --version {done.table_version - 1}[/]")


async def _count(storage: StorageManager, chosen: DataQuery) -> int:
    event_time = storage.schema_manager.contract(chosen.data_type).event_time
    narrow = DataQuery(chosen.data_type, chosen.filters, chosen.date_range, columns=[event_time])
    return sum([batch.num_rows async for batch in storage.scan(narrow)])


def _show(facts: dict[str, Any], fate: str, *, as_json: bool) -> None:
    if as_json:
        print_json(facts)
    else:
        out.print(f"{counted(facts['rows'], 'row')} of {escape(facts['data_type'])} {fate}")
