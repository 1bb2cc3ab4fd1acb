"""`buffetstore history` and `buffetstore restore`: what was done to a data type, and undoing it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from buffetstore.cli.common import DataType, DryRun, Json, Store, Yes, confirm, counted, manager, out, print_json, run
from buffetstore.errors import InvalidInputError
from buffetstore.query import DataQuery
from buffetstore.storage import read_lineage

if TYPE_CHECKING:
    from buffetstore.manager import StorageManager
    from buffetstore.tables.history import CommitRecord

# Delta's words for what was done to rows, in the order of their weight, and ours.
_METRICS = {
    "numTargetRowsInserted": "inserted",
    "numTargetRowsUpdated": "updated",
    "numTargetRowsDeleted": "deleted",
    "numDeletedRows": "deleted",
    "numOutputRows": "rows",
    "numRestoredFiles": "files restored",
    "numRemovedFiles": "files removed",
    "numAddedFiles": "files added",
}


def history(
    data_type: DataType,
    limit: Annotated[int, typer.Option(min=0, help="At most so many commits; 0 is all that the log still has.")] = 20,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """List what was done to a data type, newest first: version, time, operation, rows, and where they came from."""
    records = run(_history(store, data_type, limit or None))
    if as_json:
        print_json([asdict(record) | {"lineage": _lineage(record)} for record in records])
        return
    table = Table("version", "time", "operation", "what", "from", box=None, padding=(0, 2))
    for record in records:
        when = _shown(record.committed_at) if record.committed_at else ""
        origin = "; ".join(_in_words(each) for each in _lineage(record))
        table.add_row(str(record.version), when, escape(record.operation or ""), _what(record), escape(origin))
    out.print(table)
    if records and len(records) == limit:
        out.print(f"[dim]the latest {counted(limit, 'commit')}; more with --limit[/]")


def restore(
    data_type: DataType,
    version: Annotated[
        int | None, typer.Option("--version", min=0, help="The table version to go back to (see history).")
    ] = None,
    timestamp: Annotated[
        str | None, typer.Option(help="Or a moment with its zone: 2024-01-05T12:00:00Z.", show_default=False)
    ] = None,
    ignore_missing: Annotated[
        bool, typer.Option("--ignore-missing", help="Bring back what is left where files have been vacuumed.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Make a data type what it was at an earlier version, by a new one. It asks first, and can be undone likewise."""
    if (version is None) == (timestamp is None):
        raise InvalidInputError("restore to what? Give --version N (buffetstore history lists them), or --timestamp")
    moment = None if timestamp is None else parse_moment("--timestamp", timestamp)
    run(_restore(store, data_type, version, moment, ignore_missing, dry_run, yes, as_json))


def parse_moment(option: str, text: str) -> datetime:
    """Return the moment that an option names.

    Raises
    ------
    InvalidInputError
        It is none, or has no zone.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInputError(f"{option} {text!r} is no moment: write 2024-01-05T12:00:00Z") from error
    if moment.tzinfo is None:
        raise InvalidInputError(
            f"{option} {text!r} has no zone: write {moment.isoformat()}Z for UTC, or {moment.isoformat()}-05:00"
        )
    return moment


def _shown(moment: datetime) -> str:
    """Return a time at which the version was there already: going back to it must not give the one before."""
    return (moment + timedelta(microseconds=-moment.microsecond % 1000)).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


async def _history(store: str | None, data_type: str, limit: int | None) -> list[CommitRecord]:
    async with manager(store) as storage:
        return await storage.history(data_type, limit)


async def _restore(
    store: str | None,
    data_type: str,
    version: int | None,
    moment: datetime | None,
    ignore_missing: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    async with manager(store) as storage:
        now = (await storage.table(data_type)).version
        if dry_run or not yes:
            facts = await _change(storage, data_type, version, moment)
            words = f"{data_type} from version {now} ({counted(facts['rows'], 'row')}) to what it was at "
            words += f"version {version}" if moment is None else moment.isoformat()
            if "rows_then" in facts:
                words += f" ({counted(facts['rows_then'], 'row')})"
            if dry_run:
                if as_json:
                    print_json(facts | {"data_type": data_type, "table_version": now, "dry_run": True})
                else:
                    out.print(escape(f"would restore {words}"))
                return
            confirm(f"Restore {words}?", yes=yes, as_json=as_json)
        done = await storage.restore(data_type, version, moment, ignore_missing=ignore_missing)
        if as_json:
            print_json(asdict(done) | {"data_type": data_type, "dry_run": False})
            return
        if done.version == now:
            out.print(f"{escape(data_type)} is as it was at version {done.restored_version} already: nothing was done")
            return
        out.print(
            f"{escape(data_type)} is again what it was at version {done.restored_version}: "
            f"{counted(done.restored, 'file')} brought back, {done.removed:,} gone; table version {done.version}"
        )
        if done.missing:
            out.print(f"[bold red]{counted(len(done.missing), 'file')} could not be brought back[/]")
        out.print(f"[dim]to undo: buffetstore restore {escape(data_type)} --version {now}[/]")


async def _change(
    storage: StorageManager, data_type: str, version: int | None, moment: datetime | None
) -> dict[str, int]:
    """Return how many rows there are, and were; a version that cannot be read is refused here."""
    facts = {"rows": await _rows(storage, data_type, None)}
    if moment is None:
        assert version is not None
        facts |= {"rows_then": await _rows(storage, data_type, version), "restored_version": version}
    return facts


async def _rows(storage: StorageManager, data_type: str, version: int | None) -> int:
    event_time = storage.schema_manager.contract(data_type).event_time
    query = DataQuery(data_type, columns=[event_time], table_version=version, revisions="all")
    return sum([batch.num_rows async for batch in storage.scan(query)])


def _lineage(record: CommitRecord) -> list[dict[str, Any]]:
    return [asdict(each) for each in read_lineage(record.user_metadata)]


def _in_words(lineage: dict[str, Any]) -> str:
    parts = (", ".join(lineage["inputs"]), lineage["code_version"] and f"by {lineage['code_version']}")
    return " ".join(part for part in parts if part)


def _what(record: CommitRecord) -> str:
    found: dict[str, int] = {}
    for name, word in _METRICS.items():
        value = str(record.metrics.get(name, ""))
        if value.isdecimal() and int(value):
            found.setdefault(word, int(value))
    return ", ".join(f"{count:,} {word}" for word, count in found.items())
