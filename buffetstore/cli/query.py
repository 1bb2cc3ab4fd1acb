"""`buffetstore query`: rows of a data type, on the screen or into a file."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path  # noqa: TC003 - typer evaluates the annotation
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from buffetstore.cli.common import Json, Store, counted, err, human_bytes, manager, out, print_json, progress, run
from buffetstore.cli.explained import explain
from buffetstore.cli.files import open_writer
from buffetstore.errors import InvalidInputError, InvalidQueryError
from buffetstore.query import DataQuery
from buffetstore.resilience.threads import in_thread

if TYPE_CHECKING:
    from buffetstore.manager import StorageManager
    from buffetstore.query import QueryAnswer

_SHOWN_ROWS = 50
_BOOKKEEPING = {"created_at", "available_at", "version"}
_OPERATORS = {">=": "gte", ">": "gt", "<=": "lte", "<": "lt", "!=": "ne"}
_FILTER = re.compile(r"^\s*([^<>=!\s]+)\s*(>=|<=|!=|==|=|>|<)\s*(.*?)\s*$")


def query(
    data_type: Annotated[str, typer.Argument(help="market_data, forecasts, options_data...", show_default=False)],
    symbol: Annotated[list[str] | None, typer.Option(help="Only this symbol; repeat it for more.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="First day, or moment with a zone, in it.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Last day (in it), or the moment before which.")] = None,
    columns: Annotated[str | None, typer.Option(help="Only these, in this order: a,b,c.")] = None,
    limit: Annotated[int | None, typer.Option(min=0, help="At most so many rows.")] = None,
    filters: Annotated[
        list[str] | None, typer.Option("--filter", help="'price>=100', 'exchange=XNAS', 'rsi<30'; repeat it: all hold.")
    ] = None,
    table_version: Annotated[int | None, typer.Option(min=0, help="The table as it was at this version.")] = None,
    file: Annotated[Path | None, typer.Option("--out", help="Write to FILE.parquet, FILE.csv or FILE.json.")] = None,
    is_explained: Annotated[
        bool, typer.Option("--explain", help="Say what would be read and what it costs, instead of the rows.")
    ] = False,
    analyze: Annotated[
        bool, typer.Option("--analyze", help="With --explain: do it too, and say what it took.")
    ] = False,
    region: Annotated[str | None, typer.Option(help="With --explain: where the data is, for its prices.")] = None,
    storage_class: Annotated[str | None, typer.Option(help="With --explain: NEARLINE, STANDARD_IA, cool...")] = None,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Show the rows that match, and what was read and pruned to find them."""
    wanted = DataQuery(
        data_type,
        filters=parse_filters(filters or []),
        date_range={name: value for name, value in (("start", start), ("end", end)) if value} or None,
        columns=[name.strip() for name in columns.split(",")] if columns else None,
        limit=limit,
        table_version=table_version,
    )
    if is_explained:
        run(_explain(store, wanted, symbol, analyze, region, storage_class, as_json))
        return
    if analyze or region or storage_class:
        raise InvalidInputError("--analyze, --region and --storage-class go with --explain")
    run(_query(store, wanted, symbol, file, as_json))


def parse_filters(texts: list[str]) -> dict[str, Any]:
    """Return what `DataQuery.filters` takes: bounds of one column are joined, equal signs of one column are a list.

    >>> parse_filters(["price>=100", "price<200", "symbol=AAPL", "symbol=MSFT", "beta="])
    {'price': {'gte': '100', 'lt': '200'}, 'symbol': ['AAPL', 'MSFT'], 'beta': None}
    """
    equal: dict[str, list[str | None]] = {}
    bounds: dict[str, dict[str, str | None]] = {}
    for text in texts:
        found = _FILTER.match(text)
        if found is None:
            raise InvalidQueryError(f"--filter {text!r} is not COLUMN, one of = != < <= > >=, and a value")
        column, sign, value = found[1], found[2], found[3] or None
        if sign in {"=", "=="}:
            equal.setdefault(column, []).append(value)
        elif _OPERATORS[sign] in bounds.setdefault(column, {}):
            raise InvalidQueryError(f"--filter {text!r}: there are two {sign} for {column!r}")
        else:
            bounds[column][_OPERATORS[sign]] = value
    both = sorted(equal.keys() & bounds.keys())
    if both:
        raise InvalidQueryError(f"--filter: {both[0]!r} has both an equal sign and a bound")
    ordered = dict.fromkeys(found[1] for text in texts if (found := _FILTER.match(text)))
    return {
        column: bounds[column] if column in bounds else equal[column][0] if len(equal[column]) == 1 else equal[column]
        for column in ordered
    }


async def _explain(
    store: str | None,
    wanted: DataQuery,
    symbols: list[str] | None,
    analyze: bool,
    region: str | None,
    storage_class: str | None,
    as_json: bool,
) -> None:
    async with manager(store) as storage:
        chosen = of_symbols(storage, wanted, symbols) if symbols else wanted
        await explain(storage, chosen, analyze=analyze, region=region, storage_class=storage_class, as_json=as_json)


async def _query(
    store: str | None, wanted: DataQuery, symbols: list[str] | None, file: Path | None, as_json: bool
) -> None:
    async with manager(store) as storage:
        if symbols:
            wanted = of_symbols(storage, wanted, symbols)
        if file is not None:
            await _write(storage, wanted, file, as_json)
            return
        started = time.perf_counter()
        answer = await storage.retrieve_data(wanted)
        seconds = time.perf_counter() - started
        facts = _facts(answer) | {"seconds": round(seconds, 4)}
        if as_json:
            print_json(facts | {"records": await in_thread(answer.to_pylist)})
            return
        _show(answer, chosen=wanted.columns is not None)
        err.print(f"[dim]{_in_words(facts)}[/]")


def of_symbols(storage: StorageManager, wanted: DataQuery, symbols: list[str]) -> DataQuery:
    """Return the query, of these symbols alone."""
    column = storage.schema_manager.contract(wanted.data_type).symbol
    if column is None:
        raise InvalidQueryError(f"{wanted.data_type} has no symbol: use --filter")
    if column in (wanted.filters or {}):
        raise InvalidQueryError(f"--symbol and --filter both speak of {column!r}: choose one")
    return replace(wanted, filters={**(wanted.filters or {}), column: symbols if len(symbols) > 1 else symbols[0]})


async def _write(storage: StorageManager, wanted: DataQuery, file: Path, as_json: bool) -> None:
    rows = 0
    with progress(as_json=as_json) as bars:
        bar = bars.add_task(f"write {escape(file.name)}", total=None, note="")
        writer = await in_thread(open_writer, file)
        try:
            async for batch in storage.scan(wanted):
                await in_thread(writer.write, batch)
                rows += len(batch)
                bars.update(bar, note=f"{rows:,} rows")
            await in_thread(writer.finish)
        finally:
            await in_thread(writer.close)
    if as_json:
        print_json({"data_type": wanted.data_type, "rows": rows, "file": str(file)})
    else:
        out.print(f"{counted(rows, 'row')} written to {escape(str(file))}")


def _facts(answer: QueryAnswer) -> dict[str, Any]:
    return {
        "rows": len(answer.table),
        "table_version": answer.table_version,
        "partitions_scanned": answer.partitions_scanned,
        "files_scanned": answer.files_scanned,
        "files_pruned": answer.files_pruned,
        "bytes_read": answer.bytes_read,
        "cache_hit": answer.cache_hit,
    }


def _in_words(facts: dict[str, Any]) -> str:
    return (
        f"{counted(facts['rows'], 'row')} in {facts['seconds'] * 1000:.0f} ms; "
        f"{counted(facts['files_scanned'], 'file')} read ({human_bytes(facts['bytes_read'])}), "
        f"{facts['files_pruned']} pruned; table version {facts['table_version']}"
    )


def _show(answer: QueryAnswer, *, chosen: bool) -> None:
    """Print the first rows; unless columns were chosen, what is the same in all of them is said once."""
    rows = answer.table.slice(0, _SHOWN_ROWS).to_pylist()
    if not rows:
        return
    names = list(answer.table.column_names)
    if not chosen:
        names, once = _telling(names, rows)
        if once:
            out.print(f"[dim]{escape(once)}[/]")
    texts = {name: [cell(row[name]) for row in rows] for name in names}
    shown = _fitting(texts)
    table = Table(box=None, header_style="bold", padding=(0, 1))
    for name in shown:
        table.add_column(escape(name), justify="left" if isinstance(rows[0][name], str) else "right", no_wrap=True)
    for number in range(len(rows)):
        table.add_row(*(escape(texts[name][number]) for name in shown))
    out.print(table)
    if len(shown) < len(names):
        err.print(f"[dim]no room for {escape(', '.join(names[len(shown) :]))}; choose with --columns[/]")
    if len(answer.table) > len(rows):
        err.print(f"[dim]the first {len(rows)} of {len(answer.table):,} rows; --out FILE or --json give all[/]")


def _telling(names: list[str], rows: list[dict[str, Any]]) -> tuple[list[str], str]:
    """Return the columns that tell rows apart, and the others in a line; bookkeeping and empty columns are neither."""
    telling, once = [], []
    for name in names:
        first = rows[0][name]
        if name in _BOOKKEEPING or all(row[name] is None for row in rows):
            continue
        if len(rows) > 1 and all(row[name] == first for row in rows):
            once.append(f"{name} {cell(first)}")
        else:
            telling.append(name)
    return telling, ", ".join(once)


def _fitting(texts: dict[str, list[str]]) -> list[str]:
    room = out.width
    shown: list[str] = []
    for name, cells in texts.items():
        room -= max(len(text) for text in (name, *cells)) + 2
        if room < 0 and shown:
            break
        shown.append(name)
    return shown


def cell(value: Any) -> str:
    """Return a value as a table shows it."""
    if value is None:
        return ""
    if hasattr(value, "as_tuple"):
        whole = f"{value.normalize():f}"
        return whole if "." in whole and len(whole.split(".")[1]) >= 2 else f"{value:.2f}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if hasattr(value, "hour"):
        return (
            f"{value:%Y-%m-%d}"
            if (value.hour, value.minute, value.second) == (0, 0, 0)
            else f"{value:%Y-%m-%d %H:%M:%S}"
        )
    return str(value)
