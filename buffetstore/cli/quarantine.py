"""`buffetstore quarantine`: rows that were refused, looked at, mended and replayed, or discarded."""

from __future__ import annotations

import runpy
from dataclasses import asdict
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from buffetstore.cli.common import (
    REJECTED,
    DataType,
    DryRun,
    Json,
    Store,
    Yes,
    confirm,
    counted,
    err,
    manager,
    out,
    print_json,
    run,
)
from buffetstore.cli.query import parse_filters
from buffetstore.errors import InvalidInputError
from buffetstore.resilience.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa

    from buffetstore.storage.quarantine import QuarantineSummary
    from buffetstore.storage.refused import Fix
    from buffetstore.storage.replay import ReplayResult

app = typer.Typer(
    help="Rows that were refused: look at them, mend and replay them, or discard them.", no_args_is_help=True
)

Filters = Annotated[
    list[str] | None,
    typer.Option("--filter", help="'symbol=AAPL', 'rule=greater_than', 'job=nightly'; repeat it: all hold."),
]
Ids = Annotated[list[str] | None, typer.Option("--id", help="The row of this quarantine_id; repeat it for more.")]
All = Annotated[bool, typer.Option("--all", help="All rows that are open.")]


class Shown(StrEnum):
    """Which rows are shown."""

    OPEN = "open"
    REPLAYED = "replayed"
    DISCARDED = "discarded"
    ALL = "all"


class Extra(StrEnum):
    """What to do about columns that are no fields."""

    IGNORE = "ignore"
    ERROR = "error"


@app.command("list")
def list_(store: Store = None, as_json: Json = False) -> None:
    """Say what lies in quarantine, by data type and rule."""
    found = run(_list(store))
    if as_json:
        print_json([asdict(each) for each in found])
        return
    if not found:
        out.print("nothing is in quarantine")
    for each in found:
        out.print(
            f"[bold]{escape(each.data_type)}[/]: {each.open:,} open, {each.replayed:,} replayed, "
            f"{each.discarded:,} discarded"
        )
        table = Table(box=None, padding=(0, 2), show_header=False)
        for rule, rows in each.rules.items():
            table.add_row(counted(rows, "row"), escape(rule))
        if each.rules:
            out.print(table)


async def _list(store: str | None) -> Sequence[QuarantineSummary]:
    async with manager(store) as storage:
        return await storage.quarantine.list()


@app.command("show")
def show(
    data_type: DataType,
    filters: Filters = None,
    status: Annotated[Shown, typer.Option(help="Which rows.")] = Shown.OPEN,
    limit: Annotated[int, typer.Option(min=1, help="At most so many rows.")] = 20,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Show refused rows as they were given, with what is wrong with each."""
    rows = run(_show(store, data_type, parse_filters(filters or []), status, limit))
    if as_json:
        print_json(rows)
        return
    if not rows:
        out.print(f"no rows of {escape(data_type)} are in quarantine" if status is Shown.ALL else "no such rows")
    for row in rows:
        state = "" if row["status"] == "open" else f" [yellow]{row['status']}[/]"
        out.print(f"[bold]{row['quarantine_id']}[/]{state} [dim]{row['quarantined_at']:%Y-%m-%d %H:%M}[/]")
        for reason in row["reasons"]:
            out.print(f"  [red]{escape(reason['field'])}[/] {escape(reason['message'])} [dim]{reason['rule']}[/]")
        out.print(f"  {escape(row['record'])}", soft_wrap=True)
    if len(rows) == limit:
        err.print(f"[dim]the first {limit:,}: --limit shows more[/]")


async def _show(
    store: str | None, data_type: str, filters: dict[str, Any], status: Shown, limit: int
) -> list[dict[str, Any]]:
    async with manager(store) as storage:
        found: pa.Table = await storage.quarantine.show(data_type, filters, status=status.value, limit=limit)
        return await in_thread(found.to_pylist)


@app.command("replay")
def replay(
    data_type: DataType,
    ids: Ids = None,
    filters: Filters = None,
    everything: All = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="FIELD=VALUE in each row, e.g. price=185.64; FIELD= is no value.")
    ] = None,
    fix: Annotated[
        str | None,
        typer.Option(
            "--fix", help="FILE.py:FUNCTION, which takes a row as it was given (a dict) and returns it mended."
        ),
    ] = None,
    extra: Annotated[Extra | None, typer.Option(help="Columns that are no fields: leave them out, or refuse.")] = None,
    version: Annotated[str | None, typer.Option(help="Hold the rows against this schema version.")] = None,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Hold refused rows against their contract again, mended or not, and store those that pass.

    Exit code 3 says that rows were refused again; they stay in quarantine.
    """
    chosen = _chosen(ids, filters, everything)
    options = {"fix": _fix(set_, fix), "extra": extra and extra.value, "version": version}
    result = run(_replay(store, data_type, chosen | options))
    if as_json:
        print_json(asdict(result))
    else:
        _show_replay(result)
    if result.refused:
        raise typer.Exit(REJECTED)


async def _replay(store: str | None, data_type: str, options: dict[str, Any]) -> ReplayResult:
    async with manager(store) as storage:
        return await storage.quarantine.replay(data_type, **options)


def _show_replay(result: ReplayResult) -> None:
    out.print(
        f"[bold green]{result.replayed:,}[/] of "
        f"{counted(result.replayed + result.refused + result.skipped, 'row')} replayed to {escape(result.data_type)}"
    )
    if result.table_version is not None:
        out.print(
            f"  {result.inserted:,} new, {result.updated:,} updated, {result.unchanged:,} unchanged; "
            f"table version {result.table_version}"
        )
    if result.skipped:
        out.print(f"  {counted(result.skipped, 'row')} left out by the fix")
    if result.refused:
        out.print(f"[bold red]{counted(result.refused, 'row')} refused again[/]")
        table = Table("id", "what is wrong", box=None, padding=(0, 2))
        for name, reasons in list(result.reasons.items())[:10]:
            table.add_row(name, escape("; ".join(reasons)))
        out.print(table)


@app.command("discard")
def discard(
    data_type: DataType,
    reason: Annotated[str, typer.Option(help="Why, for those who look later.")],
    ids: Ids = None,
    filters: Filters = None,
    everything: All = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Say of refused rows that nothing is to become of them. They are kept, with the reason, until they are purged."""
    chosen = _chosen(ids, filters, everything)
    rows = run(_discard(store, data_type, chosen, reason, dry_run=dry_run, yes=yes, as_json=as_json))
    if as_json:
        print_json({"data_type": data_type, "rows": rows, "dry_run": dry_run})
    else:
        out.print(f"{counted(rows, 'row')} of {escape(data_type)} {'would be' if dry_run else 'were'} discarded")


async def _discard(
    store: str | None, data_type: str, chosen: dict[str, Any], reason: str, *, dry_run: bool, yes: bool, as_json: bool
) -> int:
    async with manager(store) as storage:
        if dry_run or not yes:
            filters = dict(chosen["filters"] or {})
            if chosen["ids"]:
                filters["quarantine_id"] = chosen["ids"]
            rows = int((await storage.quarantine.show(data_type, filters, limit=None)).num_rows)
            if dry_run:
                return rows
            confirm(f"Discard {counted(rows, 'row')} of {data_type}?", yes=yes, as_json=as_json)
        return await storage.quarantine.discard(data_type, **chosen, reason=reason)


@app.command("purge")
def purge(
    data_type: DataType,
    days: Annotated[int, typer.Option("--older-than", min=0, help="Refused more than so many days ago.")] = 90,
    include_open: Annotated[bool, typer.Option(help="Open rows too, of which nothing has become.")] = False,
    yes: Yes = False,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Delete rows that were replayed or discarded, and refused long ago."""
    confirm(f"Delete refused rows of {data_type} older than {counted(days, 'day')}?", yes=yes, as_json=as_json)
    rows = run(_purge(store, data_type, timedelta(days=days), include_open=include_open))
    if as_json:
        print_json({"data_type": data_type, "rows": rows})
    else:
        out.print(f"{counted(rows, 'row')} deleted")


async def _purge(store: str | None, data_type: str, age: timedelta, *, include_open: bool) -> int:
    async with manager(store) as storage:
        return await storage.quarantine.purge(data_type, older_than=age, include_open=include_open)


def _chosen(ids: list[str] | None, filters: list[str] | None, everything: bool) -> dict[str, Any]:
    if everything == bool(ids or filters):
        raise InvalidInputError(
            "--all goes with no other choice of rows" if everything else "which rows? Give --id or --filter, or --all"
        )
    return {"ids": ids or None, "filters": parse_filters(filters or [])}


def _fix(pairs: list[str] | None, function: str | None) -> Fix | None:
    if pairs and function:
        raise InvalidInputError("--set and --fix are two ways to mend a row: choose one")
    if function:
        return _function(function)
    values = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise InvalidInputError(f"--set {pair!r} is not FIELD=VALUE, such as price=185.64")
        values[name] = value or None
    return values or None


def _function(place: str) -> Callable[[dict[str, Any]], dict[str, Any] | None]:
    path, colon, name = place.rpartition(":")
    if not colon or not path.endswith(".py"):
        raise InvalidInputError(f"--fix {place!r} is not FILE.py:FUNCTION, such as mend.py:mend")
    if not Path(path).is_file():
        raise InvalidInputError(f"--fix: there is no file {path}")
    try:
        found = runpy.run_path(path).get(name)
    except Exception as error:
        raise InvalidInputError(f"--fix: {path} fails: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise InvalidInputError(f"--fix: {path} has no function {name!r}")
    return found  # type: ignore[no-any-return]  # the user's own
