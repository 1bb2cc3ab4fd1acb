"""`buffetstore compact`, `vacuum`, `verify` and `repair`: what keeps a data type's table fast, small and whole."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from buffetstore.cli.common import (
    FAILED,
    DataType,
    DryRun,
    Json,
    Store,
    Yes,
    confirm,
    counted,
    human_bytes,
    manager,
    out,
    print_json,
    progress,
    run,
)
from buffetstore.cli.query import parse_filters
from buffetstore.tables.operations.compact import TARGET_BYTES, CompactResult
from buffetstore.tables.properties import milliseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from buffetstore.tables.operations.repair import RepairResult
    from buffetstore.tables.operations.vacuum import VacuumResult
    from buffetstore.tables.operations.verify import VerifyReport

_MIB = 1024 * 1024
_SHOWN = 20


def compact(
    data_type: DataType,
    start: Annotated[str | None, typer.Option("--from", help="Only files with rows of this day or later.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Only files with rows of this day or earlier.")] = None,
    filters: Annotated[
        list[str] | None, typer.Option("--filter", help="Only files that may hold such rows: 'symbol=AAPL'; repeat it.")
    ] = None,
    target_mib: Annotated[int, typer.Option(min=1, help="Size of the files to come, in MiB.")] = TARGET_BYTES // _MIB,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Put many small files into few, sorted by key. No row changes, writers go on, and it may be broken off.

    Earlier versions stay readable; `buffetstore vacuum` removes what only they need.
    """
    dates = {name: value for name, value in (("start", start), ("end", end)) if value} or None

    async def work() -> CompactResult:
        async with manager(store) as storage:
            with bar(f"compact {data_type}", as_json=as_json, size=human_bytes) as tell:
                return await storage.compact(
                    data_type,
                    filters=parse_filters(filters) if filters else None,
                    date_range=dates,
                    target_bytes=target_mib * _MIB,
                    progress=tell,
                )

    done = run(work())
    if as_json:
        print_json(asdict(done) | {"data_type": data_type})
    elif not done.commits:
        out.print(f"{escape(data_type)} has nothing to gain from it: nothing was done")
    else:
        out.print(
            f"{counted(done.files_removed, 'file')} ({human_bytes(done.bytes_removed)}) became "
            f"{counted(done.files_added, 'file')} ({human_bytes(done.bytes_added)}) with {counted(done.rows, 'row')}; "
            f"table version {done.version}"
        )


def vacuum(
    data_type: DataType,
    retention: Annotated[
        str | None,
        typer.Option(help="Keep what versions of this time need: '30 days'.", show_default="the table's own"),
    ] = None,
    short: Annotated[
        bool,
        typer.Option("--allow-short-retention", help="Less than the table's own; nobody else may use the table then."),
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Delete files that no version within retention (7 days) needs. It asks first.

    Older versions cannot be read or restored afterwards.
    """
    kept = None if retention is None else timedelta(milliseconds=milliseconds(retention))

    async def work() -> VacuumResult:
        async with manager(store) as storage:
            if dry_run or not yes:
                found = await storage.vacuum(data_type, retention=kept, dry_run=True, allow_short_retention=short)
                if dry_run or not found.files:
                    return found
                question = (
                    f"Delete {counted(found.files, 'file')} ({human_bytes(found.bytes)}) of {data_type} for good?"
                )
                confirm(question, yes=yes, as_json=as_json)
            with bar(f"vacuum {data_type}", as_json=as_json) as tell:
                return await storage.vacuum(data_type, retention=kept, allow_short_retention=short, progress=tell)

    done = run(work())
    if as_json:
        facts = {"data_type": data_type, "files": done.files, "bytes": done.bytes, "cutoff": done.cutoff}
        print_json(facts | {"dry_run": done.dry_run or dry_run, "listing": done.listing.to_pylist()})
        return
    if not done.files:
        out.print(f"{escape(data_type)} has no file from before {done.cutoff:%Y-%m-%d %H:%M} that nothing needs")
        return
    if dry_run:
        for file in done.listing.slice(0, _SHOWN).to_pylist():
            out.print(f"  {escape(file['path'])}  {human_bytes(file['size'])}", highlight=False, soft_wrap=True)
        if done.files > _SHOWN:
            out.print(f"  [dim]and {done.files - _SHOWN:,} more; --json names all[/]")
    fate = "would be deleted" if dry_run else "deleted"
    out.print(f"{counted(done.files, 'file')} ({human_bytes(done.bytes)}) of {escape(data_type)} {fate}")


def verify(
    data_type: Annotated[str | None, typer.Argument(help="Only this one.", show_default="all")] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Read every file, and compare its rows with the log.")] = False,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Compare tables with their logs: files that are missing, damaged, or needed by nothing.

    Exit code 1 says that something is wrong.
    """
    reports = run(_verify(store, data_type, deep, as_json))
    if as_json:
        print_json([_plain(name, report) for name, report in reports.items()])
    elif not reports:
        out.print("nothing is stored here yet; see: buffetstore ingest --help")
    else:
        for name, report in reports.items():
            out.print(escape(str(report)), highlight=False, soft_wrap=True)
            if not report.ok:
                out.print(f"  [yellow]→ look for a backup; then: buffetstore repair {escape(name)}[/]")
    if not all(report.ok for report in reports.values()):
        raise typer.Exit(FAILED)


async def _verify(store: str | None, data_type: str | None, deep: bool, as_json: bool) -> dict[str, VerifyReport]:
    async with manager(store) as storage:
        reports = {}
        for name in [data_type] if data_type else await storage.list_data_types():
            with bar(f"verify {name}", as_json=as_json, size=human_bytes) as tell:
                reports[name] = await storage.verify(name, deep=deep, progress=tell)
        return reports


def repair(
    data_type: DataType,
    deep: Annotated[bool, typer.Option("--deep", help="Read every file, to tell those that cannot be mended.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Take files that are gone out of a table, so that the rest can be read. It asks first; look for a backup before.

    Exit code 1 says that something is left which cannot be mended.
    """

    async def work() -> RepairResult:
        async with manager(store) as storage:
            if dry_run or not yes:
                found = await storage.repair(data_type, dry_run=True, deep=deep)
                if dry_run or not (found.removed or found.last_checkpoint):
                    return found
                question = f"Write the hint to the newest checkpoint of {data_type} anew?"
                if found.removed:
                    lost = counted(len(found.removed), "missing file")
                    question = f"Take {lost} out of {data_type}? Their rows are lost to it."
                confirm(question, yes=yes, as_json=as_json)
            return await storage.repair(data_type, dry_run=False, deep=deep)

    done = run(work())
    if as_json:
        print_json(asdict(done) | {"data_type": data_type, "dry_run": done.dry_run})
    else:
        _show_repair(data_type, done)
    if done.unmended:
        raise typer.Exit(FAILED)


def _show_repair(data_type: str, done: RepairResult) -> None:
    verb = "would be taken" if done.dry_run else "taken"
    for path in done.removed[:_SHOWN]:
        out.print(f"  {escape(path)}", highlight=False, soft_wrap=True)
    if done.removed:
        out.print(
            f"{counted(len(done.removed), 'file')} {verb} out of {escape(data_type)}; table version {done.version}"
        )
    if done.last_checkpoint:
        out.print(f"the hint to the newest checkpoint {'would be' if done.dry_run else 'was'} written anew")
    for fault in done.unmended:
        out.print(f"[bold red]cannot be mended[/] {escape(fault)}", highlight=False, soft_wrap=True)
    if not (done.removed or done.last_checkpoint or done.unmended):
        out.print(f"{escape(data_type)} needs no repair")


def _plain(data_type: str, report: VerifyReport) -> dict[str, Any]:
    facts = {each.name: getattr(report, each.name) for each in fields(report)}
    return facts | {"data_type": data_type, "ok": report.ok, "orphans": report.orphans.to_pylist()}


@contextmanager
def bar(
    what: str, *, as_json: bool, size: Callable[[float], str] = "{:,}".format
) -> Iterator[Callable[[int, int], None]]:
    """Show a bar; what it gives is told how much is done, and of how much."""
    with progress(as_json=as_json) as bars:
        task = bars.add_task(escape(what), total=None, note="")

        def tell(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total, note=f"{size(done)} of {size(total)}")

        yield tell
